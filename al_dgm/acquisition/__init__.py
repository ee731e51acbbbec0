"""Acquisition = score × selector, each by the name that params.yaml gives it. To add one: its class, and its line."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from al_dgm.acquisition.evidence import Evidence, Moments, Needs
from al_dgm.acquisition.scores import BALD, ELBO, Entropy, Margin, Random, Score
from al_dgm.acquisition.selectors import Power, Selector, Softmax, Softrank, TopK
from al_dgm.errors import ConfigError, NonFiniteScoreError, PoolExhaustedError

SCORES: dict[str, Callable[..., Score]] = {
    "bald": BALD,
    "elbo": ELBO,
    "entropy": Entropy,
    "margin": Margin,
    "random": Random,
}
SELECTORS: dict[str, Callable[..., Selector]] = {
    "power": Power,
    "softmax": Softmax,
    "softrank": Softrank,
    "top_k": TopK,
}


def select(
    ids: Sequence[str], scores: np.ndarray, selector: Selector, size: int, rng: np.random.Generator
) -> list[tuple[str, float]]:
    """The (id, score) pairs that a query asks for, in the order of choice.

    Raises:
        PoolExhaustedError: fewer candidates than ``size``.
        NonFiniteScoreError: a score is NaN or infinite; names up to five ids.
        ConfigError: the selector cannot take these scores.
    """
    if len(ids) < size:
        raise PoolExhaustedError(requested=size, available=len(ids))
    broken = np.flatnonzero(~np.isfinite(scores))
    if broken.size:
        named = ", ".join(f"{ids[i]} ({scores[i]})" for i in broken[:5])
        raise NonFiniteScoreError(f"{broken.size} of {len(ids)} scores are not finite: {named}")
    try:
        positions = selector(scores, size, rng)
    except ValueError as error:
        raise ConfigError(f"acquisition.selector: {error}") from None
    return [(ids[i], float(scores[i])) for i in positions]


__all__ = ["SCORES", "SELECTORS", "Evidence", "Moments", "Needs", "Score", "Selector", "select"]
