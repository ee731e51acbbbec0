"""Selectors: which candidates a query takes, given their scores.

``top_k`` takes the largest. The stochastic ones draw without replacement by the Gumbel-top-k trick (Kirsch et al.
2023, "Stochastic batch acquisition"): add independent Gumbel noise G to a log-weight and take the largest,

    softmax    β s + G              power    β log s + G              softrank    −β log rank + G

which spreads a query over the pool where ``top_k`` would buy near-copies. β → ∞ is ``top_k``, β = 0 is random.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Protocol

import numpy as np
from pydantic import Field

Beta = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scores = np.ndarray  # [N], float64, finite


class Selector(Protocol):
    """Chooses positions by score.

    Attributes:
        nonnegative: whether it refuses scores below 0.
    """

    nonnegative: ClassVar[bool]

    def __call__(self, scores: Scores, size: int, rng: np.random.Generator) -> np.ndarray:
        """``size`` distinct positions in the order of choice; ``size`` ≤ N."""
        ...


class TopK:
    """The largest scores; ties in random order."""

    nonnegative: ClassVar[bool] = False

    def __call__(self, scores: Scores, size: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of the ``size`` largest scores, best first."""
        return _largest(scores, size, rng)


class Softmax:
    """Draws in proportion to exp(β s)."""

    nonnegative: ClassVar[bool] = False

    def __init__(self, beta: Beta = 8.0) -> None:
        self.beta = beta

    def __call__(self, scores: Scores, size: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of the largest β s + G."""
        return _largest(self.beta * scores + rng.gumbel(size=scores.shape), size, rng)


class Power:
    """Draws in proportion to s^β; a score of 0 comes after every positive one. Scores must not be negative."""

    nonnegative: ClassVar[bool] = True

    def __init__(self, beta: Beta = 8.0) -> None:
        self.beta = beta

    def __call__(self, scores: Scores, size: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of the largest β log s + G.

        Raises:
            ValueError: a score is negative, so that it has no power; softmax or softrank takes any score.
        """
        if (scores < 0).any():
            raise ValueError(
                f"selector 'power' needs scores >= 0, got {scores.min():.4g}; softmax and softrank take any score"
            )
        positive = scores > 0
        keys = np.full(scores.shape, -np.inf)
        keys[positive] = self.beta * np.log(scores[positive]) + rng.gumbel(size=int(positive.sum()))
        return _largest(keys, size, rng)


class Softrank:
    """Draws in proportion to rank^−β, the best score having rank 1: the scores' scale does not matter."""

    nonnegative: ClassVar[bool] = False

    def __init__(self, beta: Beta = 1.0) -> None:
        self.beta = beta

    def __call__(self, scores: Scores, size: int, rng: np.random.Generator) -> np.ndarray:
        """Positions of the largest −β log rank + G."""
        order = _largest(scores, len(scores), rng)
        rank = np.empty(len(scores))
        rank[order] = np.arange(1, len(scores) + 1)
        return _largest(-self.beta * np.log(rank) + rng.gumbel(size=scores.shape), size, rng)


def _largest(keys: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of the ``size`` largest keys, best first; equal keys in random order."""
    return np.lexsort((rng.random(len(keys)), -keys))[:size]
