"""The prepared form of a data set: what every later stage reads, whatever the data were.

    pool/00000.parquet …   id, x          shuffled once; x as stored, a fixed-size list of uint8 or float32
    holdout.parquet        id, x, label
    truth.parquet          id, label      the pool's hidden labels: for the simulated oracle and the seed set only
    dataset.json           everything else: sizes, shape, classes, observation model, scale

Model space is (stored − mean) / sd.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import ConfigError, DataError
from al_dgm.files import read_table, write_atomically, write_table
from al_dgm.registry import describe
from al_dgm.seeding import rng
from al_dgm.shapes import image_shape

CHUNK = 4096  # rows at a time in float64


class Scale(BaseModel):
    """Model space is (stored − mean) / sd; one number each, or one per feature."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: tuple[float, ...]
    sd: tuple[float, ...]


class DatasetInfo(BaseModel):
    """dataset.json.

    Attributes:
        name: of the data set.
        examples: in the pool.
        holdout: examples in the holdout.
        shape: of one example.
        classes: class names in the order of the model's outputs.
        feature_names: of the columns, where they have names.
        observation: how x is observed.
        scale: from stored values to model space.
        centre: mean over all features of the pool, in model space.
        spread: standard deviation over all features of the pool, in model space; 1 where all are the same.
        labelled: examples of the pool whose label is known, if hidden.
        permanent_ids: whether an id means the same example for ever.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    examples: int
    holdout: int
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    feature_names: tuple[str, ...] | None
    observation: Observation
    scale: Scale
    centre: float
    spread: float
    labelled: int
    permanent_ids: bool

    def model_space(self) -> str:
        """Twelve hex digits of what x means in model space: which features, and by which scale."""
        plain = [self.feature_names, self.scale.mean, self.scale.sd]
        return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Pool:
    """ids [N], and x [N, D] float32 in model space."""

    ids: np.ndarray
    x: np.ndarray


@dataclass(frozen=True)
class Holdout:
    """ids [N], x [N, D] float32 in model space, labels [N] class indices."""

    ids: np.ndarray
    x: np.ndarray
    labels: np.ndarray


def prepare(raw: RawData, folder: Path, shard_size: int, seed: int) -> DatasetInfo:
    """Write the prepared form of ``raw`` into ``folder``, replacing the one that is there.

    Args:
        raw: checked examples, pool and holdout.
        folder: of the prepared form.
        shard_size: rows in one Parquet file of the pool; the last may have fewer.
        seed: decides the pool's order.

    Returns:
        What dataset.json says.

    Raises:
        ConfigError: ``shard_size`` is below 1.
    """
    if shard_size < 1:
        raise ConfigError(f"data.shard_size: expected at least 1, got {shard_size}")
    _remove(folder)
    pool = np.flatnonzero(~raw.holdout)
    # A pool sorted by class would sort minibatches and shards by class too.
    pool = pool[rng(seed, "pool order").permutation(len(pool))]
    for number, start in enumerate(range(0, len(pool), shard_size)):
        shard = _columns(raw, pool[start : start + shard_size], "id", "x")
        write_table(folder / "pool" / f"{number:05d}.parquet", shard)
    write_table(folder / "holdout.parquet", _columns(raw, np.flatnonzero(raw.holdout), "id", "x", "label"))
    known = pool[~pd.isna(raw.labels[pool])]
    write_table(folder / "truth.parquet", _columns(raw, known, "id", "label"))
    info = _describe(raw, pool)
    # Last, so that where dataset.json is, the rest is too.
    write_atomically(folder / "dataset.json", (info.model_dump_json(indent=2) + "\n").encode())
    return info


def load_info(folder: Path) -> DatasetInfo:
    """What dataset.json says.

    Raises:
        DataError: the data are not prepared, or the file is damaged.
    """
    try:
        return DatasetInfo.model_validate(json.loads((folder / "dataset.json").read_text()))
    except FileNotFoundError:
        raise DataError(f"{folder}: no prepared data here; `dvc repro prepare` makes them") from None
    except ValidationError as error:
        raise DataError(f"{folder / 'dataset.json'}: {describe(error)}") from None
    except ValueError as error:
        raise DataError(f"{folder / 'dataset.json'}: not valid JSON: {error}") from None


def iter_pool(folder: Path) -> Iterator[Pool]:
    """The pool shard by shard, for pools larger than memory."""
    info = load_info(folder)
    for path in sorted((folder / "pool").glob("*.parquet")):
        table = read_table(path, ["id", "x"])
        yield Pool(_ids(table), _features(table, info))


def load_pool(folder: Path) -> Pool:
    """The whole pool, in memory: 4 D bytes for each example.

    Raises:
        DataError: the data are not prepared, or shards are missing.
    """
    info = load_info(folder)
    # Filled shard by shard: joining the shards in the end would hold the pool twice.
    x = np.empty((info.examples, math.prod(info.shape)), np.float32)
    ids: list[np.ndarray] = []
    filled = 0
    for shard in iter_pool(folder):
        place = x[filled : filled + len(shard.ids)]
        place[:] = shard.x[: len(place)]
        ids.append(shard.ids)
        filled += len(shard.ids)
    if filled != info.examples:
        raise DataError(
            f"{folder / 'pool'}: expected {info.examples} examples, got {filled}; "
            "`dvc repro --force prepare` makes them anew"
        )
    return Pool(np.concatenate(ids), x)


def load_ids(folder: Path) -> np.ndarray:
    """The pool's ids alone, [N].

    Raises:
        DataError: the data are not prepared.
    """
    return _ids(_read(folder / "pool", "id"))


def load_holdout(folder: Path, info: DatasetInfo) -> Holdout:
    """The holdout, labels as class indices.

    Raises:
        DataError: the file is missing or damaged, or a label is none of ``info.classes``.
    """
    path = folder / "holdout.parquet"
    table = _read(path, "id", "x", "label")
    names = np.array(table["label"].to_pylist(), dtype=object)
    labels = pd.Index(info.classes, dtype=object).get_indexer(pd.Index(names, dtype=object)).astype(np.int64)
    if (labels < 0).any():
        raise DataError(f"{path}: expected labels among {list(info.classes)}, got '{names[labels.argmin()]}'")
    return Holdout(_ids(table), _features(table, info), labels)


def load_truth(folder: Path) -> dict[str, str]:
    """The pool's hidden labels, id -> class name. For the simulated oracle and the seed set only.

    Raises:
        DataError: the data are not prepared.
    """
    table = _read(folder / "truth.parquet", "id", "label")
    return dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))


def _remove(folder: Path) -> None:
    """Remove the prepared form from ``folder``, and nothing else that somebody may keep there."""
    for name in ("dataset.json", "holdout.parquet", "truth.parquet"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "pool", ignore_errors=True)


def _read(path: Path, *columns: str) -> pa.Table:
    if not path.exists():
        raise DataError(f"{path}: file not found; `dvc repro prepare` makes it")
    return read_table(path, list(columns))


def _describe(raw: RawData, pool: np.ndarray) -> DatasetInfo:
    own_mean, own_sd = _moments(raw.features, pool)
    mean, sd = _scale(raw, own_mean, own_sd)
    # Over all features together: the mean of the means, and the mean of the variances plus the variance of the means.
    means, variances = (own_mean - mean) / sd, (own_sd / sd) ** 2
    return DatasetInfo(
        name=raw.name,
        examples=len(pool),
        holdout=int(raw.holdout.sum()),
        shape=raw.shape,
        classes=raw.classes,
        feature_names=raw.feature_names,
        observation=raw.observation,
        scale=Scale(mean=tuple(mean.tolist()), sd=tuple(sd.tolist())),
        centre=float(means.mean()),
        spread=math.sqrt(variances.mean() + means.var()) or 1.0,
        labelled=int((~pd.isna(raw.labels[pool])).sum()),
        permanent_ids=raw.permanent_ids,
    )


def _scale(raw: RawData, mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is subtracted and what divides, of the features' moments where ``raw`` does not say."""
    if raw.observation.kind == "quantised":
        mean, sd = _of_channels(raw.shape, mean, sd)
    # A constant feature carries nothing: dividing by one leaves it at zero.
    sd = np.where(sd > 0, sd, 1.0)
    return np.atleast_1d(mean if raw.mean is None else raw.mean), np.atleast_1d(sd if raw.sd is None else raw.sd)


