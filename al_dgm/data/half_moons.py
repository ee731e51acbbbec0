"""Two interleaved half circles in the plane: the toy of the seeds (thesis figure 4.7, poster)."""

from __future__ import annotations

import hashlib
from typing import Annotated

import numpy as np
from pydantic import Field

from al_dgm.data.raw import Observation, RawData
from al_dgm.seeding import integer_seed


def half_moons(
    seed: int,
    examples: Annotated[int, Field(gt=1)] = 1000,
    holdout: Annotated[int, Field(gt=0)] = 500,
    noise: Annotated[float, Field(ge=0)] = 0.1,
) -> RawData:
    """``examples`` for the pool and ``holdout`` more, with Gaussian ``noise`` on the coordinates.

    Pool and holdout are draws of two different streams, so that they share no example.
    """
    from sklearn.datasets import make_moons  # noqa: PLC0415 - a second to import

    parts = [
        make_moons(n, noise=noise, random_state=integer_seed(seed, "half_moons", part) % 2**32)
        for part, n in (("pool", examples), ("holdout", holdout))
    ]
    total = examples + holdout
    # Other arguments make other points, which must not be taken for these.
    drawn = hashlib.sha256(f"{seed} {examples} {holdout} {noise!r}".encode()).hexdigest()[:4]
    return RawData(
        name="half_moons",
        ids=np.array([f"moons-{drawn}-{i:06d}" for i in range(total)]),
        features=np.concatenate([x for x, _ in parts]).astype(np.float32),
        labels=np.array(["upper", "lower"], dtype=object)[np.concatenate([y for _, y in parts])],
        holdout=np.arange(total) >= examples,
        shape=(2,),
        classes=("upper", "lower"),
        observation=Observation(kind="gaussian"),
        mean=None,
        sd=None,
        feature_names=("x", "y"),
    )
