"""Your own data: a table with one example in a row, as Parquet, CSV or NPZ (`al_dgm.data.columns` says how)."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from al_dgm.data.columns import as_features, as_names, read_columns
from al_dgm.data.paths import in_working_copy
from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import ConfigError, DataError

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
GAPS = {"NA", "N/A", "<NA>", "nan", "NaN", "null", "NULL", "None"}  # what programs write where there is nothing
Kind = Literal["gaussian", "quantised", "bernoulli", "binomial"]


@dataclass(frozen=True)
class _Part:
    """One file: where it lies, ids [N], labels [N] with None where unknown, features [N, D] and the D names.

    ``numbered``: whether the ids are only the rows' numbers.
    """

    path: Path
    ids: np.ndarray
    labels: np.ndarray
    features: np.ndarray
    names: tuple[str, ...]
    numbered: bool


@dataclass(frozen=True)
class _Columns:
    """Which columns of a file are what; all others are features where these are None."""

    id: str | None
    label: str
    features: Sequence[str] | None


def table(
    seed: int,
    path: str,
    id: str | None = None,  # noqa: A002 - the option's name in params.yaml
    label: str = "label",
    features: list[str] | None = None,
    holdout: float | str = 0.2,
    observation: Kind = "gaussian",
    trials: Annotated[int, Field(gt=0)] = 1,
    shape: list[Annotated[int, Field(gt=0)]] | None = None,
    classes: list[str] | None = None,
) -> RawData:
    """The rows of a user's file: a pool, and a holdout drawn from the rows whose label is known.

    Args:
        seed: decides which labelled rows are held out.
        path: of the file; if relative, then to the user's working copy.
        id: column of permanent ids. By default ``id`` where there is such a column, else the row's number: row-000001,
            which is good for simulation only, since a row inserted above would inherit the labels of its neighbour.
        label: column of class names, empty where nobody has labelled. Classes are in the order of their names, numbers
            in that of their values. If the holdout is a file, the pool may do without this column.
        features: columns of numbers, or of lists of numbers; by default all but ``id`` and ``label``.
        holdout: fraction of the labelled rows, or the path of a second table of the same form, all of it labelled.
        observation: ``gaussian``: real numbers, standardised by the pool's mean and standard deviation;
            ``quantised``: whole numbers that stand for real ones, such as the bytes of colour images: noise of one step
            is added in every draw, and they are scaled by their channels' means and one standard deviation;
            ``bernoulli``: from 0 to 1, or unsigned bytes out of 255, binarised anew in every training step;
            ``binomial``: counts out of ``trials``.
        trials: of ``binomial``.
        shape: of one example where it is an image, as [height, width], or with its channels first or last; by default a
            row of D numbers.
        classes: all class names in the order of the model's outputs: for classes that nobody has labelled yet; by
            default those that occur, as said at ``label``.

    Raises:
        DataError: a file is missing or damaged, a column is missing, not of numbers or has gaps, an id is missing or
            occurs twice, or there are no labels to measure on or fewer than two classes.
        UnknownClassError: a label is not among ``classes``.
        ConfigError: the options contradict each other or the file.
    """
    columns = _Columns(id, label, features)
    if isinstance(holdout, str):
        part, held = _two_files(in_working_copy(path), in_working_copy(holdout), columns)
    else:
        part = _read(in_working_copy(path), columns, prefix="row")
        held = _drawn(part, holdout, seed, label)
    scale = _scale(observation, trials, part.features)
    return RawData(
        name=part.path.name.partition(".")[0],
        ids=part.ids,
        features=part.features,
        labels=part.labels,
        holdout=held,
        shape=_shape(shape, part.features.shape[1]),
        classes=_classes(part, label) if classes is None else tuple(classes),
        observation=Observation(kind=observation, trials=trials if observation == "binomial" else 1),
        mean=None if scale is None else 0.0,
        sd=scale,
        feature_names=part.names,
        permanent_ids=not part.numbered,
    )


def _two_files(pool_path: Path, holdout_path: Path, columns: _Columns) -> tuple[_Part, np.ndarray]:
    """Both files as one, and which rows are the second's."""
    # The holdout first: it must have labels, so that a wrong name of their column is found.
    held = _read(holdout_path, columns, prefix="holdout")
    pool = _read(pool_path, columns, prefix="row", labelled=False)
    here, there = set(pool.names) - set(held.names), set(held.names) - set(pool.names)
    if here or there:
        only = f"'{min(here)}' in the first only" if here else f"'{min(there)}' in the second only"
        raise DataError(f"{holdout_path}: expected the features of {pool_path}, got others: {only}")
    known, measured = set(pool.labels) - {None}, set(held.labels) - {None}
    if known and measured and not known & measured:
        raise DataError(
            f"{holdout_path}: expected classes of {pool_path}, such as '{min(known)}', got only others, such as "
            f"'{min(measured)}'"
        )
    in_order = [held.names.index(name) for name in pool.names]
    both = _Part(
        path=pool_path,
        ids=np.concatenate([pool.ids, held.ids]),
        labels=np.concatenate([pool.labels, held.labels]),
        features=np.concatenate([pool.features, held.features[:, in_order]]),
        names=pool.names,
        numbered=pool.numbered,
    )
    return both, np.arange(len(both.ids)) >= len(pool.ids)