def _of_channels(shape: Sequence[int], mean: np.ndarray, sd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each feature's channel, [D], and one standard deviation of all features from those.

    A pixel that hardly varies would be blown up by its own; and with one for all a step is the same everywhere.
    """
    image, grid = image_shape(shape), mean.reshape(shape)
    positions = (1, 2) if image is not None and image.channels_first else (0, 1)
    means = np.broadcast_to(grid.mean(positions, keepdims=True), shape).ravel()
    return means, np.sqrt((sd**2 + (mean - means) ** 2).mean())


def _moments(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over ``rows``, both [D], in float64; exactly 0 where constant.

    In chunks, since the whole pool in float64 would be up to eight times as large as it is stored; the variance in a
    second pass about the mean, so that large values do not cancel. A constant's sum is exact: 24 bits fit into 53.
    """
    chunks = np.array_split(rows, -(-len(rows) // CHUNK))
    mean = sum(features[chunk].sum(0, dtype=np.float64) for chunk in chunks) / len(rows)
    variance = sum(((features[chunk] - mean) ** 2).sum(0) for chunk in chunks) / len(rows)
    return mean, np.sqrt(variance)


def _columns(raw: RawData, rows: np.ndarray, *names: str) -> pa.Table:
    """The columns ``id``, ``x`` and ``label`` that are named, of ``rows``."""
    makers = {
        "id": lambda: pa.array(raw.ids[rows], pa.string()),
        "x": lambda: pa.FixedSizeListArray.from_arrays(pa.array(raw.features[rows].ravel()), raw.features.shape[1]),
        "label": lambda: pa.array(raw.labels[rows], pa.string()),
    }
    return pa.table({name: makers[name]() for name in names})


def _ids(table: pa.Table) -> np.ndarray:
    ids: Sequence[str] = table["id"].to_pylist()
    return np.array(ids, dtype=str)


def _features(table: pa.Table, info: DatasetInfo) -> np.ndarray:
    """x of ``table`` in model space, [N, D] float32."""
    flat = table["x"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    x: np.ndarray = flat.reshape(table.num_rows, -1).astype(np.float32)
    x -= np.array(info.scale.mean, np.float32)
    x /= np.array(info.scale.sd, np.float32)
    return x
