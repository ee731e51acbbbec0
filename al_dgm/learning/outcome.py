"""What a finished round has left behind: its files, read and checked. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_dgm.errors import DataError
from al_dgm.files import read_table

SCORES = ("accuracy", "nll", "ece", "brier")
_NOT_MEASURED = {"round", "labels"}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        DataError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: file not found") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def read_metrics(folder: Path) -> dict[str, Any]:
    """``metrics.json`` of a round's folder.

    Raises:
        DataError: the round has none, or it lacks the round, the labels or a score.
    """
    path = folder / "metrics.json"
    content = read_json(path)
    missing = [name for name in ("round", "labels", *SCORES) if name not in content]
    if missing:
        raise DataError(f"{path}: expected keys round, labels, {', '.join(SCORES)}, got none of {missing}")
    return content


def measured(metrics: dict[str, Any]) -> dict[str, float]:
    """The finite numbers of ``metrics.json``; a nested one gets a path, ``kl_weights_per_layer/classifier.0``."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            flat |= {f"{name}/{inner}": number for inner, number in measured(value).items()}
        elif name not in _NOT_MEASURED and _is_finite(value):
            flat[name] = float(value)
    return flat


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_seconds(folder: Path) -> dict[str, float]:
    """``fit_seconds``, ``score_seconds`` and the like from ``timings.json`` and ``acquire.json``, where they exist.

    Both have a total, so those are named ``train_total_seconds`` and ``acquire_total_seconds``.
    """
    seconds: dict[str, float] = {}
    for stage, file in (("train", "timings.json"), ("acquire", "acquire.json")):
        content = read_json(folder / file) if (folder / file).exists() else {}
        numbers = {name: float(value) for name, value in content.items() if name.endswith("_seconds")}
        seconds |= {f"{stage}_{name}" if name == "total_seconds" else name: value for name, value in numbers.items()}
    return seconds


def read_history(folder: Path) -> pd.DataFrame | None:
    """The training curve: ``step`` and a column a term of the objective; None for a model that has none.

    Raises:
        DataError: ``history.csv`` is not such a table.
    """
    path = folder / "history.csv"
    if not path.exists():
        return None
    try:
        history = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a table, got: {str(error).strip().splitlines()[0]}") from None
    if "step" not in history.columns:
        raise DataError(f"{path}: expected a column 'step', got {list(history.columns)}")
    return history.select_dtypes("number")


def read_predictions(folder: Path, classes: Sequence[str]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """(log_prob [N, C] in nats, true class positions [N]) of the holdout.

    Raises:
        DataError: the file is missing, or its classes are not ``classes``.
    """
    path = folder / "predictions.parquet"
    table = read_table(path, ["id", "label", "log_prob"])
    position = {name: index for index, name in enumerate(classes)}
    names = table["label"].to_pylist()
    unknown = sorted(set(names) - set(position))
    width = table.schema.field("log_prob").type.list_size
    if unknown or width != len(classes):
        raise DataError(f"{path}: expected {len(classes)} classes, got {width}, unknown: {unknown[:3]}")
    log_prob = table["log_prob"].combine_chunks().flatten().to_numpy().astype(np.float64)
    return log_prob.reshape(-1, width), np.array([position[name] for name in names], dtype=np.int64)
