"""MNIST: 70000 handwritten digits, 28 × 28 grey values (LeCun, Bottou, Bengio and Haffner 1998)."""

from __future__ import annotations

from al_dgm.data.published import load_published
from al_dgm.data.raw import RawData


def mnist(seed: int, folder: str = "data/raw/mnist") -> RawData:  # noqa: ARG001 - the split is the published one
    """The 60000 published training images as the pool, the 10000 test images as the holdout.

    Grey values / 255 are probabilities: binarised anew in every training step.

    Args:
        seed: decides nothing here.
        folder: of the four IDX files, plain or .gz; `al-dgm data fetch mnist` fills it. If relative, then to the
            user's working copy.

    Raises:
        DataError: a file is missing or is not IDX.
        ChecksumError: a file is not the published one.
    """
    return load_published("mnist", folder)
