"""The two stages of a round that need a model: train on the labels so far, and choose what to ask next."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from al_dgm.acquisition import SCORES, SELECTORS, Evidence, Needs, select
from al_dgm.config import AcquisitionParams, ModelParams, Params
from al_dgm.data.prepared import DatasetInfo, Pool, load_info, load_pool
from al_dgm.errors import ConfigError, DataError, UnknownClassError
from al_dgm.labelling.ledger import answered, consensus, describe_unknown, read_ledger
from al_dgm.labelling.query import make_query, write_query
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.fit import TrainingData
from al_dgm.learning.job import ModelSpec, TrainingJob
from al_dgm.learning.layout import Layout
from al_dgm.learning.model_files import load_model
from al_dgm.learning.predict import Predictor
from al_dgm.learning.training import Train, Training, train_and_measure, write_json
from al_dgm.models import MODELS, GenerativeModel, Model
from al_dgm.registry import build, lookup
from al_dgm.seeding import integer_seed, rng


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


def acquire_round(params: Params, layout: Layout, k: int) -> None:
    """Score the pool's unanswered examples with round ``k``'s model and write the query.

    Raises:
        PoolExhaustedError: fewer candidates than ``query_size``.
        NonFiniteScoreError: a score is NaN or infinite.
    """
    began = time.monotonic()
    info, pool = load_info(layout.prepared), load_pool(layout.prepared)
    done = answered(read_ledger(layout.round(k - 1) / "labels.parquet"))
    candidates = _candidates(pool, done, params.acquisition, rng(params.seed, "candidates", k))
    model, _, version = load_model(layout.round(k) / "model")
    model.to(set_up_torch(params.compute))
    score_began = time.monotonic()
    names, values = zip(*choose(model, pool, candidates, info, params, k), strict=True)
    score_seconds = time.monotonic() - score_began
    write_query(layout.round(k) / "query.parquet", make_query(k, version, params.acquisition.name, names, values))
    seconds = time.monotonic() - began
    write_json(
        layout.round(k) / "acquire.json",
        {"score_seconds": score_seconds, "total_seconds": seconds, "candidates": len(candidates)},
    )


def choose(
    model: Model, pool: Pool, candidates: np.ndarray, info: DatasetInfo, params: Params, k: int
) -> list[tuple[str, float]]:
    """Round ``k``'s query among the positions ``candidates``: (id, score) in the order of choice; see `select`."""
    scores = score_pool(model, pool.x[candidates], info, params, k)
    selector = params.acquisition.selector.build(SELECTORS, "acquisition.selector")
    ids = [str(pool.ids[i]) for i in candidates]
    return select(ids, scores, selector, params.acquisition.query_size, rng(params.seed, "selection", k))


def score_pool(model: Model, x: np.ndarray, info: DatasetInfo, params: Params, k: int) -> np.ndarray:
    """Round ``k``'s scores of candidates x [N, D] in model space; computes only what the score declares, [N]."""
    score = build(SCORES, params.acquisition.name, {}, path="acquisition.name")
    evidence, inputs, predict = Evidence(examples=len(x)), torch.from_numpy(x), predictor(params, k, "scoring the pool")
    if score.needs is Needs.MOMENTS:
        evidence.moments = predict.moments(model, inputs, len(info.classes))
    if score.needs is Needs.BOUND:
        evidence.bound = predict.expected_elbo(generative(model, params), inputs)
    return score(evidence).numpy()


def generative(model: Model, params: Params) -> GenerativeModel:
    """``model``, for an acquisition function that needs its bound.

    Raises:
        ConfigError: it is a supervised one.
    """
    if not isinstance(model, GenerativeModel):
        raise ConfigError(
            f"acquisition.name '{params.acquisition.name}' needs a bound on log p(x), which model "
            f"'{params.model.name}' does not have; expected a generative model such as m2"
        )
    return model


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


def _candidates(pool: Pool, done: set[str], params: AcquisitionParams, stream: np.random.Generator) -> np.ndarray:
    """Positions of the examples nobody has answered for; a random subset of ``max_candidates`` where that is set."""
    open_positions = np.flatnonzero([str(name) not in done for name in pool.ids])
    if params.max_candidates is None or params.max_candidates >= len(open_positions):
        return open_positions
    return np.sort(stream.choice(open_positions, params.max_candidates, replace=False))


def _start(params: Params, layout: Layout, k: int) -> dict[str, Tensor] | None:
    """The previous round's weights for a warm start; the first round and a cold start have none."""
    if params.training.start == "cold" or k == 1:
        return None
    return load_model(layout.round(k - 1) / "model")[0].state_dict()


def predictor(params: Params, k: int, label: str) -> Predictor:
    """How round ``k`` predicts; measuring and scoring share their random numbers."""
    seed, batch = integer_seed(params.seed, "prediction", k), params.compute.prediction_batch
    return Predictor(params.prediction, seed, batch, label)
