"""Where a model's random numbers come from: two sources with one method.

A model never touches a generator. It asks a `Noise` for standard normals or uniforms of some shape whose first
dimension is the minibatch, and the kind of noise decides what that means.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Noise(Protocol):
    """Standard normal and uniform numbers for tensors of shape [B, ...]."""

    def normal(self, shape: torch.Size) -> Tensor:
        """Independent N(0, 1) draws, broadcastable to ``shape``."""
        ...

    def uniform(self, shape: torch.Size) -> Tensor:
        """Independent U[0, 1) draws, broadcastable to ``shape``."""
        ...


class BatchNoise:
    """Training noise: a number of its own for every element of the *global* minibatch.

    Each worker draws the numbers of the whole minibatch and keeps its own rows, so that one worker and many see the
    same noise. Drawing is a few per cent of a step's cost, far less than the matrix products it is added to.
    """

    def __init__(self, generator: torch.Generator, rank: int = 0, workers: int = 1) -> None:
        self._generator = generator
        self._rank = rank
        self._workers = workers

    def normal(self, shape: torch.Size) -> Tensor:
        """This worker's rows of N(0, 1) draws for the global minibatch."""
        return self._own_rows(torch.randn(self._global(shape), generator=self._generator, device=self._device), shape)

    def uniform(self, shape: torch.Size) -> Tensor:
        """This worker's rows of U[0, 1) draws for the global minibatch."""
        return self._own_rows(torch.rand(self._global(shape), generator=self._generator, device=self._device), shape)

    @property
    def _device(self) -> torch.device:
        return self._generator.device

    def _global(self, shape: torch.Size) -> tuple[int, ...]:
        return (shape[0] * self._workers, *shape[1:])

    def _own_rows(self, draws: Tensor, shape: torch.Size) -> Tensor:
        return draws[self._rank * shape[0] : (self._rank + 1) * shape[0]]


class CommonNoise:
    """Prediction noise: the same numbers for every example (common random numbers).

    What is predicted for an example then does not depend on the minibatch or the worker it was scored in, and the
    differences between examples are free of sampling noise. Make a new one, from the same seed, for each minibatch.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def normal(self, shape: torch.Size) -> Tensor:
        """N(0, 1) draws of shape [1, ...], one set for all examples."""
        return torch.randn((1, *shape[1:]), generator=self._generator, device=self._generator.device)

    def uniform(self, shape: torch.Size) -> Tensor:
        """U[0, 1) draws of shape [1, ...], one set for all examples."""
        return torch.rand((1, *shape[1:]), generator=self._generator, device=self._generator.device)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator with the given seed (see `al_dgm.seeding.integer_seed`)."""
    return torch.Generator(device=device).manual_seed(seed)
