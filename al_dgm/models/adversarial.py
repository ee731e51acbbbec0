"""Virtual adversarial training: Miyato, Maeda, Koyama & Ishii 2018."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.corrupted import clean
from al_dgm.nn.noise import CommonDraws, Noise
from al_dgm.objectives.densities import categorical_kl

POWER_STEP = 0.1  # length of the probe that finds the adversarial direction; the divergence is quadratic there


def adversarial_divergence(
    model: nn.Module, classify: Callable[[Tensor, Noise, int], Tensor], x: Tensor, noise: Noise, radius: float
) -> Tensor:
    """KL(q(y|x) ‖ q(y|x + r)) at the worst r, for ``classify``(x, noise, samples) = log q(y|x); [B].

    r has length ``radius`` in model space and the direction in which the divergence grows fastest, found by one
    power iteration. Weights are at their posterior mean and nothing is corrupted: what is smoothed is the
    classifier, not its noise.
    """
    with mean_weights(model), clean(model):
        common = CommonDraws(noise)
        unmoved = classify(x, common.again(), 1).detach()

        def divergence(perturbation: Tensor) -> Tensor:
            return categorical_kl(unmoved, classify(x + perturbation, common.again(), 1))

        direction = F.normalize(noise.normal(x.shape), dim=-1)
        gradient = torch.func.grad(lambda d: divergence(POWER_STEP * d).sum())(direction)
        return divergence(radius * F.normalize(gradient, dim=-1).detach())
