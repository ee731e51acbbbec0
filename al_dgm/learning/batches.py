"""Minibatches of data that lie in memory, on the device the model is on.

Which rows step t sees is a function of (seed, t) alone: a resumed fit goes on as if nothing had happened, and every
worker knows the global minibatch and takes its own rows of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from al_dgm.seeding import integer_seed


class Batches:
    """Shuffled passes over ``size`` rows, ``batch`` at a time; rows left over at the end of a pass are dropped.

    Shuffled anew in every pass, so no order of the data (by class, say) can reach a minibatch.
    """

    def __init__(self, size: int, batch: int, seed: int, name: str, rank: int = 0, workers: int = 1) -> None:
        if workers > 1 and (whole := min(batch, size)) % workers:
            # The mean over uneven shares would weight rows unequally; a few rows fewer cost nothing.
            batch = whole - whole % workers
        self.batch = min(batch, size)
        self._size = size
        self._seed = seed
        self._name = name
        self._rank = rank
        self._share = self.batch // workers
        self._pass: tuple[int, Tensor] | None = None

    def rows(self, step: int) -> Tensor:
        """This worker's row numbers for step ``step``, [batch / workers]."""
        if not self.batch:
            return torch.empty(0, dtype=torch.int64)
        per_pass = self._size // self.batch
        number, position = divmod(step, per_pass)
        start = position * self.batch + self._rank * self._share
        return self._order(number)[start : start + self._share]

    def _order(self, number: int) -> Tensor:
        if self._pass is None or self._pass[0] != number:
            seed = integer_seed(self._seed, "batches", self._name, number)
            order = torch.randperm(self._size, generator=torch.Generator().manual_seed(seed))
            self._pass = (number, order)
        return self._pass[1]
