"""scikit-learn's digits: 1797 images of 8 × 8, each pixel the number of black cells among 4 × 4."""

from __future__ import annotations

from typing import Literal

import numpy as np

from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import ConfigError
from al_dgm.seeding import rng


def digits(seed: int, holdout: int = 597, observation: Literal["binomial", "bernoulli"] = "binomial") -> RawData:
    """The digits, ``holdout`` of them drawn at random for measuring.

    Args:
        seed: decides which examples are held out.
        holdout: how many are held out.
        observation: ``binomial``, counts out of 16, which is what the pixels are; or ``bernoulli``, binarised anew in
            every training step.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to import

    bunch = load_digits()
    n = len(bunch.target)
    if not 0 < holdout < n:
        raise ConfigError(f"data.digits.holdout: expected 1 to {n - 1}, got {holdout}")
    held = np.zeros(n, dtype=bool)
    held[rng(seed, "holdout").choice(n, holdout, replace=False)] = True
    return RawData(
        name="digits",
        ids=np.array([f"digits-{i:04d}" for i in range(n)]),
        features=bunch.data.astype(np.uint8),
        labels=bunch.target.astype(str).astype(object),
        holdout=held,
        shape=(8, 8),
        classes=tuple("0123456789"),
        observation=Observation(kind=observation, trials=16 if observation == "binomial" else 1),
        sd=16.0,
    )
