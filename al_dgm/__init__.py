"""Active learning with Bayesian deep generative models."""
