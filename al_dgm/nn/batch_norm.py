"""Batch normalisation (Ioffe & Szegedy 2015) without running averages: the population's statistics come at the end.

A training step normalises by its own minibatch and changes nothing else, so that a resumed fit needs no more than the
weights. After the last step `population_statistics` goes over the training set once, with the final weights (or their
average), as the authors of the ladder VAE did; prediction normalises by those. Models let unlabelled examples alone
count in either: the few labelled ones come again and again, and would be most of what is normal.

Where not all rows of a pass are to count alike, `weighted_rows` says how much each does, and `same_statistics` lets a
later pass be normalised by the minibatch of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from al_dgm.nn.noise import Noise
from al_dgm.nn.temporary import temporarily

EPSILON = 1e-5  # a unit that is the same for the whole minibatch has variance 0


def own(values: Tensor) -> Tensor:
    """The mean over workers where there is one."""
    return values


class Unchanged(nn.Module):
    """Stands where a `BatchNorm` might."""

    def forward(self, h: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002
        """h."""
        return h


class BatchNorm(nn.Module):
    """γ (h − μ) / √(σ² + ε) + β for every one of H features; μ, σ² over all leading dimensions, and over all workers.

    Of feature maps [..., positions · H] the statistics are a channel's, over all positions too.

    Attributes:
        mean_over_workers: differentiable; see `share_statistics`.
        weights: of the rows in μ and σ², by how many rows there are, see `weighted_rows`; None for all alike.
        latest: μ, σ² of the last minibatch with ``weights``, as constants.
        repeats: normalise by ``latest``; see `same_statistics`.
        by_its_rows: of every pass by that pass alone, whatever the two contexts say.
        mean: μ of the population, used outside training.
        variance: σ² likewise.
    """

    mean: Tensor
    variance: Tensor
    by_its_rows = False

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))
        self.shift = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))
        self.mean_over_workers: Callable[[Tensor], Tensor] = own
        self.weights: dict[int, Tensor] | None = None
        self.latest: tuple[Tensor, Tensor] | None = None
        self.repeats = False
        self.collected: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, h: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - a subclass adds some
        """Normalised h, [..., H]."""
        return self.scaled(self.normal(h))

    def normal(self, h: Tensor) -> Tensor:
        """(h − μ) / √(σ² + ε), [..., positions, H]."""
        maps: Tensor = h.unflatten(-1, (-1, len(self.scale)))
        mean, variance = self._statistics(maps) if self.training else (self.mean, self.variance)
        return (maps - mean) * torch.rsqrt(variance + EPSILON)

    def scaled(self, normal: Tensor) -> Tensor:
        """γ · + β, of [..., positions, H] as [..., positions · H]."""
        return (normal * self.scale + self.shift).flatten(-2)

    def _statistics(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        if self.repeats and self.latest is not None:
            return self.latest
        mean = self.mean_over_workers(self._mean(maps))
        variance = self.mean_over_workers(self._mean((maps - mean).square()))
        found = mean.detach(), variance.detach()
        if self.weights is not None:
            self.latest = found
        self._collect(found)
        return mean, variance

    def _collect(self, found: tuple[Tensor, Tensor]) -> None:
        """Add a minibatch's statistics to the population's, while these are looked for."""
        if self.collected is not None:
            self.collected.append(found)

    def _mean(self, values: Tensor) -> Tensor:
        """Of [..., rows, positions, H] over all but H."""
        if self.weights is None:
            return values.flatten(0, -2).mean(0)
        of_rows = self.weights[values.shape[-3]]
        weights = of_rows / of_rows.sum()
        return (weights @ values.flatten(-2)).reshape(-1, values.shape[-1]).mean(0)

    def settle(self) -> None:
        """Take the collected minibatches together: the population's statistics, if they were all of it."""
        if not self.collected:
            return
        means, variances = (torch.stack(values) for values in zip(*self.collected, strict=True))
        self.mean.copy_(means.mean(0))
        self.variance.copy_(variances.mean(0) + means.var(0, correction=0))


def batch_norms(model: nn.Module) -> list[BatchNorm]:
    """The model's layers of this kind."""
    return [module for module in model.modules() if isinstance(module, BatchNorm)]


def _sharing(model: nn.Module) -> list[BatchNorm]:
    """Those whose statistics of one pass may be of another's rows."""
    return [layer for layer in batch_norms(model) if not layer.by_its_rows]


def share_statistics(model: nn.Module, mean_over_workers: Callable[[Tensor], Tensor]) -> None:
    """Let every layer normalise by the minibatch of all workers together."""
    for layer in batch_norms(model):
        layer.mean_over_workers = mean_over_workers


def weighted_rows(model: nn.Module, *weights: Tensor) -> AbstractContextManager[None]:
    """Inside, every layer takes its statistics of rows by weights [rows], whose sum is the same on every worker.

    A row of weight 0 is normalised by the others. Where some layers see examples and some see pairs of them, there are
    weights of both, and each layer uses those of which there are as many as it sees rows.
    """
    return temporarily(_sharing(model), weights={len(of_rows): of_rows for of_rows in weights})


@contextmanager
def same_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, every layer normalises by the last minibatch that it saw in `weighted_rows`, as by constants."""
    layers = _sharing(model)
    with temporarily(layers, repeats=True):
        try:
            yield
        finally:
            for layer in layers:
                layer.latest = None


@contextmanager
def population_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, collect the statistics of minibatches, which pass in training mode; afterwards, keep them."""
    for layer in batch_norms(model):
        layer.collected = []
    try:
        yield
        for layer in batch_norms(model):
            layer.settle()
    finally:
        for layer in batch_norms(model):
            layer.collected = None
