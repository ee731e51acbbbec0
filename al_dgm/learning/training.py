"""One fit, from its job to its files: what a round of the loop and a model trained alone have in common."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from al_dgm.config import ComputeParams
from al_dgm.data.prepared import DatasetInfo, load_holdout
from al_dgm.files import write_atomically
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.evaluate import evaluate
from al_dgm.learning.fit import explained
from al_dgm.learning.job import TrainingJob
from al_dgm.learning.layout import Layout
from al_dgm.learning.model_files import save_model
from al_dgm.learning.predict import Predictor
from al_dgm.models import Model

TIMINGS = "timings.json"  # written last
Train = Callable[[TrainingJob, ComputeParams, str, Path], tuple[Model, list[dict[str, float]]]]


@dataclass(frozen=True)
class Training:
    """One fit, and where what it gives is written.

    Attributes:
        job: what to train.
        name: of the fit, for its checkpoints.
        predictor: measures it on the holdout.
        model: folder of the model.
        rest: folder of ``history.csv``, ``metrics.json``, ``predictions.parquet`` and ``timings.json``.
        labelled: ids of the examples whose labels the model learns from, or whose it starts from has.
        about: what ``metrics.json`` says first.
        began: when the work on it did, by the monotonic clock.
    """

    job: TrainingJob
    name: str
    predictor: Predictor
    model: Path
    rest: Path
    labelled: Collection[str]
    about: Mapping[str, Any]
    began: float


def train_and_measure(
    training: Training, compute: ComputeParams, layout: Layout, info: DatasetInfo, train: Train
) -> dict[str, Any]:
    """Train, measure on the holdout, and write both; returns what ``metrics.json`` says.

    Args:
        training: what, and where to.
        compute: the ``compute`` section of params.yaml.
        layout: where the data and the checkpoints lie.
        info: of the prepared data.
        train: runs the job (`al_dgm.distributed.train.train`).
    """
    job, rest = training.job, training.rest
    # A checkpoint is taken up by the same job only, and not by the same one of a loop that runs beside this.
    key = f"{training.name}-{job.digest()}"
    fit_began = time.monotonic()
    model, history = train(job, compute, key, layout.checkpoints)
    fit_seconds = time.monotonic() - fit_began
    save_model(training.model, job.spec, model, training.labelled)
    write_atomically(rest / "history.csv", pd.DataFrame(history).to_csv(index=False).encode())
    sizes = explained(model, job.data, job.recipe)
    model.to(set_up_torch(compute))
    measured = evaluate(model, load_holdout(layout.prepared, info), info, training.predictor, sizes)
    about = {**training.about, "labels": len(job.data.y), "model": job.spec.name, "steps": int(history[-1]["step"])}
    measured.write(rest, about)
    seconds = {"fit_seconds": fit_seconds, "evaluate_seconds": measured.seconds}
    write_json(rest / TIMINGS, {**seconds, "total_seconds": time.monotonic() - training.began})
    shutil.rmtree(layout.checkpoints / key, ignore_errors=True)  # only now is nothing lost without it
    return {**about, **measured.values}  # noqa: PD011 - metrics, no data frame


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON, atomically; NaN and infinite numbers, which JSON does not have, as null."""
    write_atomically(path, (json.dumps(_finite(content), indent=2, allow_nan=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
