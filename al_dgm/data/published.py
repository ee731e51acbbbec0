"""Data sets published as four IDX files: their checksums, and what makes `RawData` of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from al_dgm.data.idx import parse_idx, read_content
from al_dgm.data.paths import in_working_copy
from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import ChecksumError, DataError

TRAIN, TEST = "train", "t10k"  # the publishers' prefixes of pool and holdout


@dataclass(frozen=True)
class Published:
    """One such data set.

    Attributes:
        name: in params.yaml and in `al-dgm data fetch`.
        classes: class names; the label byte c means ``classes[c]``.
        sha256: file name -> SHA-256 of the uncompressed content, since carriers compress differently.
    """

    name: str
    classes: tuple[str, ...]
    sha256: Mapping[str, str]

    @property
    def folder(self) -> str:
        """Where the files lie by default, relative to the working copy."""
        return f"data/raw/{self.name}"


# The MD5 sums that the publishers and torchvision give are of gzip files whose content has these sums.
PUBLISHED = {
    "mnist": Published(
        name="mnist",
        classes=tuple("0123456789"),
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": Published(
        name="fashion_mnist",
        classes=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        sha256={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
}


def find_file(folder: Path, name: str) -> Path | None:
    """``name`` in ``folder``, plain or with .gz; None where there is neither."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def check(content: bytes, expected: str, source: Path) -> None:
    """Whether ``content`` has the SHA-256 ``expected``.

    Raises:
        ChecksumError: it has another one.
    """
    got = hashlib.sha256(content).hexdigest()
    if got != expected:
        raise ChecksumError(
            f"{source}: expected the published file with SHA-256 {expected[:12]}… of its content, got {got[:12]}…"
        )


def load_published(name: str, folder: str) -> RawData:
    """The published training set as the pool, the published test set as the holdout; grey values out of 255.

    Raises:
        DataError: a file is missing (and which command fetches it), is not IDX, or disagrees with another one.
        ChecksumError: a file is not the published one.
    """
    published, place = PUBLISHED[name], in_working_copy(folder)
    train, test = (_load_part(published, place, part) for part in (TRAIN, TEST))
    images = np.concatenate([train[0], test[0]])
    labels = np.concatenate([train[1], test[1]])
    n_train, shape = len(train[0]), images.shape[1:]
    stem = name.replace("_", "-")
    ids = [f"{stem}-train-{i:05d}" for i in range(n_train)] + [f"{stem}-test-{i:05d}" for i in range(len(test[0]))]
    return RawData(
        name=name,
        ids=np.array(ids),
        features=images.reshape(len(images), -1),
        labels=np.array(published.classes, dtype=object)[labels],
        holdout=np.arange(len(images)) >= n_train,
        shape=shape,
        classes=published.classes,
        observation=Observation(kind="bernoulli"),
        sd=255.0,
    )


def _load_part(published: Published, folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, height, width] and labels [N] of one part."""
    images = _load(published, folder, f"{part}-images-idx3-ubyte", 3)
    labels = _load(published, folder, f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise DataError(f"{folder}: {part}: expected {len(images)} labels, one for each image, got {len(labels)}")
    if labels.size and labels.max() >= len(published.classes):
        raise DataError(f"{folder}: {part}: expected labels 0 to {len(published.classes) - 1}, got {labels.max()}")
    return images, labels


def _load(published: Published, folder: Path, name: str, dimensions: int) -> np.ndarray:
    path = find_file(folder, name)
    if path is None:
        raise DataError(
            f"{folder}: expected the file {name}, plain or .gz, got none; "
            f"`al-dgm data fetch {published.name}` fetches it"
        )
    content = read_content(path)
    # First the format: "truncated" says more than a checksum does.
    values = parse_idx(content, dimensions, path)
    check(content, published.sha256[name], path)
    return values
