"""Predictive distributions and bounds of a trained model, by explicit weight samples that stream.

Weight sample k is drawn from the stream (seed, "weights", k) and shared by every example on every worker; latent
noise is common to all examples (`CommonNoise`), so what is predicted for one does not depend on its minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from al_dgm.acquisition import Moments
from al_dgm.config import PredictionParams
from al_dgm.models import DeepGenerativeModel, Model
from al_dgm.nn.bayesian import bayesian_layers, mean_weights, weight_sample
from al_dgm.nn.noise import CommonNoise, generator
from al_dgm.seeding import integer_seed


def weight_samples(model: Model, params: PredictionParams, seed: int) -> Iterator[int]:
    """Put the model's weights to sample k = 0, 1, …, one after the other; point weights make one sample of all."""
    for k in range(params.weight_samples if bayesian_layers(model) else 1):
        with weight_sample(model, generator(integer_seed(seed, "weights", k))):
            yield k


@torch.no_grad()
def log_predictive(model: Model, x: Tensor, params: PredictionParams, seed: int) -> Tensor:
    """log p(y | x, W) for the weights in use, [N, C], in minibatches."""
    device = next(model.parameters()).device
    return torch.cat(
        [
            model.log_predictive(part.to(device), _common_noise(seed, device), params.latent_samples)
            for part in x.split(params.batch_size)
        ]
    )


def predictive_moments(model: Model, x: Tensor, classes: int, params: PredictionParams, seed: int) -> Moments:
    """Sums over weight samples of p(y | x, W), its square and its entropy, for x [N, D]."""
    moments = Moments.zeros(len(x), classes)
    for _ in weight_samples(model, params, seed):
        moments.add(log_predictive(model, x, params, seed))
    return moments


@torch.no_grad()
def expected_elbo(model: DeepGenerativeModel, x: Tensor, params: PredictionParams, seed: int) -> Tensor:
    """The bound U(x) in nats at the posterior mean of the weights, [N].

    x is drawn as in training (binarised, for a Bernoulli model), with thresholds common to all examples.
    """
    device = next(model.parameters()).device
    parts = []
    with mean_weights(model):
        for part in x.split(params.batch_size):
            noise = _common_noise(seed, device)
            observed = model.space.observation.draw(part.to(device), noise)
            parts.append(model.elbo(observed, noise, params.latent_samples))
    return torch.cat(parts).cpu()


def _common_noise(seed: int, device: torch.device) -> CommonNoise:
    return CommonNoise(generator(integer_seed(seed, "latents"), device))
