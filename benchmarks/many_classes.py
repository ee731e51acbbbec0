"""Claim: a sum over the m most plausible classes costs little more for 1000 classes than for 10, and is as accurate.

cost       M2 (one hidden layer of 500, 50 latents, 784 features, 100 labelled + 100 unlabelled examples a step):
           rows {what, classes, enumeration, steps_per_s, relative_cost}, the cost of a step relative to the same
           enumeration with 10 classes; all settings are timed in turn, several times, and the medians are reported
accuracy   M2 on MNIST with 100 labels by the recipe of mnist_recipes.yaml with fewer steps, of 100 unlabelled images
           each, measured on 10000 of the training images: rows {what, enumeration, labels, mean, sd, n, gain,
           gain_ci}, paired with ``exact``
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from common import (
    RawFile,
    Result,
    Setting,
    Unit,
    add_unit_options,
    compared_rows,
    digest,
    parser,
    progress,
    report,
    run_units,
)
from mnist_data import load_recipes, measured_fit, recipe, shortened
from train_speed import PLAIN, Step, steps_per_second

from al_dgm.config import Params, TrainingParams, load_params
from al_dgm.errors import one_line_errors
from al_dgm.learning.fit import Fit, TrainingData, Workers
from al_dgm.learning.job import ModelSpec

CLASSES = (10, 100, 1000)
M = 4
D, BATCH = 784, 100


def step(recipe: TrainingParams, classes: int, enumeration: int | str) -> Step:
    """A training step on random binary data."""
    stream = torch.Generator().manual_seed(0)
    x = (torch.rand(5_000, D, generator=stream) < 0.13).float()
    given = TrainingData(x[:1000], torch.arange(1000) % classes, x[1000:])
    options = {"hidden": [500], "latent": 50, "bayesian": "none", "enumeration": enumeration}
    names = tuple(str(c) for c in range(classes))
    model = ModelSpec("m2", options, D, names, {"kind": "bernoulli"}, 0.13, 0.34).build(0)
    return Fit(model, given, recipe, 0, Workers()).step


def cost_rows(recipe: TrainingParams, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Exact enumeration of 1000 classes is 100 times the work of 10, so it is left out."""
    settings = [(classes, M) for classes in CLASSES] + [(classes, "exact") for classes in CLASSES[:2]]
    steps = {f"{classes} {enumeration}": step(recipe, classes, enumeration) for classes, enumeration in settings}
    rates = steps_per_second(steps, torch.device("cpu"), rounds, seconds)
    return [
        {
            "what": "cost",
            "classes": classes,
            "enumeration": enumeration,
            "steps_per_s": rates[f"{classes} {enumeration}"],
            "relative_cost": rates[f"{CLASSES[0]} {enumeration}"] / rates[f"{classes} {enumeration}"],
        }
        for classes, enumeration in settings
    ]


def own_params(params: Params, enumeration: int | str, seed: int, steps: int) -> Params:
    """The recipe of M2 with this enumeration, shortened."""
    changes = {
        "model.m2.enumeration": enumeration,
        "training.unlabelled_batch": BATCH,
    }
    return shortened(recipe(params, load_recipes("labels"), "m2", seed, **changes), steps)


def work(params: Params, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit."""
    own = own_params(params, setting["enumeration"], setting["seed"], setting["steps"])
    return measured_fit(own, setting["labels"], development=True)


def main() -> None:
    """Time the steps, do the fits that are missing, and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=3)
    options.add_argument("--steps", type=int, default=8000, help="of a fit (default: %(default)s)")
    options.add_argument(
        "--enumerations",
        nargs="+",
        type=int,
        default=[M],
        metavar="m",
        help="whose accuracy is measured beside exact (default: %(default)s)",
    )
    options.add_argument("--rounds", type=int, default=5, help="turns of each step timed (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=3.0, help="of a turn (default: %(default)s)")
    given = options.parse_args()
    params = load_params("params.yaml")
    units = []
    for seed in range(given.seeds):
        for enumeration in ("exact", *given.enumerations):
            own = own_params(params, enumeration, seed, given.steps)
            setting = {"enumeration": enumeration, "labels": 100, "seed": seed, "steps": given.steps}
            units.append(Unit(setting | {"params": digest(own.model, own.training, own.prediction)}))
    raw = RawFile(given.results / "raw" / "many_classes.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    accuracy = [{"what": "accuracy", **row} for row in compared_rows(units, raw, "enumeration", "exact")]
    torch.set_num_threads(os.cpu_count() or 1)
    progress("timing")
    timed = params.training.model_copy(
        update=PLAIN | {"labelled_batch": BATCH, "unlabelled_batch": BATCH, "steps": 1_000_000}
    )
    rows = cost_rows(timed, given.rounds, given.seconds) + accuracy
    report("many_classes", rows, given.results, measured=raw.measured(units))


if __name__ == "__main__":
    with one_line_errors():
        main()
