"""Claim: on two half-moons six labels are enough, and predictive entropy finds those that are missing.

The toys of thesis figure 4.7 (seed 003) and of the poster (seed 000). Two sections:

moons   With 6 labels ADGM's error is near 0 % after 10 epochs of 10000 examples. Rows: {objective, placed, model,
        error, sd, worst, n, best_possible}: error in % on 10000 examples of another stream, over n seeds; that of the
        classifier which knows both densities is best_possible.
        objective `bounds`: the thesis's bounds, summed over all examples, and a tenth of its cross-entropy;
        `smoothed`: the authors' means over each set instead, and besides these the recipe of params.yaml: virtual
        adversarial training (with weight 4), class balance, a likelihood weight, a classifier that follows the bounds
        late. placed: labels at the `ends_and_middles` of both moons, as in the authors' released code, or 3 of each
        class at `random`.
active  BDGM from 4 labels to 30, two at a time, by predictive entropy: with a distribution over the weights of
        p(y|x,z,W), without, and at random. Rows: {strategy, to_99, auc, auc_sd, final, n}: median labels at which
        accuracy reaches 0.99 (null: never), mean area under accuracy over labels divided by its width, mean accuracy
        with 30 labels.

Draws docs/img/moons.png and docs/img/moons_active.png. The thesis's other toy is potential.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from common import (
    ROOT,
    RawFile,
    Result,
    Setting,
    Unit,
    add_recipe_options,
    add_unit_options,
    censored_median,
    digest,
    mean_and_sd,
    parser,
    recipe,
    report,
    results_by,
    run_units,
    with_changes,
)
from digits_data import fit_and_measure, load_split
from moons_data import best_possible_error, six_labels, trained_adgm
from toy_figures import accuracy_over_labels

from al_dgm.config import Params
from al_dgm.errors import one_line_errors
from al_dgm.learning.acquire import choose
from al_dgm.learning.figures import save
from al_dgm.learning.metrics import area_under_curve, labels_to

HIDDEN = [100, 100]
COMMON = {
    "data.name": "half_moons",
    "compute.prediction_batch": 1000,
    "training.unlabelled_batch": 100,
    "training.weighting": "mean",
    "training.classification_weight": 0.1,
    "training.adversarial_weight": 4.0,
}
SIX_LABELS = {"data.half_moons.examples": 10_000, "data.half_moons.holdout": 10_000, "training.steps": 1000}
ACTIVE = {"data.half_moons.examples": 1000, "data.half_moons.holdout": 1000, "training.steps": 500}
BOUNDS_ALONE = {
    "training.weighting": "sum",
    "training.adversarial_weight": 0.0,
    "training.balance_weight": 0.0,
    "training.responsibility_start": 0.0,
    "training.responsibility_end": 0.0,
}
MODELS = {"m2": "none", "adgm": "none", "sdgm": "none", "bdgm": "predictor"}
VARIANTS = (("bounds", "ends_and_middles"), ("smoothed", "ends_and_middles"), ("smoothed", "random"))
STRATEGIES = {"bayesian": ("predictor", "entropy"), "deterministic": ("none", "entropy"), "random": ("none", "random")}
QUERY, LABELS = 2, tuple(range(4, 31, 2))
PICTURES = ROOT / "docs" / "img"


def moons_params(params: Params, setting: Setting) -> Params:
    """``params`` for one fit to six labels."""
    name = setting["model"]
    own = {"seed": setting["seed"], "model.name": name, f"model.{name}.hidden": HIDDEN}
    own[f"model.{name}.bayesian"] = MODELS[name]
    if setting["objective"] == "bounds":
        own |= {**BOUNDS_ALONE, f"model.{name}.likelihood_weight": 1.0}
    return with_changes(params, {**COMMON, **SIX_LABELS, **own})


def active_params(params: Params, setting: Setting) -> Params:
    """``params`` for one loop."""
    bayesian, score = STRATEGIES[setting["strategy"]]
    own = {"seed": setting["seed"], "model.name": "bdgm", "model.bdgm.hidden": HIDDEN, "model.bdgm.bayesian": bayesian}
    own |= {"acquisition.name": score, "acquisition.query_size": QUERY}
    return with_changes(params, {**COMMON, **ACTIVE, **own})


def work(params: Params, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit to six labels, or one loop."""
    if setting["toy"] == "active":
        return active_loop(active_params(params, setting))
    own = moons_params(params, setting)
    split = load_split(own)
    labels = split.labels(six_labels(split, setting["placed"], own.seed))
    error = 100 * (1 - fit_and_measure(own, split, labels)[1]["accuracy"])
    return {"error": error, "best_possible": best_possible_error(split, own.data.options["noise"])}


