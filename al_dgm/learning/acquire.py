"""A round's query: the unanswered examples are scored by the round's model, and a selector takes some."""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch

from al_dgm.acquisition import SCORES, SELECTORS, Evidence, Needs, select
from al_dgm.config import AcquisitionParams, Params
from al_dgm.data.prepared import DatasetInfo, Pool, load_info, load_pool
from al_dgm.errors import ConfigError, PoolExhaustedError
from al_dgm.labelling.ledger import answered, read_ledger
from al_dgm.labelling.query import make_query, write_query
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.layout import Layout
from al_dgm.learning.model_files import load_model
from al_dgm.learning.rounds import predictor
from al_dgm.learning.training import write_json
from al_dgm.models import GenerativeModel, Model
from al_dgm.registry import build
from al_dgm.seeding import rng


def acquire_round(params: Params, layout: Layout, k: int) -> None:
    """Score the pool's unanswered examples with round ``k``'s model and write the query.

    Raises:
        PoolExhaustedError: fewer candidates than ``query_size``.
        NonFiniteScoreError: a score is NaN or infinite.
        ConfigError: as `check_acquisition` has it.
    """
    began, wanted = time.monotonic(), params.acquisition
    info, pool = load_info(layout.prepared), load_pool(layout.prepared)
    done = answered(read_ledger(layout.round(k - 1) / "labels.parquet"))
    candidates = _candidates(pool, done, wanted, rng(params.seed, "candidates", k))
    if len(candidates) < wanted.query_size:
        raise PoolExhaustedError(requested=wanted.query_size, available=len(candidates))
    model, _, version = load_model(layout.round(k) / "model")
    check_acquisition(params, model, info)
    model.to(set_up_torch(params.compute))
    score_began = time.monotonic()
    names, values = zip(*choose(model, pool, candidates, info, params, k), strict=True)
    score_seconds = time.monotonic() - score_began
    write_query(layout.round(k) / "query.parquet", make_query(k, version, wanted.name, names, values))
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
    if score.needs in (Needs.MOMENTS, Needs.DISAGREEMENT):
        evidence.moments = predict.moments(model, inputs, len(info.classes))
    if score.needs is Needs.BOUND:
        evidence.bound = predict.expected_elbo(generative(model, params), inputs)
    return score(evidence).numpy()


def check_acquisition(params: Params, model: Model, info: DatasetInfo) -> None:
    """Refuse a query that ``model``, trained or as it starts, could not choose.

    Raises:
        ConfigError: the score needs what the model does not have, the selector other scores, or the query more
            examples than there are.
    """
    wanted = params.acquisition
    selector = wanted.selector.build(SELECTORS, "acquisition.selector")
    score = build(SCORES, wanted.name, {}, path="acquisition.name")
    if score.needs is Needs.BOUND:
        generative(model, params)
    if score.needs is Needs.DISAGREEMENT and not _samples_differ(model, params):
        raise ConfigError(
            f"acquisition.name '{wanted.name}' needs weight samples that predict differently, and those of model "
            f"'{params.model.name}' do not; expected Bayesian layers in a network that predicts (options bayesian and "
            f"prediction) and prediction.weight_samples of 2 or more, or model.ensemble of 2 or more"
        )
    if selector.nonnegative and not score.nonnegative:
        raise ConfigError(
            f"acquisition.selector.name '{wanted.selector.name}' needs scores >= 0, which '{wanted.name}' does not "
            "give; softmax and softrank take any score"
        )
    if wanted.query_size > info.examples:
        raise ConfigError(
            f"acquisition.query_size: expected at most the pool's {info.examples} examples, got {wanted.query_size}"
        )


@torch.no_grad()
def _samples_differ(model: Model, params: Params) -> bool:
    """Whether the first two weight samples predict differently, tried on two examples."""
    features = model.space.features
    x, predict = torch.linspace(0, 1, 2 * features).view(2, features), predictor(params, 1, "")
    found = [
        predict.log_predictive(member, x, *predict.groundwork(member, x))
        for member in itertools.islice(predict.weight_samples(model), 2)
    ]
    return len(found) == 2 and not torch.equal(*found)


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


def _candidates(pool: Pool, done: set[str], params: AcquisitionParams, stream: np.random.Generator) -> np.ndarray:
    """Positions of the examples nobody has answered for; a random subset of ``max_candidates`` where that is set."""
    open_positions = np.flatnonzero([str(name) not in done for name in pool.ids])
    if params.max_candidates is None or params.max_candidates >= len(open_positions):
        return open_positions
    return np.sort(stream.choice(open_positions, params.max_candidates, replace=False))
