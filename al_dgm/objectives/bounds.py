"""Lower bounds on log p(x, y) and log p(x), from per-sample terms.

Dimensions: S Monte Carlo samples, B examples, M classes that y is summed over: all C of them, or a subset.

    bound [S, B, M]   one-sample estimates of L(x, y), the bound on log p(x, y) *with* log p(y)
    log_q [S, B, M]   log q(y | a_s, x), or log q(y | x) with S = 1, for the same samples a_s as ``bound``

Over a subset T of the classes q is renormalised: then it is the posterior of a variational family with support T, and
the bound is one on log Σ_{y ∈ T} p(x, y) ≤ log p(x).

The mean over S stands outside the sum over y (thesis Eq. 4.20, seed 003), not inside as a product of two means.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from al_dgm.objectives.densities import categorical_entropy


def unlabelled_bound(bound: Tensor, log_q: Tensor) -> Tensor:
    """U(x) = mean_s Σ_y q(y|a_s,x) [L_s(x,y) − log q(y|a_s,x)] ≤ log p(x); [B].

    Σ_y −q log q is the entropy of q, exactly 0 at q = 0 or 1.
    """
    bound_given_a = (log_q.exp() * bound).sum(-1) + categorical_entropy(log_q)
    return bound_given_a.mean(0)


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """log of the mean of exp, along ``dim``."""
    return torch.logsumexp(values, dim=dim) - math.log(values.shape[dim])


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """L_K = log (1/K) Σ_k w_k over the first dimension (Burda et al. 2016); K = 1 is the ELBO."""
    return log_mean_exp(log_weights, dim=0)


def effective_sample_size(log_weights: Tensor) -> Tensor:
    """(Σ_k w_k)² / Σ_k w_k² over the first dimension: K for equal weights, 1 where one has them all (Kong 1992)."""
    shares = torch.softmax(log_weights, dim=0)
    return 1 / shares.square().sum(dim=0)
