"""Lower bounds on log p(x, y) and log p(x), from per-sample terms.

Dimensions: B examples, S Monte Carlo samples, C classes.

    bound [B, S, C]   one-sample estimates of L(x, y), the bound on log p(x, y) *with* log p(y), y enumerated
    log_q [B, S, C]   log q(y | a_s, x), or log q(y | x) with S = 1, for the same samples a_s as ``bound``

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
    return bound_given_a.mean(-1)


def log_mean_exp(values: Tensor, dim: int) -> Tensor:
    """log of the mean of exp, along ``dim``."""
    return torch.logsumexp(values, dim=dim) - math.log(values.shape[dim])


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """L_K = log (1/K) Σ_k w_k over the last dimension (Burda et al. 2016); K = 1 is the ELBO."""
    return log_mean_exp(log_weights, dim=-1)
