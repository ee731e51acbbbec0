"""Gaussian latents: their draws, and their divergence in closed form or from a draw."""

from __future__ import annotations

import torch
from torch import Tensor

from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import (
    kl_normal,
    kl_standard_normal,
    normal_log_density,
    standard_normal_log_density,
)


def sample_gaussian(mean: Tensor, log_variance: Tensor, noise: Noise, samples: int | None = None) -> Tensor:
    """mean + sd·ε, [S, rows, Z]; ``samples`` draws of each where the mean has a first dimension of 1."""
    shape = list(mean.shape)
    if samples is not None:
        shape[0] = samples
    return mean + torch.exp(0.5 * log_variance) * noise.normal(torch.Size(shape))


def latent_kl(
    sample: Tensor, q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor] | None, *, closed_form: bool
) -> Tensor:
    """KL(q ‖ p) of diagonal Gaussians (mean, log-variance), or its one-sample estimate log q − log p at ``sample``.

    ``p`` None is N(0, I).
    """
    if closed_form:
        return kl_standard_normal(*q) if p is None else kl_normal(*q, *p)
    log_p = standard_normal_log_density(sample) if p is None else normal_log_density(sample, *p)
    return normal_log_density(sample, *q) - log_p
