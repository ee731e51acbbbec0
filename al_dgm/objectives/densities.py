"""Log-densities and Kullback-Leibler divergences, in nats, summed over the last dimension.

Gaussians are diagonal and given by mean and *log-variance*, both [..., D]; results are [...].
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LOG_2PI = math.log(2 * math.pi)
MAX_FACTORS = 120  # 2^120 is within float32
MAX_LOG_VARIANCE = 10.0  # e^±5 standard deviations: far outside what a latent needs, far inside float32


def gaussian(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """A network's output [..., 2D] read as (mean, log-variance), the latter clamped to ±`MAX_LOG_VARIANCE`."""
    mean, log_variance = parameters.chunk(2, dim=-1)
    return mean, log_variance.clamp(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)


def normal_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(x; mean, exp(log_variance))."""
    return -0.5 * (LOG_2PI + log_variance + (x - mean).square() * torch.exp(-log_variance)).sum(-1)


def standard_normal_log_density(x: Tensor) -> Tensor:
    """log N(x; 0, I)."""
    return -0.5 * (LOG_2PI + x.square()).sum(-1)


def kl_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(0, I))."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(-1)


def kl_normal(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) ‖ N(prior_mean, exp(prior_log_variance)))."""
    difference = log_variance - prior_log_variance
    distance = (mean - prior_mean).square() * torch.exp(-prior_log_variance)
    return 0.5 * (difference.exp() + distance - difference - 1).sum(-1)


def binomial_log_density(x: Tensor, logits: Tensor, trials: int) -> Tensor:
    """log Binomial(trials·x; trials, sigmoid(logits)) for proportions x in [0, 1]; trials = 1 is Bernoulli.

    From logits, never from clipped probabilities; the logarithm of the binomial coefficient is included, so that
    the value is a probability's.
    """
    log_likelihood = trials * ((x * logits).sum(-1) - softplus_sum(logits))
    if trials == 1:
        return log_likelihood
    counts = (trials * x).round().long().clamp(0, trials)  # of NaN any: the likelihood is NaN
    coefficients = log_binomial_coefficients(trials, x.device).index_select(0, counts.flatten()).view_as(counts)
    return log_likelihood + coefficients.sum(-1).to(log_likelihood.dtype)


def log_binomial_coefficients(trials: int, device: torch.device) -> Tensor:
    """log (n over k) = log n! − log k! − log (n−k)! for k = 0, ..., n = ``trials``; float64, [n + 1].

    In float64, for a float32 of log 255! is off by the same 5e-5 in every feature. As a table, for logarithms of every
    feature of every pair took much of a training step on the digits. By a cumulative sum, which a compiled program
    takes beforehand: what is computed entry by entry it would compute anew wherever it looks one up.
    """
    log_factorials = torch.arange(trials + 1, dtype=torch.float64, device=device).clamp_min(1).log().cumsum(0)
    return log_factorials[-1] - log_factorials - log_factorials.flip(0)


def softplus_sum(x: Tensor) -> Tensor:
    """Σ_d log(1 + e^(x_d)) = Σ_d max(x_d, 0) + Σ_g log Π_(d in g) (1 + e^−|x_d|), [..., D] -> [...].

    A logarithm for each group g of features instead of each feature: every factor is in [1, 2], so that a product of
    `MAX_FACTORS` of them is a float32. Of a compiled step on images this is the largest part beside matrix products.
    """
    total: Tensor = _SoftplusSum.apply(x)  # type: ignore[no-untyped-call]
    return total


class _SoftplusSum(torch.autograd.Function):
    """`softplus_sum`, whose derivative is σ(x) and takes no product to be divided again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        groups = math.ceil(x.shape[-1] / MAX_FACTORS)
        size = math.ceil(x.shape[-1] / groups)
        positive = x.clamp_min(0).sum(-1)
        # In place: of many rows, fresh memory costs more than the arithmetic. But a compiled ensemble takes exp apart.
        factors = 1 + x.abs().neg_().exp_()
        if missing := groups * size - x.shape[-1]:
            factors = F.pad(factors, (0, missing), value=1.0)
        grouped: Tensor = factors.unflatten(-1, (groups, size))
        return positive + grouped.prod(-1).log().sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient.unsqueeze(-1) * torch.sigmoid(x)


def categorical_entropy(log_probabilities: Tensor) -> Tensor:
    """H[p] = −Σ p log p; a class of probability 0 adds exactly 0, to the value and to the gradient.

    From the logarithms: the derivative of −p log p by p is infinite at 0, which a saturated softmax reaches.
    """
    finite = log_probabilities.clamp_min(torch.finfo(log_probabilities.dtype).min)
    return -(log_probabilities.exp() * finite).sum(-1)


def categorical_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p ‖ q) = Σ p (log p − log q) of log-probabilities over the last dimension."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
