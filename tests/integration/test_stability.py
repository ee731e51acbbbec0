"""Bayesian weights in every network train without going astray: the poster's stated goal (seed 000)."""

from __future__ import annotations

import math

import pytest
import torch

from al_dgm.config import load_params
from al_dgm.data.digits import digits
from al_dgm.learning.fit import TrainingData
from al_dgm.learning.job import ModelSpec, TrainingJob


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.03, 1.0])
@pytest.mark.parametrize("model", ["m2", "sdgm"])
def test_no_nan_in_twenty_seeds_with_all_weights_bayesian(model: str, temperature: float):
    """Every record of every fit is finite (`fit` raises otherwise), and the bound has risen well above its start."""
    raw = digits(seed=0)
    x = torch.from_numpy(raw.features[~raw.holdout] / 16).float()
    y = torch.from_numpy(raw.labels[~raw.holdout].astype(int))
    params = load_params()
    recipe = params.training.model_copy(update={"steps": 100, "temperature": temperature})
    spec = ModelSpec(
        name=model,
        options={**(params.model.blocks[model] or {}), "bayesian": "all"},
        features=64,
        classes=raw.classes,
        observation={"kind": "binomial", "trials": 16},
        centre=float(x.mean()),
        spread=float(x.std()),
    )
    for seed in range(20):
        data = TrainingData(x[:100], y[:100], x[100:])
        trained, history = TrainingJob(spec, data, recipe, seed).run(torch.device("cpu"))
        assert all(math.isfinite(value) for row in history for value in row.values())
        assert all(bool(torch.isfinite(value).all()) for value in trained.state_dict().values())
        assert history[-1]["unlabelled_bound"] > history[0]["unlabelled_bound"]
