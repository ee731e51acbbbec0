"""A round's fit, on all labels so far; and what the loop, a model alone and benchmarks make of params.yaml alike."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from al_dgm.config import ModelParams, Params
from al_dgm.data.prepared import DatasetInfo, Pool, load_info, load_pool
from al_dgm.errors import DataError, UnknownClassError
from al_dgm.labelling.ledger import consensus, describe_unknown, read_ledger
from al_dgm.learning.fit import TrainingData
from al_dgm.learning.job import ModelSpec, TrainingJob
from al_dgm.learning.layout import Layout
from al_dgm.learning.model_files import load_model
from al_dgm.learning.predict import Predictor
from al_dgm.learning.training import Train, Training, train_and_measure
from al_dgm.models import MODELS
from al_dgm.registry import lookup
from al_dgm.seeding import integer_seed


def train_round(params: Params, layout: Layout, k: int, train: Train) -> None:
    """Train on the labels of round ``k`` − 1 and measure on the holdout; writes all but the query of ``rounds/k``.

    Args:
        params: of the whole loop.
        layout: where the files lie.
        k: round, from 1.
        train: runs the job (`al_dgm.distributed.train.train`).
    """
    began, info, folder = time.monotonic(), load_info(layout.prepared), layout.round(k)
    labels = consensus(read_ledger(layout.round(k - 1) / "labels.parquet"))
    training = Training(
        job=_job(params, layout, k, info, labels),
        name=f"train-{params.fingerprint()}-{k}",
        predictor=predictor(params, k, "measuring on the holdout"),
        model=folder / "model",
        rest=folder,
        labelled=labels.index,
        about={"round": k},
        began=began,
    )
    train_and_measure(training, params.compute, layout, info, train)


def _job(params: Params, layout: Layout, k: int, info: DatasetInfo, labels: pd.Series) -> TrainingJob:
    """Round ``k``'s fit: on ``labels``, example id -> class name, and on the rest of the pool."""
    if labels.empty:
        raise DataError("ledger: expected at least one label to train on, got none")
    return TrainingJob(
        spec=model_spec(params.model, info),
        data=training_data(load_pool(layout.prepared), labels, info.classes),
        recipe=params.training,
        seed=integer_seed(params.seed, "fit", k),
        start=_start(params, layout, k),
        label=f"round {k}: {len(labels)} labels",
    )


def model_spec(choice: ModelParams, info: DatasetInfo) -> ModelSpec:
    """The model that params.yaml names, for the data that dataset.json describes."""
    for name in choice.blocks:
        lookup(MODELS, name, "model")
    lookup(MODELS, choice.name, "model.name")
    about: dict[str, Any] = {"centre": info.centre, "spread": info.spread, "shape": info.shape}
    about |= {"ensemble": choice.ensemble}
    return ModelSpec(name=choice.name, options=choice.options, **of_data(info), **about)


def of_data(info: DatasetInfo) -> dict[str, Any]:
    """What a model cannot be used on other data without."""
    observation: dict[str, Any] = {"kind": info.observation.kind, "trials": info.observation.trials}
    if info.observation.kind == "quantised":
        observation["step"] = 1 / info.scale.sd[0]  # whole numbers, by the standard deviation that all have in common
    return {
        "features": math.prod(info.shape),
        "classes": tuple(info.classes),
        "observation": observation,
        "model_space": info.model_space(),
    }


def training_data(pool: Pool, labels: pd.Series, classes: Sequence[str]) -> TrainingData:
    """The labelled examples in the pool's order, and the rest of the pool unlabelled.

    Raises:
        DataError: the ledger names an example that is not in the pool.
        UnknownClassError: a label is not one of ``classes``.
    """
    position = {str(name): i for i, name in enumerate(pool.ids)}
    unknown = [name for name in labels.index if name not in position]
    if unknown:
        raise DataError(
            f"ledger: expected examples of the pool, got '{unknown[0]}' and {len(unknown) - 1} more not in it"
        )
    index = {name: c for c, name in enumerate(classes)}
    strange = labels[~labels.isin(classes)]
    if len(strange):
        expected = f"ledger: example '{strange.index[0]}': expected one of the classes"
        raise UnknownClassError(f"{expected}, {describe_unknown(strange.iloc[0], classes)}")
    rows = sorted((position[str(name)], index[label]) for name, label in labels.items())
    labelled, y = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    rest = np.setdiff1d(np.arange(len(pool.ids)), labelled)
    x = torch.from_numpy(pool.x)
    return TrainingData(x[labelled], torch.from_numpy(y), x[rest])


def _start(params: Params, layout: Layout, k: int) -> dict[str, Tensor] | None:
    """The previous round's weights for a warm start; the first round and a cold start have none."""
    if params.training.start == "cold" or k == 1:
        return None
    return load_model(layout.round(k - 1) / "model")[0].state_dict()


def predictor(params: Params, k: int, label: str) -> Predictor:
    """How round ``k`` predicts; measuring and scoring share their random numbers."""
    seed, batch = integer_seed(params.seed, "prediction", k), params.compute.prediction_batch
    return Predictor(params.prediction, seed, batch, label)