def active_loop(params: Params) -> Result:
    """Accuracy at each of `LABELS`."""
    split = load_split(params)
    labelled, curve = list(split.balanced(LABELS[0], params.seed)), []
    for k in range(1, len(LABELS) + 1):
        model, measured = fit_and_measure(params, split, split.labels(labelled), k)
        curve.append(measured["accuracy"])
        candidates = np.flatnonzero(~np.isin(split.pool.ids, labelled))
        labelled += [name for name, _ in choose(model, split.pool, candidates, split.info, params, k)]
    return {"curve": curve}


def make_units(params: Params, seeds: int) -> list[Unit]:
    """Seed by seed, so that a run that stops early has everything with about equally many seeds."""
    units = []
    for seed in range(seeds):
        for (objective, placed), model in itertools.product(VARIANTS, MODELS):
            setting = {"toy": "moons", "objective": objective, "placed": placed, "model": model, "seed": seed}
            units.append(_unit(setting, moons_params(params, setting)))
        for strategy in STRATEGIES:
            setting = {"toy": "active", "strategy": strategy, "seed": seed}
            units.append(_unit(setting, active_params(params, setting)))
    return units


def _unit(setting: dict[str, Any], own: Params) -> Unit:
    return Unit({**setting, "params": digest(own.data, own.model, own.training, own.prediction)})


def moons_rows(units: Sequence[Unit], raw: RawFile) -> list[dict[str, Any]]:
    """One row for each objective, placement and model."""
    rows = []
    own = [unit for unit in units if unit.setting["toy"] == "moons"]
    for (objective, placed, model), found in results_by(own, raw, "objective", "placed", "model", "seed").items():
        errors = [result["error"] for result in found.values()]
        best = mean_and_sd([result["best_possible"] for result in found.values()])[0]
        row = {"toy": "moons", "objective": objective, "placed": placed, "model": model}
        mean, sd = mean_and_sd(errors)
        rows.append({**row, "error": mean, "sd": sd, "worst": max(errors), "n": len(errors), "best_possible": best})
    return rows


def active_curves(units: Sequence[Unit], raw: RawFile) -> dict[str, np.ndarray]:
    """Strategy -> accuracies [seeds, points]."""
    own = [unit for unit in units if unit.setting["toy"] == "active"]
    found = results_by(own, raw, "strategy", "seed")
    return {name: np.array([result["curve"] for result in results.values()]) for (name,), results in found.items()}


def active_row(strategy: str, curves: np.ndarray) -> dict[str, Any]:
    """The row of one strategy."""
    auc, sd = mean_and_sd([area_under_curve(LABELS, curve) for curve in curves])
    reached = censored_median(labels_to(0.99, LABELS, curve) for curve in curves)
    row = {"toy": "active", "strategy": strategy, "to_99": reached, "auc": auc, "auc_sd": sd}
    return {**row, "final": float(curves[:, -1].mean()), "n": len(curves)}


def main() -> None:
    """Do what is missing, report, draw."""
    options = parser(__doc__)
    add_unit_options(options, seeds=10)
    add_recipe_options(options)
    given = options.parse_args()
    params = recipe(given)
    units = make_units(params, given.seeds)
    raw = RawFile(given.results / "raw" / "toys.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    curves = active_curves(units, raw)
    rows = moons_rows(units, raw) + [active_row(name, values) for name, values in curves.items()]
    if all(unit.key in raw.results for unit in units):
        save(accuracy_over_labels(LABELS, curves), PICTURES / "moons_active.png")
        shown = {"model": "adgm", "seed": 0, "objective": "smoothed"}
        save(trained_adgm(moons_params(params, shown)), PICTURES / "moons.png")
    report("toys", rows, given.results, measured=raw.measured(units))


if __name__ == "__main__":
    with one_line_errors():
        main()
