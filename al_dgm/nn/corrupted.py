"""Networks that noise disturbs while they are trained, as the encoder of a ladder network (Rasmus et al. 2015).

Noise is added to what the network is given and to every unit, outputs too, after its normalisation. A normalised unit
has variance 1, so no weight can raise it above the noise; and the outputs of a set of examples cannot all shrink to the
same, which is the trivial way to be consistent.

A pass normalises by its own rows, in training labelled and unlabelled examples each by their own set (`apart`):
normalised together, a network can tell the labelled examples that it has learnt by heart from all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from al_dgm.nn.batch_norm import BatchNorm
from al_dgm.nn.linear import Extent
from al_dgm.nn.mlp import MLP
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Input
from al_dgm.nn.pictures import Pyramid
from al_dgm.nn.temporary import temporarily


class Corruption(NamedTuple):
    """Standard deviations of the noise on the first input and on the normalised units."""

    inputs: float
    units: float


class _Disturbed(nn.Module):
    """What is disturbed in training, but for passes that are to be clean."""

    clean: bool = False

    def disturbed(self, values: Tensor, sd: float, noise: Noise) -> Tensor:
        """``values`` [..., rows, F], with noise where this pass has any."""
        return values + sd * noise.normal(values.shape) if self.training and not self.clean else values


class CorruptedNorm(BatchNorm, _Disturbed):
    """γ ((h − μ) / √(σ² + ε) + noise) + β; the population's statistics are those of clean passes.

    Attributes:
        sets: how many rows each set has that is normalised by itself; none for all rows as one. See `apart`.
    """

    by_its_rows = True
    sets: Sequence[int] = ()

    def __init__(self, features: int, sd: float) -> None:
        super().__init__(features)
        self.sd = sd

    def forward(self, h: Tensor, noise: Noise) -> Tensor:
        """Normalised and disturbed h, [..., H]."""
        normal = self.normal(h)
        return self.scaled(self.disturbed(normal.flatten(-2), self.sd, noise).view_as(normal))

    def normal(self, h: Tensor) -> Tensor:
        """As `BatchNorm.normal`, set by set."""
        if not self.sets:
            return super().normal(h)
        sets = [rows for rows in h.split(list(self.sets), dim=-2) if rows.shape[-2]]
        return torch.cat([super(CorruptedNorm, self).normal(rows) for rows in sets], dim=-3)

    def _collect(self, found: tuple[Tensor, Tensor]) -> None:
        if self.clean:
            super()._collect(found)


class CorruptedMLP(MLP, _Disturbed):
    """An `MLP` with noise on its first input, on its normalised hidden units and on its normalised outputs."""

    def __init__(
        self,
        inputs: Sequence[int | Pyramid],
        hidden: Sequence[int],
        outputs: int,
        corruption: Corruption,
        *,
        bayesian: Extent = False,
    ) -> None:
        super().__init__(inputs, hidden, outputs, bayesian=bayesian)
        self.corruption = corruption
        self.norms = nn.ModuleList(CorruptedNorm(size, corruption.units) for size in hidden)
        self.top = CorruptedNorm(outputs, corruption.units)

    def with_hidden(self, *inputs: Input, noise: Noise) -> tuple[Tensor | None, Tensor]:
        """The last hidden layer's activations, None where there is no hidden layer, and the normalised output."""
        first, *rest = inputs
        assert isinstance(first, Tensor), "a classifier reads x of examples, not of pairs"
        hidden, output = super().with_hidden(self.disturbed(first, self.corruption.inputs, noise), *rest, noise=noise)
        return hidden, self.top(output, noise)


def corrupted(model: nn.Module) -> bool:
    """Whether the model has networks of this kind."""
    return any(isinstance(module, CorruptedMLP) for module in model.modules())


def apart(model: nn.Module, sets: Sequence[int]) -> AbstractContextManager[None]:
    """Inside, networks of this kind normalise so many rows each by themselves; all passes have that many rows."""
    return temporarily((module for module in model.modules() if isinstance(module, CorruptedNorm)), sets=sets)


def clean(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, nothing is disturbed."""
    return temporarily((module for module in model.modules() if isinstance(module, _Disturbed)), clean=True)
