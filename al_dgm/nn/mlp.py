"""Multi-layer perceptrons over several inputs, Bayesian or not, that may read or produce images by convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.nn.batch_norm import BatchNorm, Unchanged
from al_dgm.nn.linear import Extent, Read, kinds
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Input, OfExamples, rounded
from al_dgm.nn.pictures import Pyramid

HEAD_INIT_SD = 1e-3  # mean and log-variance heads start near 0: unit-variance Gaussians (Maaløe's released code)

Plan = Sequence[tuple[Sequence[Read], int]]  # of layers: how each reads its inputs, and its outputs


class Layers(nn.Module):
    """Linear layers with a ReLU between them, their outputs normalised before it where asked.

    Args:
        plan: of the layers; only the first may have several inputs.
        bayesian: every layer a `BayesianLinear`, or the ``last`` one alone: point weights make the features, and a
            distribution is over what is read off them.
        head_init_sd: standard deviation of the last layer's initial weights; None for Glorot's.
        batch_norm: normalise what goes into a ReLU.
    """

    def __init__(
        self, plan: Plan, *, bayesian: Extent = False, head_init_sd: float | None = None, batch_norm: bool = False
    ) -> None:
        super().__init__()
        init = [None] * (len(plan) - 1) + [head_init_sd]
        each = zip(kinds(bayesian, len(plan)), plan, init, strict=True)
        self.layers = nn.ModuleList(kind(*sizes, init_sd=sd) for kind, sizes, sd in each)
        self.norms = nn.ModuleList(BatchNorm(size) if batch_norm else Unchanged() for _, size in plan[:-1])

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
            hidden = F.relu(rounded(norm(h, noise), layer.matmul))
            h = layer(hidden, noise=noise)
        return hidden, h


class Features(Layers):
    """Layers with a ReLU after the last one too."""

    def __init__(self, plan: Plan, *, bayesian: bool = False, batch_norm: bool = False) -> None:
        super().__init__(plan, bayesian=bayesian, batch_norm=batch_norm)
        self.last = BatchNorm(plan[-1][1]) if batch_norm else Unchanged()

    def forward(self, *inputs: Input, noise: Noise) -> Tensor:
        """[..., features]."""
        layers: list[Any] = list(self.layers)
        return F.relu(rounded(self.last(super().forward(*inputs, noise=noise), noise), layers[-1].matmul))


class MLP(Layers):
    """[x_1, x_2, …] -> hidden layers with ReLU -> linear output.

    An input that is an image goes through convolutions first: once for each example, however many of its classes are
    enumerated. An output that is one comes from as many transposed convolutions, after the hidden layers.

    Args:
        inputs: sizes of the inputs, summed in the first layer (see `al_dgm.nn.linear`).
        hidden: sizes of the hidden layers; none makes the network linear.
        outputs: size of the output.
        bayesian: every layer a `BayesianLinear`, or the ``last`` one alone; see `Layers`.
        head_init_sd: standard deviation of the output layer's initial weights; None for Glorot's.
        batch_norm: normalise each hidden layer before its ReLU.
    """

    def __init__(
        self,
        inputs: Sequence[int | Pyramid],
        hidden: Sequence[int],
        outputs: int | Pyramid,
        *,
        bayesian: Extent = False,
        head_init_sd: float | None = None,
        batch_norm: bool = False,
    ) -> None:
        plan = plan_of(inputs, hidden, outputs)
        super().__init__(plan, bayesian=bayesian, head_init_sd=head_init_sd, batch_norm=batch_norm)
        self.readers = nn.ModuleList(
            Reader(x, bayesian is True, batch_norm) if isinstance(x, Pyramid) else nn.Identity() for x in inputs
        )
        self.shown = outputs.picture if isinstance(outputs, Pyramid) else None

    def with_hidden(self, *inputs: Input, noise: Noise) -> tuple[Tensor | None, Tensor]:
        """As `Layers.with_hidden`, of images too."""
        pairs = zip(self.readers, inputs, strict=True)
        read = [reader(x, noise=noise) if isinstance(reader, Reader) else x for reader, x in pairs]
        hidden, output = super().with_hidden(*read, noise=noise)
        return hidden, output if self.shown is None else self.shown.parameters(output)


class Reader(nn.Module):
    """What a network sees of an image: the features at the top of a `Pyramid`."""

    def __init__(self, pyramid: Pyramid, bayesian: bool, batch_norm: bool) -> None:  # noqa: FBT001 - as MLP has them
        super().__init__()
        self.picture = pyramid.picture
        plan = [([window], makes) for window, makes in pyramid.up]
        self.features = Features(plan, bayesian=bayesian, batch_norm=batch_norm)

    def forward(self, x: Tensor | OfExamples, *, noise: Noise) -> Tensor | OfExamples:
        """x [..., B, D] as features [..., B, F]."""
        if isinstance(x, OfExamples):
            return x.each(lambda values: self.read(values, noise))
        return self.read(x, noise)

    def read(self, x: Tensor, noise: Noise) -> Tensor:
        """Features of a tensor."""
        features: Tensor = self.features(self.picture.maps(x), noise=noise)
        return features


def plan_of(inputs: Sequence[int | Pyramid], hidden: Sequence[int], outputs: int | Pyramid) -> Plan:
    """Layers from the inputs, images as the features at their top, by way of the hidden ones to the outputs."""
    read = [x.top.size if isinstance(x, Pyramid) else x for x in inputs]
    sizes = [*hidden, outputs.top.size if isinstance(outputs, Pyramid) else outputs]
    plan: list[tuple[Sequence[Read], int]] = list(zip([read, *([size] for size in hidden)], sizes, strict=True))
    return plan + ([([window], makes) for window, makes in outputs.down] if isinstance(outputs, Pyramid) else [])
