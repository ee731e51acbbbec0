"""From the loop's files to a tracker. Knows no MLflow.

The files are the truth, and DVC may restore some of them without running anything; so after each training, and with
the report, all rounds so far are shown to the tracker again, which leaves alone what it knows.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from al_dgm.config import Choice, Params
from al_dgm.learning.outcome import measured, read_history, read_metrics, read_seconds
from al_dgm.tracking.base import LoopRecord, RoundRecord, Tracker

_SHOWN_ELSEWHERE = {"compute", "tracking"}  # they change no result, so they may differ between a loop's rounds


def sync(tracker: Tracker, params: Params, rounds_folder: Path, upto: int) -> None:
    """Show the loop and its rounds 1..``upto`` to the tracker.

    Raises:
        DataError: a round's files are missing or malformed.
        TrackingError: the tracker does not answer.
    """
    tracker.open_loop(loop_record(params))
    for k in range(1, upto + 1):
        tracker.log_round(round_record(rounds_folder / str(k)))
    tracker.close()


def loop_record(params: Params) -> LoopRecord:
    """The loop that these parameters make.

    DVC's experiment name (``DVC_EXP_NAME``) is a tag and no part of the key: DVC invents another one each time, so an
    experiment that was killed and is started again would not find its loop.
    """
    experiment = re.sub(r"[^\w.-]", "_", os.environ.get("DVC_EXP_NAME", ""))
    selector = params.acquisition.selector.name
    strategy = params.acquisition.name if selector == "top_k" else f"{selector} {params.acquisition.name}"
    model, dataset = params.model.name, params.data.name
    tags = {"strategy": strategy, "model": model, "dataset": dataset, "seed": str(params.seed)}
    tags |= {name: value for name, value in (("experiment", experiment), ("git_commit", _git_commit())) if value}
    return LoopRecord(
        key=params.fingerprint(),
        name=f"{strategy}, {model}, {dataset}, seed {params.seed}",
        tags=tags,
        params=_settings(params),
    )


def round_record(folder: Path) -> RoundRecord:
    """The round whose files lie in ``folder``."""
    metrics = read_metrics(folder)
    model = folder / "model"
    return RoundRecord(
        round=int(metrics["round"]),
        labels=int(metrics["labels"]),
        metrics=measured(metrics),
        history=read_history(folder),
        artifacts=[model] if model.is_dir() else [],
        timings=read_seconds(folder),
    )


def _settings(params: Params) -> dict[str, object]:
    """All that can change a result as dotted paths; of a choice's blocks only the one that is chosen."""
    settings: dict[str, object] = {}
    for name in type(params).model_fields:
        if name not in _SHOWN_ELSEWHERE:
            settings |= _flat(name, getattr(params, name))
    return settings


def _flat(path: str, value: Any) -> dict[str, object]:
    if isinstance(value, Choice):
        own = {name: getattr(value, name) for name in type(value).model_fields if name != "name"}
        return _flat(path, {"name": value.name, **own, value.name: value.options})
    if not isinstance(value, Mapping | BaseModel):
        return {path: value}
    entries = dict(value)
    return {key: leaf for name, inner in entries.items() for key, leaf in _flat(f"{path}.{name}", inner).items()}


def _git_commit() -> str:
    """The working copy's commit, or the empty string where there is none."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
