"""MNIST as the benchmarks use it: the published test set, or a part of the training set to choose recipes on."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from common import ROOT, with_changes
from digits_data import Split, prepare_split, training_job
from torch import Tensor

from al_dgm.config import Params
from al_dgm.data import DATASETS
from al_dgm.distributed.train import train
from al_dgm.errors import ConfigError
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.evaluate import log_predictive, scores
from al_dgm.learning.rounds import predictor
from al_dgm.models import Model
from al_dgm.seeding import rng

RECIPES = ROOT / "benchmarks" / "mnist_recipes.yaml"
CHECKPOINTS = ROOT / "checkpoints"
WARM_UPS = ("latent_warmup", "weight_warmup", "responsibility_start", "responsibility_end", "smoothing_warmup")
DEVELOPMENT = 10_000  # training images that stand in for the test set
DEVIATIONS = ("steps", "precision")  # from a recipe, if any
FROM = "from"  # in a recipe: the method whose trained model its own starts from


def load_recipes(section: str, path: Path = RECIPES) -> dict[str, dict[str, Any]]:
    """Method -> its differences from params.yaml, as dotted paths; those of ``all`` are part of every one.

    Raises:
        ConfigError: the file is missing.
    """
    if not path.exists():
        raise ConfigError(f"{path}: expected a file of recipes, got none")
    recipes: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))[section]
    common = recipes.pop("all")
    return {name: common | changes for name, changes in recipes.items()}


def recipe(params: Params, recipes: Mapping[str, Mapping[str, Any]], method: str, seed: int, **more: Any) -> Params:
    """``params`` for one method and seed."""
    changes = {path: value for path, value in recipes[method].items() if path != FROM}
    return with_changes(params, {"data.name": "mnist", "seed": seed, **changes, **more})


def add_deviations(options: argparse.ArgumentParser) -> None:
    """Add the options ``--steps`` and ``--precision``."""
    options.add_argument("--steps", type=int, help="of every fit (default: its recipe's)")
    options.add_argument("--precision", choices=("float32", "bfloat16"), help="of every fit (default: its recipe's)")


def deviations(given: Any) -> dict[str, Any]:
    """Those of `DEVIATIONS` that were asked for."""
    return {name: value for name in DEVIATIONS if (value := getattr(given, name)) is not None}


def deviating(whole: Params, setting: Mapping[str, Any]) -> Params:
    """A recipe but for the setting's `DEVIATIONS`."""
    if "precision" in setting:
        whole = with_changes(whole, {"training.precision": setting["precision"]})
    return shortened(whole, setting["steps"]) if "steps" in setting else whole


def shortened(whole: Params, steps: int) -> Params:
    """A recipe with another number of steps, of which its warm-ups take as many as in the whole.

    Which classes the bounds find is settled while they are phased in: that takes its time, however long a fit is.
    """
    longer = whole.training.steps / steps
    warm_ups = {f"training.{name}": min(1.0, longer * getattr(whole.training, name)) for name in WARM_UPS}
    return with_changes(whole, {"training.steps": steps} | warm_ups)


@contextmanager
def fitted(
    params: Params, split: Split, labels: int, start: Mapping[str, Tensor] | None = None
) -> Iterator[tuple[Model, dict[str, float]]]:
    """A model trained on ``labels`` balanced labels of ``params.seed``, and its training curve's last row.

    ``start`` are weights to start from instead of fresh ones.

    A fit that is killed goes on from its last checkpoint, and so does what is done with it in this context.
    """
    job = replace(training_job(params, split, split.labels(split.balanced(labels, params.seed))), start=start)
    key = f"mnist-{job.digest()}"
    model, history = train(job, params.compute, key, CHECKPOINTS)
    yield model, history[-1]
    shutil.rmtree(CHECKPOINTS / key, ignore_errors=True)


def measured_fit(params: Params, labels: int, *, development: bool) -> dict[str, Any]:
    """The holdout's scores by a model trained on ``labels`` labels."""
    split = load_mnist(params, development=development)
    with fitted(params, split, labels) as (model, last):
        device = set_up_torch(params.compute)
        predicted = log_predictive(
            model.to(device), torch.from_numpy(split.holdout.x), split.info, predictor(params, 1, "measuring")
        )
        return {**scores(predicted, split.holdout), "objective": last["objective"], "device": device.type}


def load_mnist(params: Params, *, development: bool) -> Split:
    """The published split; or 50000 of its training images as the pool and the other 10000 as the holdout.

    Which 10000 is the same for every seed, and the test images are not looked at.
    """
    raw = params.data.build(DATASETS, "data", seed=params.seed)
    if development:
        training = np.flatnonzero(~raw.holdout)
        held_out = np.zeros(len(training), dtype=bool)
        held_out[rng(0, "development").permutation(len(training))[:DEVELOPMENT]] = True
        raw = replace(
            raw,
            ids=raw.ids[training],
            features=raw.features[training],
            labels=raw.labels[training],
            holdout=held_out,
        )
    return prepare_split(raw, params)
