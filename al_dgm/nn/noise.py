"""Where a model's random numbers come from.

A model never touches a generator. It asks a `Noise` for standard normals or uniforms of some shape [..., rows, F],
whose rows are examples or (example, class) pairs (`al_dgm.nn.pairs`), and the kind of noise decides what that means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

EDGE = 1e-9  # a point at 0 or 1 would be infinitely far out


class Noise(Protocol):
    """Standard normal and uniform numbers for tensors of shape [..., rows, F]."""

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
        return self._own_rows(torch.randn, shape)

    def uniform(self, shape: torch.Size) -> Tensor:
        """This worker's rows of U[0, 1) draws for the global minibatch."""
        return self._own_rows(torch.rand, shape)

    def _own_rows(self, draw: Callable[..., Tensor], shape: torch.Size) -> Tensor:
        rows = shape[-2]
        whole = (*shape[:-2], rows * self._workers, shape[-1])
        draws = draw(whole, generator=self._generator, device=self._generator.device)
        return draws.narrow(-2, self._rank * rows, rows)


class JoinedNoise:
    """Noise for one pass over two sets of examples, each with a source of its own: first unlabelled, then labelled.

    Rows are the examples of both, or the pairs of both. A labelled example has one pair, or where ``enumerated`` as
    many as an unlabelled one.
    """

    def __init__(self, unlabelled: Noise, labelled: Noise, sizes: tuple[int, int], *, enumerated: bool = False) -> None:
        self._sources = (unlabelled, labelled)
        self._sizes = sizes
        self._enumerated = enumerated

    def normal(self, shape: torch.Size) -> Tensor:
        """N(0, 1) draws."""
        return self._joined("normal", shape)

    def uniform(self, shape: torch.Size) -> Tensor:
        """U[0, 1) draws."""
        return self._joined("uniform", shape)

    def _joined(self, kind: str, shape: torch.Size) -> Tensor:
        labelled = self._labelled_rows(shape[-2])
        parts = [
            getattr(source, kind)(torch.Size([*shape[:-2], rows, shape[-1]]))
            for source, rows in zip(self._sources, (shape[-2] - labelled, labelled), strict=True)
            if rows
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)

    def _labelled_rows(self, rows: int) -> int:
        unlabelled, labelled = self._sizes
        if self._enumerated or not unlabelled:
            return rows * labelled // (unlabelled + labelled)
        return labelled


class CommonNoise:
    """Prediction noise: the same numbers for every example (common random numbers).

    What is predicted for an example then does not depend on the minibatch or the worker it was scored in. Make a new
    one, from the same seed, for each minibatch. An error in common does not average out over examples, so the S latent
    samples [S, rows, Z] are a scrambled Sobol' sequence in Z dimensions, which is unbiased (Owen 1997) and fills the
    space: 16 of its points estimate the difference between two classes' bounds better than 50 independent ones.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator

    def normal(self, shape: torch.Size) -> Tensor:
        """N(0, 1) draws for ``shape`` [S, rows, Z]: [S, 1, Z], one set for all examples and classes."""
        samples, dimensions = shape[0], shape[-1]
        seed = int(torch.randint(2**31, (), generator=self._generator, device=self._generator.device))
        points = SobolEngine(dimensions, scramble=True, seed=seed).draw(samples, dtype=torch.float64)
        # Without another order, two draws of one model would walk through their spaces together.
        order = torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
        normal: Tensor = torch.special.ndtri(points[order].clamp(EDGE, 1 - EDGE))
        return normal.to(self._generator.device, torch.float32).view(samples, 1, dimensions)

    def uniform(self, shape: torch.Size) -> Tensor:
        """U[0, 1) draws for ``shape`` [..., rows, F]: [..., 1, F], one set for all examples."""
        return torch.rand((*shape[:-2], 1, shape[-1]), generator=self._generator, device=self._generator.device)


class SampleNoise:
    """Independent numbers for S latent samples, sample s from a stream of its own.

    So what is computed of many samples does not depend on how many of them are drawn at a time.
    """

    def __init__(self, seed: int, samples: range, device: torch.device | str = "cpu") -> None:
        self._streams = [generator((seed + s) % 2**63, device) for s in samples]

    def normal(self, shape: torch.Size) -> Tensor:
        """N(0, 1) draws for ``shape`` [S, rows, Z]."""
        return torch.stack([torch.randn(shape[1:], generator=g, device=g.device) for g in self._streams])

    def uniform(self, shape: torch.Size) -> Tensor:
        """U[0, 1) draws for ``shape`` [S, rows, F]."""
        return torch.stack([torch.rand(shape[1:], generator=g, device=g.device) for g in self._streams])


class RecordedNoise:
    """Another noise, and what was asked of it."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self.asked: list[tuple[str, torch.Size]] = []

    def normal(self, shape: torch.Size) -> Tensor:
        """N(0, 1) draws of the other noise."""
        self.asked.append(("normal", shape))
        return self._noise.normal(shape)

    def uniform(self, shape: torch.Size) -> Tensor:
        """U[0, 1) draws of the other noise."""
        self.asked.append(("uniform", shape))
        return self._noise.uniform(shape)


class DrawnNoise:
    """Numbers that were drawn beforehand, in the order in which they will be asked for.

    A compiled or captured step is a function of tensors: its random numbers have to come in from outside.

    Attributes:
        draws: all of them.
    """

    def __init__(self, draws: Sequence[Tensor]) -> None:
        self.draws = tuple(draws)
        self._next = 0

    @classmethod
    def as_asked(cls, noise: Noise, asked: Sequence[tuple[str, torch.Size]]) -> DrawnNoise:
        """What ``noise`` would give in answer to what a `RecordedNoise` was asked."""
        return cls([noise.normal(shape) if kind == "normal" else noise.uniform(shape) for kind, shape in asked])

    def normal(self, shape: torch.Size) -> Tensor:  # noqa: ARG002 - the shape it was drawn in
        """The next draw."""
        self._next += 1
        return self.draws[self._next - 1]

    uniform = normal


class NoNoise:
    """Every draw at its mean: what is left is a function of the input."""

    def normal(self, shape: torch.Size) -> Tensor:  # noqa: ARG002 - the same for every shape
        """Zero."""
        return torch.zeros(())

    def uniform(self, shape: torch.Size) -> Tensor:  # noqa: ARG002 - the same for every shape
        """A half."""
        return torch.full((), 0.5)


class CommonDraws:
    """Repeats the first pass's draws in every later pass, so that two passes differ by their input alone."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._kept: list[Tensor] = []
        self._next = 0

    def again(self) -> CommonDraws:
        """Start over from the first draw."""
        self._next = 0
        return self

    def normal(self, shape: torch.Size) -> Tensor:
        """The kept draw, or a new one where none is kept yet."""
        return self._draw(self._noise.normal, shape)

    def uniform(self, shape: torch.Size) -> Tensor:
        """The kept draw, or a new one where none is kept yet."""
        return self._draw(self._noise.uniform, shape)

    def _draw(self, fresh: Callable[[torch.Size], Tensor], shape: torch.Size) -> Tensor:
        if self._next == len(self._kept):
            self._kept.append(fresh(shape))
        self._next += 1
        return self._kept[self._next - 1]


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator with the given seed (see `al_dgm.seeding.integer_seed`)."""
    return torch.Generator(device=device).manual_seed(seed)
