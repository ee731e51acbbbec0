"""Fashion-MNIST: 70000 articles of clothing, 28 × 28 grey values (Xiao, Rasul and Vollgraf 2017)."""

from __future__ import annotations

from al_dgm.data.published import load_published
from al_dgm.data.raw import RawData


def fashion_mnist(
    seed: int,  # noqa: ARG001 - the split is the published one
    folder: str = "data/raw/fashion_mnist",
) -> RawData:
    """The 60000 published training images as the pool, the 10000 test images as the holdout.

    Grey values / 255 are probabilities: binarised anew in every training step.

    Args:
        seed: decides nothing here.
        folder: of the four IDX files, plain or .gz; `al-dgm data fetch fashion_mnist` fills it. If relative, then to
            the user's working copy.

    Raises:
        DataError: a file is missing or is not IDX.
        ChecksumError: a file is not the published one.
    """
    return load_published("fashion_mnist", folder)
