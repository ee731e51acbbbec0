"""Linear layers over several inputs, with point weights or with a distribution over them.

Both compute, for inputs x_1 [..., D_1], x_2 [..., D_2], …,

    h = Σ_i x_i W_i + b          [..., H]

which is one linear layer on their concatenation, evaluated as a sum. Leading dimensions broadcast, and an input that
belongs to an example is multiplied once however many of its classes are enumerated (`al_dgm.nn.pairs`).
W_1, W_2, … are the rows, top to bottom, of one matrix [D_1 + D_2 + …, H], and initialised as such: each of them is
contiguous, and the row that a class stands for can be looked up.

x_i W_i may be another linear map (`al_dgm.nn.maps`) than the matrix product: a convolution, whose W_i has a column for
each of H channels, at P positions, so that h is [..., P · H] and b is added at each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.nn.maps import Dense, LinearMap
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Input, squared

Read = int | LinearMap  # how a layer reads an input: as a row of so many numbers, or by another map than the product
Extent = Literal[True, False, "last"]  # which layers of a network are Bayesian: all, none, or the last one alone


class _Layer(nn.Module):
    """Σ_i x_i W_i + b for any W; subclasses have W and b."""

    bias: nn.Parameter

    def __init__(self, inputs: Sequence[Read]) -> None:
        super().__init__()
        self.maps = tuple(Dense(read) if isinstance(read, int) else read for read in inputs)
        self.matmul: torch.dtype | None = None

    def products(self, inputs: Sequence[Input], weight: Tensor) -> Tensor:
        """Σ_i x_i W_i for ``weight`` = W_1 above W_2 above …; leading dimensions broadcast."""
        parts = weight.split([m.rows for m in self.maps]) if len(self.maps) > 1 else [weight]
        found = [m.times(x, part, self.matmul) for m, x, part in zip(self.maps, inputs, parts, strict=True)]
        return sum(found[1:], start=found[0])

    def shifted(self, h: Tensor) -> Tensor:
        """h + b, at every position."""
        if h.shape[-1] == len(self.bias):
            return h + self.bias
        positions: Tensor = h.unflatten(-1, (-1, len(self.bias)))
        return (positions + self.bias).flatten(-2)


class Linear(_Layer):
    """Point weights; Glorot initialisation, or N(0, ``init_sd``²) where given (the heads of Gaussians)."""

    def __init__(self, inputs: Sequence[Read], outputs: int, init_sd: float | None = None) -> None:
        super().__init__(inputs)
        self.weight = nn.Parameter(initial_weight(self.maps, outputs, init_sd))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, *inputs: Input, noise: Noise) -> Tensor:  # noqa: ARG002 - one signature for both layers
        """Σ_i x_i W_i + b."""
        return self.shifted(self.products(inputs, self.weight))


class BayesianLinear(_Layer):
    r"""Mean-field Gaussian weights under a fan-in scaled prior; the bias is a point.

        p(W) = N(0, σ₀²),  σ₀ = prior_scale / √fan_in        q(W) = N(M, (r σ₀)²),  r = sigmoid(ρ) ∈ (0, 1)

    The posterior is never wider than the prior and starts at ``initial_ratio`` of it: nearly deterministic, which
    is what keeps the first steps stable. KL(q ‖ p) = Σ [−log r + (r² + (M/σ₀)²)/2 − 1/2], in nats, summed.

    Three ways to use the weights (`al_dgm.nn.bayesian` switches them for a whole model):

    * ``local``, for training: h ~ N(Σ x_i M_i + b, Σ x_i² σ_i²), the local reparameterisation
      (Kingma, Salimans & Welling 2015), whose gradient noise falls with the minibatch. Positions of a convolution
      have noise of their own: mean and variance of each are those of W, their correlation through W is left out;
    * ``sampled``, for prediction and acquisition: one explicit W for all examples, a function in the proper sense;
    * ``mean``: W = M.
    """

    def __init__(
        self,
        inputs: Sequence[Read],
        outputs: int,
        init_sd: float | None = None,
        prior_scale: float = 1.0,
        initial_ratio: float = 0.1,
    ) -> None:
        super().__init__(inputs)
        self.prior_sd = prior_scale / math.sqrt(sum(m.fan_in for m in self.maps))
        self.mean = nn.Parameter(initial_weight(self.maps, outputs, init_sd))
        self.rho = nn.Parameter(torch.full_like(self.mean, math.log(initial_ratio / (1 - initial_ratio))))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.mode = "local"
        self._sample: Tensor | None = None

    @property
    def sd(self) -> Tensor:
        """Posterior standard deviations, [rows, outputs]."""
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

    def forward(self, *inputs: Input, noise: Noise) -> Tensor:
        """h as the mode says; ``noise`` is used in ``local`` mode only."""
        if self.mode == "sampled":
            if self._sample is None:
                raise RuntimeError("weights are in 'sampled' mode but none were drawn: use bayesian.weight_sample")
            return self.shifted(self.products(inputs, self._sample))
        mean = self.shifted(self.products(inputs, self.mean))
        if self.mode == "mean":
            return mean
        variance = self.products([squared(x) for x in inputs], self.sd.square())
        # A unit whose inputs are all zero has variance 0, where the square root has no derivative.
        return mean + variance.clamp_min(1e-12).sqrt() * noise.normal(mean.shape)


def kinds(bayesian: Extent, layers: int) -> list[type[Linear | BayesianLinear]]:
    """The class of each of so many layers of a network."""
    below: type[Linear | BayesianLinear] = BayesianLinear if bayesian is True else Linear
    return [below] * (layers - 1) + [BayesianLinear if bayesian else Linear]


def round_products(model: nn.Module, matmul: torch.dtype | None) -> None:
    """Let every linear layer of ``model`` round the factors of its products to ``matmul``; None leaves them alone.

    Sums, non-linearities, densities and the weights themselves stay in the type of the weights.
    """
    for module in model.modules():
        if isinstance(module, Linear | BayesianLinear):
            module.matmul = matmul


def initial_weight(maps: Sequence[LinearMap], outputs: int, init_sd: float | None = None) -> Tensor:
    """[rows, outputs] from Glorot's normal, or N(0, ``init_sd``²) where given."""
    fan_in, fan_out = sum(m.fan_in for m in maps), outputs * max(m.reach for m in maps)
    sd = math.sqrt(2 / (fan_in + fan_out)) if init_sd is None else init_sd
    return torch.randn(sum(m.rows for m in maps), outputs) * sd
