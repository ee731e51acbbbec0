"""Minibatches whose random numbers are drawn beforehand.

A program that is compiled, or mapped over the members of an ensemble, is a function of tensors: it takes these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from al_dgm.learning.objective import Phase
from al_dgm.models.base import Minibatch
from al_dgm.nn.noise import DrawnNoise, RecordedNoise


class Drawn(NamedTuple):
    """A `Minibatch` as tensors alone: its rows, and all numbers that will be asked of its two sources of noise."""

    x_labelled: Tensor
    y: Tensor
    x_unlabelled: Tensor
    labelled_draws: tuple[Tensor, ...]
    unlabelled_draws: tuple[Tensor, ...]

    @classmethod
    def stacked(cls, parts: Sequence[Drawn]) -> Drawn:
        """One of each tensor for all parts, [n, ...]."""
        x_labelled, y, x_unlabelled, labelled, unlabelled = zip(*parts, strict=True)
        draws = [tuple(map(torch.stack, zip(*each, strict=True))) for each in (labelled, unlabelled)]
        return cls(torch.stack(x_labelled), torch.stack(y), torch.stack(x_unlabelled), *draws)

    @property
    def minibatch(self) -> Minibatch:
        """The minibatch; its numbers can be asked for once."""
        return Minibatch(*self[:3], DrawnNoise(self.labelled_draws), DrawnNoise(self.unlabelled_draws))


@dataclass(frozen=True)
class Asked:
    """What an objective asks of a minibatch's two sources of noise: the same in every step."""

    labelled: Sequence[tuple[str, torch.Size]]
    unlabelled: Sequence[tuple[str, torch.Size]]

    @classmethod
    def by(cls, objective: nn.Module, example: Minibatch) -> Asked:
        """Found out by evaluating ``objective`` once."""
        labelled, unlabelled = RecordedNoise(example.labelled_noise), RecordedNoise(example.unlabelled_noise)
        with torch.no_grad():
            objective(replace(example, labelled_noise=labelled, unlabelled_noise=unlabelled), Phase(), (1, 1))
        return cls(labelled.asked, unlabelled.asked)

    def draw(self, batch: Minibatch) -> Drawn:
        """``batch`` with its numbers."""
        labelled = DrawnNoise.as_asked(batch.labelled_noise, self.labelled).draws
        unlabelled = DrawnNoise.as_asked(batch.unlabelled_noise, self.unlabelled).draws
        return Drawn(batch.x_labelled, batch.y, batch.x_unlabelled, labelled, unlabelled)
