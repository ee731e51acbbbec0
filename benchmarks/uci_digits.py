"""Digits that no result is measured on, to choose recipes with.

The 3823 training digits of UCI's "Optical Recognition of Handwritten Digits", by 30 writers: the same kind of image as
scikit-learn's digits, which are the test digits of that collection, by 13 other writers. No example here is in a
holdout of the benchmarks that report results.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from digits_data import Split, prepare_split

from al_dgm.config import Params
from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import ChecksumError, DataError
from al_dgm.seeding import rng

EXAMPLES, POOL, HOLDOUT = 3823, 1200, 600
# Of the rows in ascending order, since copies differ in their order.
SORTED_SHA256 = "38d5b9afbd4c9d4ea8d13edb46aa10f0fce3f03ffb8f0165fe9a8885bdf3c96e"


def add_data_option(made: argparse.ArgumentParser) -> None:
    """``--data``, the file that `development_split` reads."""
    made.add_argument("--data", type=lambda name: Path(name).resolve(), required=True, help="UCI's optdigits.tra")


def read_digits(path: Path) -> np.ndarray:
    """Rows of 64 counts and the digit, [3823, 65], in ascending order.

    Raises:
        DataError: the file is none of numbers.
        ChecksumError: it is not the published one.
    """
    try:
        rows = np.loadtxt(path, delimiter=",", dtype=np.uint8, ndmin=2)
    except ValueError as error:
        raise DataError(f"{path}: expected rows of 65 whole numbers: {error}") from None
    rows = rows[np.lexsort(rows.T[::-1])]
    if (found := hashlib.sha256(rows.tobytes()).hexdigest()) != SORTED_SHA256:
        raise ChecksumError(f"{path}: expected the {EXAMPLES} published rows, got others (sha256 {found[:12]}…)")
    return rows


def development_split(path: Path, params: Params) -> Split:
    """The pool and the holdout of ``params.seed``."""
    rows = read_digits(path)
    chosen = rng(params.seed, "development").choice(EXAMPLES, POOL + HOLDOUT, replace=False)
    raw = RawData(
        name="optdigits",
        ids=np.array([f"optdigits-{i:04d}" for i in chosen]),
        features=rows[chosen, :-1],
        labels=rows[chosen, -1].astype(str).astype(object),
        holdout=np.arange(POOL + HOLDOUT) >= POOL,
        shape=(8, 8),
        classes=tuple("0123456789"),
        observation=Observation(kind="binomial", trials=16),
        sd=16.0,
    )
    return prepare_split(raw, params)
