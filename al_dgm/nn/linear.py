"""Linear layers over several inputs, with point weights or with a distribution over them.

Both compute, for inputs x_1 [..., D_1], x_2 [..., D_2], …,

    h = Σ_i x_i W_iᵀ + b          [..., H]

which is one linear layer on their concatenation, evaluated as a sum. Leading dimensions broadcast: when y enumerates
C classes as [1, 1, C, C] and x is [B, 1, 1, D], the product with x is computed once per example and not once per
(example, class). `[W_1 | W_2 | …]` is initialised as the one matrix that it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.nn.noise import Noise


class Linear(nn.Module):
    """Point weights; Glorot initialisation, or N(0, ``init_sd``²) where given (the heads of Gaussians)."""

    def __init__(self, inputs: Sequence[int], outputs: int, init_sd: float | None = None) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.weight = nn.Parameter(initial_weight(sum(inputs), outputs, init_sd))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, *inputs: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - one signature for both layers
        """Σ_i x_i W_iᵀ + b."""
        return split_product(inputs, self.weight, self.inputs) + self.bias


class BayesianLinear(nn.Module):
    r"""Mean-field Gaussian weights under a fan-in scaled prior; the bias is a point.

        p(W) = N(0, σ₀²),  σ₀ = prior_scale / √fan_in        q(W) = N(M, (r σ₀)²),  r = sigmoid(ρ) ∈ (0, 1)

    The posterior is never wider than the prior and starts at ``initial_ratio`` of it: nearly deterministic, which
    is what keeps the first steps stable. KL(q ‖ p) = Σ [−log r + (r² + (M/σ₀)²)/2 − 1/2], in nats, summed.

    Three ways to use the weights (`al_dgm.nn.bayesian` switches them for a whole model):

    * ``local``, for training: h ~ N(Σ x_i M_iᵀ + b, Σ x_i² (σ_i²)ᵀ), the local reparameterisation
      (Kingma, Salimans & Welling 2015), whose gradient noise falls with the minibatch;
    * ``sampled``, for prediction and acquisition: one explicit W for all examples, a function in the proper sense;
    * ``mean``: W = M.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: int,
        init_sd: float | None = None,
        prior_scale: float = 1.0,
        initial_ratio: float = 0.1,
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        fan_in = sum(inputs)
        self.prior_sd = prior_scale / math.sqrt(fan_in)
        self.mean = nn.Parameter(initial_weight(fan_in, outputs, init_sd))
        self.rho = nn.Parameter(torch.full((outputs, fan_in), math.log(initial_ratio / (1 - initial_ratio))))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.mode = "local"
        self._sample: Tensor | None = None

    @property
    def sd(self) -> Tensor:
        """Posterior standard deviations, [outputs, fan_in]."""
        return self.prior_sd * torch.sigmoid(self.rho)

    def kl(self) -> Tensor:
        """KL(q(W) ‖ p(W)) in nats, summed over the weights (never averaged), a scalar."""
        ratio = torch.sigmoid(self.rho)
        return (-F.logsigmoid(self.rho) + 0.5 * (ratio.square() + (self.mean / self.prior_sd).square() - 1)).sum()

    def draw(self, generator: torch.Generator) -> None:
        """Draw the weights that ``sampled`` mode uses; on the CPU, so that every device gets the same ones."""
        eps = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype).to(self.mean.device)
        self._sample = self.mean.detach() + self.sd.detach() * eps

    def release(self) -> None:
        """Forget the drawn weights."""
        self._sample = None

    def forward(self, *inputs: Tensor, noise: Noise) -> Tensor:
        """h as the mode says; ``noise`` is used in ``local`` mode only."""
        if self.mode == "sampled":
            if self._sample is None:
                raise RuntimeError("weights are in 'sampled' mode but none were drawn: use bayesian.weight_sample")
            return split_product(inputs, self._sample, self.inputs) + self.bias
        mean = split_product(inputs, self.mean, self.inputs) + self.bias
        if self.mode == "mean":
            return mean
        variance = split_product([x.square() for x in inputs], self.sd.square(), self.inputs)
        # A unit whose inputs are all zero has variance 0, where the square root has no derivative.
        return mean + variance.clamp_min(1e-12).sqrt() * noise.normal(mean.shape)


def initial_weight(fan_in: int, outputs: int, init_sd: float | None = None) -> Tensor:
    """[outputs, fan_in] from Glorot's normal, or N(0, ``init_sd``²) where given."""
    sd = math.sqrt(2 / (fan_in + outputs)) if init_sd is None else init_sd
    return torch.randn(outputs, fan_in) * sd


def split_product(inputs: Sequence[Tensor], weight: Tensor, sizes: Sequence[int]) -> Tensor:
    """Σ_i x_i W_iᵀ for ``weight`` = [W_1 | W_2 | …]; leading dimensions broadcast."""
    products = [F.linear(x, part) for x, part in zip(inputs, weight.split(list(sizes), dim=1), strict=True)]
    return sum(products[1:], start=products[0])
