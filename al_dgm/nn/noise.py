"""Where a model's random numbers come from: two sources with one method.

A model never touches a generator. It asks a `Noise` for standard normals or uniforms of some shape whose first
dimension is the minibatch, and the kind of noise decides what that means.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

EDGE = 1e-9  # a point at 0 or 1 would be infinitely far out


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

    What is predicted for an example then does not depend on the minibatch or the worker it was scored in. Make a new
    one, from the same seed, for each minibatch. An error in common does not average out over examples, so the S latent
    samples [B, S, ..., Z] are a scrambled Sobol' sequence in Z dimensions, which is unbiased (Owen 1997) and fills the
    space: 16 of its points estimate the difference between two classes' bounds better than 50 independent ones.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def normal(self, shape: torch.Size) -> Tensor:
        """N(0, 1) draws for ``shape`` [B, S, ..., Z]: [1, S, 1, ..., Z], one set for all examples and classes."""
        samples, dimensions, between = shape[1], shape[-1], [1] * (len(shape) - 3)
        seed = int(torch.randint(2**31, (), generator=self._generator, device=self._generator.device))
        points = SobolEngine(dimensions, scramble=True, seed=seed).draw(samples, dtype=torch.float64)
        # Without another order, two draws of one model would walk through their spaces together.
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
        normal: Tensor = torch.special.ndtri(points[order].clamp(EDGE, 1 - EDGE))
        return normal.to(self._generator.device, torch.float32).view(1, samples, *between, dimensions)

    def uniform(self, shape: torch.Size) -> Tensor:
        """U[0, 1) draws of shape [1, ...], one set for all examples."""
        return torch.rand((1, *shape[1:]), generator=self._generator, device=self._generator.device)


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator with the given seed (see `al_dgm.seeding.integer_seed`)."""
    return torch.Generator(device=device).manual_seed(seed)
