"""Bounds where the answer is known: linear-Gaussian models, constant log-weights, exact posteriors."""

from __future__ import annotations

import math

import pytest
import torch

from al_dgm.models.m2 import M2
from al_dgm.models.base import Space
from al_dgm.models.observation import Gaussian
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.objectives.bounds import importance_weighted_bound, unlabelled_bound
from al_dgm.objectives.densities import normal_log_density

torch.set_default_dtype(torch.float32)
C, D, Z = 3, 4, 2


def noise(seed: int = 0) -> BatchNoise:
    return BatchNoise(generator(seed))


@pytest.fixture
def linear_gaussian() -> tuple[M2, torch.Tensor, torch.Tensor]:
    """An M2 with linear networks whose encoder is the exact posterior: p(x|y,z) = N(Wz + Vy + b, s²I)."""
    torch.manual_seed(0)
    model = M2(Space(D, C, Gaussian()), hidden=[], latent=Z, bayesian="none").double()
    W, V, b = torch.randn(D, Z).double(), torch.randn(D, C).double(), torch.randn(D).double()
    log_variance = math.log(0.3)
    scale = model.label_scale
    precision = torch.eye(Z).double() + W.T @ W / 0.3
    # A diagonal posterior needs a diagonal precision: orthogonal columns.
    W, _ = torch.linalg.qr(W)
    precision = 1 + (W.square().sum(0) / 0.3)
    gain = (W.T / 0.3) / precision[:, None]
    decoder, encoder = model.decoder.layers[0], model.encoder.layers[0]
    with torch.no_grad():
        decoder.weight.zero_()
        decoder.weight[:D] = torch.cat([V / scale, W], dim=1)
        decoder.bias[:D], decoder.bias[D:] = b, log_variance
        encoder.weight.zero_()
        encoder.weight[:Z] = torch.cat([gain, -gain @ V / scale], dim=1)
        encoder.bias[:Z], encoder.bias[Z:] = -gain @ b, -precision.log()
    covariance = W @ W.T + 0.3 * torch.eye(D).double()
    means = (V + b[:, None]).T
    return model, means, covariance


def log_p_x_given_y(x: torch.Tensor, means: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """[B, C], from torch's own multivariate normal."""
    return torch.distributions.MultivariateNormal(means, covariance).log_prob(x[:, None, :])


def test_the_bound_at_the_exact_posterior_is_the_evidence_in_expectation_and_by_its_terms(linear_gaussian):
    """L(x, y) = log p(x, y): with the analytic KL, the Monte Carlo mean within four of its standard errors."""
    model, means, covariance = linear_gaussian
    x = torch.randn(5, D).double()
    bounds = model.class_bounds(x, BatchNoise(generator(1)), samples=4000).bound
    exact = log_p_x_given_y(x, means, covariance) - math.log(C)
    error = bounds.std(1) / math.sqrt(bounds.shape[1])
    assert ((bounds.mean(1) - exact).abs() < 5 * error).all()
