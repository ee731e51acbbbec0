"""Multi-layer perceptrons over several inputs, Bayesian or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.nn.batch_norm import BatchNorm
from al_dgm.nn.linear import BayesianLinear, Linear
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Input, rounded

HEAD_INIT_SD = 1e-3  # mean and log-variance heads start near 0: unit-variance Gaussians (Maaløe's released code)


class MLP(nn.Module):
    """[x_1, x_2, …] -> hidden layers, normalised where asked, with ReLU -> linear output.

    Args:
        inputs: sizes of the inputs, summed in the first layer (see `al_dgm.nn.linear`).
        hidden: sizes of the hidden layers; none makes the network linear.
        outputs: size of the output.
        bayesian: every layer a `BayesianLinear`.
        head_init_sd: standard deviation of the output layer's initial weights; None for Glorot's.
        batch_norm: normalise each hidden layer before its ReLU.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        hidden: Sequence[int],
        outputs: int,
        *,
        bayesian: bool = False,
        head_init_sd: float | None = None,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        layer = BayesianLinear if bayesian else Linear
        fan_ins = [tuple(inputs), *((size,) for size in hidden)]
        sizes = [*hidden, outputs]
        init = [None] * len(hidden) + [head_init_sd]
        self.layers = nn.ModuleList(layer(i, o, init_sd=sd) for i, o, sd in zip(fan_ins, sizes, init, strict=True))
        self.norms = nn.ModuleList(BatchNorm(size) if batch_norm else nn.Identity() for size in hidden)

    def forward(self, *inputs: Input, noise: Noise) -> Tensor:
        """[..., outputs]; the inputs' leading dimensions broadcast."""
        return self.with_hidden(*inputs, noise=noise)[1]

    def with_hidden(self, *inputs: Input, noise: Noise) -> tuple[Tensor | None, Tensor]:
        """The last hidden layer's activations, None where there is no hidden layer, and the output."""
        layers: list[Any] = list(self.layers)
        first, *rest = layers
        h: Tensor = first(*inputs, noise=noise)
        hidden = None
        for norm, layer in zip(self.norms, rest, strict=True):
            # Rounded before the non-linearity, so that one tensor serves the next product and the derivative.
            hidden = F.relu(rounded(norm(h), layer.matmul))
            h = layer(hidden, noise=noise)
        return hidden, h
