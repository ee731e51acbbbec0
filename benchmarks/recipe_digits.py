"""Claim: each part of the recipe in params.yaml earns its place, on data that no other benchmark measures on.

On UCI's training digits (uci_digits.py): for each seed 1200 examples are the pool and 600 others are looked at.

    python benchmarks/recipe_digits.py --data optdigits.tra    the file of 65 columns, as UCI publishes it

Model m2. Rows: {variant, labels, mean, sd, n, gain, gain_ci}: accuracy in 0..1 over n paired seeds, the mean gain of
the variant over the recipe, and its paired-t 95 % interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common import (
    RawFile,
    Result,
    Setting,
    Unit,
    add_recipe_options,
    add_unit_options,
    compared_rows,
    digest,
    one_of,
    parser,
    recipe,
    report,
    run_units,
    with_changes,
)
from digits_data import fit_and_measure, label_spreading_accuracy
from uci_digits import add_data_option, development_split

from al_dgm.config import Params
from al_dgm.errors import one_line_errors

RESPONSIBILITY = ("training.responsibility_start", "training.responsibility_end")
VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "likelihood weight 1": {"model.m2.likelihood_weight": 1.0},
    "likelihood weight 0.1": {"model.m2.likelihood_weight": 0.1},
    "responsibility from the start": dict.fromkeys(RESPONSIBILITY, 0.0),
    "responsibility late": dict(zip(RESPONSIBILITY, (0.3, 0.7), strict=True)),
    "labels spread to 5": {"training.label_neighbours": 5},
    "labels spread to 10": {"training.label_neighbours": 10},
    "best of 3 fits": {"training.restarts": 2},
    "best of 5 fits": {"training.restarts": 4},
    "no adversarial smoothing": {"training.adversarial_weight": 0.0},
    "adversarial radius 1": {"training.adversarial_radius": 1.0},
    "no class balance": {"training.balance_weight": 0.0},
    "neither smoothing nor balance": {"training.adversarial_weight": 0.0, "training.balance_weight": 0.0},
    "falling learning rate": {"training.final_learning_rate": 0.0},
    "no weight average": {"training.weight_average": 0.0},
    "twice the steps": {"training.steps": 4000},
    "noise and consistency": {
        "model.m2.corruption": [0.5, 0.3],
        "training.consistency_weight": 1.0,
        "training.smoothing_warmup": 0.5,
    },
    "latent 5": {"model.m2.latent": 5},
    "point weights": {"model.m2.bayesian": "none"},
    "temperature 1": {"training.temperature": 1.0},
    "q(y|x) alone": {"model.m2.prediction": "classifier"},
    "bounds alone": {"model.m2.prediction": "bayes"},
}
LABEL_SPREADING = "label_spreading"
LABELS = (10, 20, 100)


def variant_params(params: Params, variant: str, seed: int) -> Params:
    """``params`` for one variant and seed."""
    return with_changes(params, {"seed": seed, "model.name": "m2", **VARIANTS.get(variant, {})})


def work(params: Params, path: Path, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit."""
    own = variant_params(params, setting["variant"], setting["seed"])
    split = development_split(path, own)
    ids = split.balanced(setting["labels"], own.seed)
    if setting["variant"] == LABEL_SPREADING:
        return {"accuracy": label_spreading_accuracy(split, ids)}
    return fit_and_measure(own, split, split.labels(ids))[1]


def make_units(params: Params, seeds: int, labels: Sequence[int], variants: Sequence[str]) -> list[Unit]:
    """All fits, seed by seed."""
    units = []
    for seed, size, variant in itertools.product(range(seeds), labels, variants):
        own = variant_params(params, variant, seed)
        decisive = digest(own.model, own.training, own.prediction) if variant in VARIANTS else ""
        units.append(Unit({"variant": variant, "labels": size, "seed": seed, "params": decisive}))
    return units


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=8)
    every = (LABEL_SPREADING, *VARIANTS)
    add_data_option(options)
    options.add_argument(
        "--labels", type=int, nargs="+", default=LABELS, metavar="N", help="known labels (default: %(default)s)"
    )
    options.add_argument("--variants", nargs="+", default=every, choices=every, metavar="NAME", help=one_of(every))
    add_recipe_options(options)
    given = options.parse_args()
    params = recipe(given)
    units = make_units(params, given.seeds, given.labels, given.variants)
    raw = RawFile(given.results / "raw" / "recipe_digits.jsonl")
    run_units(units, partial(work, params, given.data), raw, given.jobs, given.budget_seconds)
    report("recipe_digits", compared_rows(units, raw, "variant", "recipe"), given.results, measured=raw.measured(units))


if __name__ == "__main__":
    with one_line_errors():
        main()