def _read(path: Path, columns: _Columns, prefix: str, *, labelled: bool = True) -> _Part:
    data = read_columns(path, texts=[columns.id or "id", columns.label])
    id_column = "id" if columns.id is None and "id" in data.column_names else columns.id
    ids = _row_numbers(data.num_rows, prefix) if id_column is None else as_names(data, id_column, path)
    if pd.isna(ids).any():
        raise DataError(f"{path}: column '{id_column}': expected an id in row {pd.isna(ids).argmax() + 1}, got none")
    labels = np.full(data.num_rows, None, dtype=object)
    if labelled or columns.label in data.column_names:
        labels = as_names(data, columns.label, path)
    numbers, names = as_features(data, _feature_columns(data.column_names, id_column, columns, path), path)
    return _Part(path, ids.astype(str), labels, numbers, names, numbered=id_column is None)


def _feature_columns(known: Sequence[str], id_column: str | None, columns: _Columns, path: Path) -> list[str]:
    others = [name for name in known if name not in {id_column, columns.label}]
    names = others if columns.features is None else list(columns.features)
    for name in names:
        if name in {id_column, columns.label} or names.count(name) > 1:
            raise ConfigError(f"data.table.features: expected columns beside id and label, each once, got '{name}'")
    if not names:
        raise DataError(f"{path}: expected columns of numbers beside id and label, got none")
    return names


def _row_numbers(n: int, prefix: str) -> np.ndarray:
    return np.char.add(f"{prefix}-", np.char.zfill(np.arange(1, n + 1).astype(str), 6))


def _drawn(part: _Part, fraction: float, seed: int, label: str) -> np.ndarray:
    """Which rows are held out: ``fraction`` of the labelled ones, at least one, whatever their order in the file."""
    if not 0 < fraction < 1:
        raise ConfigError(f"data.table.holdout: expected a fraction between 0 and 1, or a path, got {fraction:g}")
    known = np.flatnonzero(~pd.isna(part.labels))
    if not len(known):
        raise DataError(
            f"{part.path}: expected labels in column '{label}' to draw the holdout from, got none; "
            "label some rows, or name a labelled file in the option 'holdout'"
        )
    # By a hash of the id: a label more moves one example at most into the holdout or out of it.
    places = [hashlib.sha256(f"{seed} {name}".encode()).digest() for name in part.ids[known]]
    order = sorted(range(len(known)), key=places.__getitem__)
    held = np.zeros(len(part.ids), dtype=bool)
    held[known[order[: max(1, round(fraction * len(known)))]]] = True
    return held


def _classes(part: _Part, label: str) -> tuple[str, ...]:
    """The class names that occur, sorted; numbers by their values."""
    names = pd.unique(part.labels[~pd.isna(part.labels)])
    if gaps := sorted(GAPS & set(names)):
        raise DataError(
            f"{part.path}: column '{label}': expected an empty cell where there is no label, got '{gaps[0]}'; if that "
            "is a class, name all of them in data.table.classes"
        )
    if len(names) < 2:
        raise DataError(f"{part.path}: expected at least 2 classes in column '{label}', got {list(names)}")
    numbers = all(NUMBER.fullmatch(name) for name in names)
    return tuple(sorted(names, key=lambda name: (float(name) if numbers else 0.0, name)))


def _scale(observation: Kind, trials: int, features: np.ndarray) -> float | None:
    """What stored values are divided by; None to standardise them."""
    if observation in {"gaussian", "quantised"}:
        return None
    if observation == "binomial":
        return float(trials)
    return 255.0 if features.dtype == np.uint8 and features.max() > 1 else 1.0


def _shape(shape: Sequence[int] | None, features: int) -> tuple[int, ...]:
    if shape is None:
        return (features,)
    if math.prod(shape) != features:
        raise ConfigError(f"data.table.shape: expected a shape of {features} features, got {list(shape)}")
    return tuple(shape)
