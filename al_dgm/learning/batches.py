"""Minibatches of data that lie in memory, on the device the model is on.

Which rows step t sees is a function of (seed, t) alone: a resumed fit goes on as if nothing had happened, and every
worker knows the global minibatch and takes its own rows of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.seeding import integer_seed


class Batches:
    """Shuffled passes over ``size`` rows, ``batch`` at a time; rows left over at the end of a pass are dropped.

    Shuffled anew in every pass, so no order of the data (by class, say) can reach a minibatch.

    A minibatch that the workers cannot share equally is computed by every one of them: the mean over workers of
    uneven shares would weight rows unequally. That happens to small labelled sets, where it costs little.

    Attributes:
        batch: rows in the global minibatch.
        sharers: how many workers share it: all of them, or 1.
        rank: which share this worker has, from 0.
    """

    def __init__(self, size: int, batch: int, seed: int, name: str, rank: int = 0, workers: int = 1) -> None:
        self.batch = min(batch, size)
        shared = self.batch % workers == 0
        self.sharers, self.rank = (workers, rank) if shared else (1, 0)
        self._size = size
        self._seed = seed
        self._name = name
        self._pass: tuple[int, Tensor] | None = None

    @property
    def steps_in_a_pass(self) -> int:
        """After how many steps every row has been seen, but for those left over."""
        return self._size // self.batch if self.batch else 0

    def rows(self, step: int) -> Tensor:
        """This worker's row numbers for step ``step``, [batch / sharers]."""
        if not self.batch:
            return torch.empty(0, dtype=torch.int64)
        number, position = divmod(step, self.steps_in_a_pass)
        share = self.batch // self.sharers
        start = position * self.batch + self.rank * share
        return self._order(number)[start : start + share]

    def noise(self, step: int, device: torch.device) -> BatchNoise:
        """The noise of step ``step`` for those rows."""
        seed = integer_seed(self._seed, "noise", self._name, step)
        return BatchNoise(generator(seed, device), self.rank, self.sharers)

    def _order(self, number: int) -> Tensor:
        if self._pass is None or self._pass[0] != number:
            seed = integer_seed(self._seed, "batches", self._name, number)
            order = torch.randperm(self._size, generator=torch.Generator().manual_seed(seed))
            self._pass = (number, order)
        return self._pass[1]
