"""Minibatches of data that lie in memory, on the device the model is on.

Which rows step t sees is a function of (seed, t) alone: a resumed fit goes on as if nothing had happened, and every
worker knows the global minibatch and takes its own rows of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from al_dgm.config import TrainingParams
from al_dgm.models.base import Minibatch
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.seeding import integer_seed

DISTANCES_OF = 64  # rows whose distances to all others are in memory at once


@dataclass(frozen=True)
class TrainingData:
    """x_l [N_l, D], y_l [N_l] class indices, x_u [N_u, D], in model space."""

    x_labelled: Tensor
    y: Tensor
    x_unlabelled: Tensor

    def to(self, device: torch.device) -> TrainingData:
        """The same data on ``device``."""
        return TrainingData(self.x_labelled.to(device), self.y.to(device), self.x_unlabelled.to(device))


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

    def choices(self, step: int, n: int) -> Tensor:
        """For each of those rows one of the numbers below ``n``, all equally likely."""
        seed = integer_seed(self._seed, "choices", self._name, step)
        drawn = torch.randint(n, (self.batch,), generator=generator(seed))
        share = self.batch // self.sharers
        return drawn[self.rank * share :][:share]

    def _order(self, number: int) -> Tensor:
        if self._pass is None or self._pass[0] != number:
            seed = integer_seed(self._seed, "batches", self._name, number)
            order = torch.randperm(self._size, generator=torch.Generator().manual_seed(seed))
            self._pass = (number, order)
        return self._pass[1]


class Feed:
    """What one fit is fed: step t -> minibatch, as a function of (``seed``, t).

    Args:
        data: of which the first ``sizes`` = (N_l, N_u) examples of each kind are used.
        recipe: how many of each are in a minibatch.
        seed: of the fit.
        share: which share of each minibatch this worker has, of how many.
        neighbours: the unlabelled rows that each label may be spread to, [N_l, k]; k = 0 spreads none.
    """

    def __init__(
        self,
        data: TrainingData,
        sizes: tuple[int, int],
        recipe: TrainingParams,
        seed: int,
        share: tuple[int, int],
        neighbours: Tensor,
    ) -> None:
        self._data = data
        self._neighbours = neighbours
        self._labelled = Batches(sizes[0], recipe.labelled_batch, seed, "labelled", *share)
        self._unlabelled = Batches(sizes[1], recipe.unlabelled_batch, seed, "unlabelled", *share)

    @property
    def steps_in_a_pass(self) -> int:
        """After how many steps every row of both sets has been seen, but for those left over."""
        return max(self._unlabelled.steps_in_a_pass, self._labelled.steps_in_a_pass)

    def minibatch(self, step: int, *, spread: bool = False) -> Minibatch:
        """This worker's rows of step ``step``, and their noise.

        With ``spread``, a label comes with its own example or one of its k neighbours, all k + 1 equally often.
        """
        device = self._data.x_labelled.device
        labelled, unlabelled = self._labelled.rows(step).to(device), self._unlabelled.rows(step).to(device)
        # index_select copies whole rows; indexing by [rows] goes through them number by number
        x_labelled = self._data.x_labelled.index_select(0, labelled)
        return Minibatch(
            x_labelled=self._spread(x_labelled, labelled, step) if spread else x_labelled,
            y=self._data.y.index_select(0, labelled),
            x_unlabelled=self._data.x_unlabelled.index_select(0, unlabelled),
            labelled_noise=self._labelled.noise(step, device),
            unlabelled_noise=self._unlabelled.noise(step, device),
        )

    def _spread(self, x: Tensor, rows: Tensor, step: int) -> Tensor:
        """``x`` of the labelled ``rows``, or a neighbour in the place of each."""
        k = self._neighbours.shape[1]
        if k == 0:
            return x
        choice = self._labelled.choices(step, k + 1).to(x.device)  # k: the example itself
        neighbour = self._neighbours[rows, choice.clamp_max(k - 1)]
        return torch.where((choice == k)[:, None], x, self._data.x_unlabelled.index_select(0, neighbour))


def nearest(x: Tensor, others: Tensor, k: int) -> Tensor:
    """The ``k`` rows of ``others`` nearest to each row of x by Euclidean distance, [len(x), k]; of fewer, all."""
    k = min(k, len(others))
    if k == 0:
        return torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    # By a matrix product it would be four times as fast, but that rounds in an order which is the library's affair and
    # differs between one row and many: it would decide between equally near rows, of which grey levels have many.
    distances = partial(torch.cdist, x2=others, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.cat([distances(part).topk(k, largest=False).indices for part in x.split(DISTANCES_OF)])
