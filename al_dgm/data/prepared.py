"""The prepared form of a data set: what every later stage reads, whatever the data were.

    pool/00000.parquet …   id, x          shuffled once; x as stored, a fixed-size list of uint8 or float32
    holdout.parquet        id, x, label
    truth.parquet          id, label      the pool's hidden labels: for the simulated oracle and the seed set only
    dataset.json           everything else: sizes, shape, classes, observation model, scale

Model space is (stored − mean) / sd.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import DataError
from al_dgm.files import read_table, write_atomically, write_table
from al_dgm.registry import describe
from al_dgm.seeding import rng


class Scale(BaseModel):
    """Model space is (stored − mean) / sd; one number each, or one per feature."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: tuple[float, ...]
    sd: tuple[float, ...]


class DatasetInfo(BaseModel):
    """dataset.json."""

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
    """Write the prepared form of ``raw`` into ``folder``, replacing what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    pool = np.flatnonzero(~raw.holdout)
    # A pool sorted by class would sort minibatches and shards by class too.
    pool = pool[rng(seed, "pool order").permutation(len(pool))]
    for number, rows in enumerate(np.split(pool, range(shard_size, len(pool), shard_size))):
        write_table(folder / "pool" / f"{number:05d}.parquet", _table(raw, rows, labels=False))
    write_table(folder / "holdout.parquet", _table(raw, np.flatnonzero(raw.holdout), labels=True))
    known = pool[[raw.labels[row] is not None for row in pool]]
    write_table(folder / "truth.parquet", _table(raw, known, labels=True).drop_columns(["x"]))
    info = _describe(raw, pool)
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
    """The whole pool, in memory."""
    shards = list(iter_pool(folder))
    if not shards:
        raise DataError(f"{folder / 'pool'}: no shards here; `dvc repro prepare` makes them")
    return Pool(np.concatenate([s.ids for s in shards]), np.concatenate([s.x for s in shards]))


def load_ids(folder: Path) -> np.ndarray:
    """The pool's ids alone, [N]."""
    return _ids(read_table(folder / "pool", ["id"]))


def load_holdout(folder: Path, info: DatasetInfo) -> Holdout:
    """The holdout, labels as class indices."""
    table = read_table(folder / "holdout.parquet", ["id", "x", "label"])
    index = {name: i for i, name in enumerate(info.classes)}
    labels = np.array([index[name] for name in table["label"].to_pylist()], dtype=np.int64)
    return Holdout(_ids(table), _features(table, info), labels)


def load_truth(folder: Path) -> dict[str, str]:
    """The pool's hidden labels, id -> class name. For the simulated oracle and the seed set only."""
    table = read_table(folder / "truth.parquet", ["id", "label"])
    return dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))


def _describe(raw: RawData, pool: np.ndarray) -> DatasetInfo:
    stored = raw.features[pool].astype(np.float64)
    mean = np.atleast_1d(stored.mean(0) if raw.mean is None else raw.mean)
    spread = stored.std(0)
    # A constant feature carries nothing: dividing by one leaves it at zero.
    sd = np.atleast_1d(np.where(spread > 0, spread, 1.0) if raw.sd is None else raw.sd)
    x = (stored - mean) / sd
    return DatasetInfo(
        name=raw.name,
        examples=len(pool),
        holdout=int(raw.holdout.sum()),
        shape=raw.shape,
        classes=raw.classes,
        feature_names=raw.feature_names,
        observation=raw.observation,
        scale=Scale(mean=tuple(mean.tolist()), sd=tuple(sd.tolist())),
        centre=float(x.mean()),
        spread=float(x.std()) or 1.0,
    )


def _table(raw: RawData, rows: np.ndarray, *, labels: bool) -> pa.Table:
    features = np.ascontiguousarray(raw.features[rows])
    columns = {
        "id": pa.array(raw.ids[rows].tolist(), pa.string()),
        "x": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1]),
    }
    if labels:
        columns["label"] = pa.array(raw.labels[rows].tolist(), pa.string())
    return pa.table(columns)


def _ids(table: pa.Table) -> np.ndarray:
    ids: Sequence[str] = table["id"].to_pylist()
    return np.array(ids, dtype=str)


def _features(table: pa.Table, info: DatasetInfo) -> np.ndarray:
    flat = table["x"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    stored = flat.reshape(table.num_rows, -1).astype(np.float32)
    mean, sd = np.array(info.scale.mean, np.float32), np.array(info.scale.sd, np.float32)
    return np.asarray((stored - mean) / sd, dtype=np.float32)
