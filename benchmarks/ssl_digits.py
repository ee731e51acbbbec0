"""Claim: with few random labels the semi-supervised models beat graph and linear baselines on scikit-learn's digits.

Every method sees the same 1200 examples, the same balanced labels (those of 10 labels are among those of 20, and so
on) and the same holdout of 597, seed by seed. The models are trained once with the committed recipe; nothing is chosen
on the holdout. Rows: {method, labels, mean, sd, n, gain, gain_ci}: accuracy on the holdout in 0..1 over n seeds, its
mean paired difference from label_spreading, and that difference's paired-t 95 % interval.

    label_spreading      scikit-learn, 7 nearest neighbours, alpha 0.2, all unlabelled examples, run to convergence
    logistic_regression  scikit-learn's defaults, labelled examples only
    m2, sdgm             point weights
    …_bayesian           the classifier's weights carry a distribution
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

import numpy as np
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
from digits_data import Split, class_indices, fit_and_measure, label_spreading_accuracy, load_split

from al_dgm.config import Params
from al_dgm.errors import one_line_errors

MODELS = {
    "m2": ("m2", "none"),
    "m2_bayesian": ("m2", "classifier"),
    "sdgm": ("sdgm", "none"),
    "sdgm_bayesian": ("sdgm", "classifier"),
}
LABELS = (10, 20, 40, 60, 100, 200)


def method_params(params: Params, method: str, seed: int) -> Params:
    """``params`` for one method and seed."""
    changes = {"data.name": "digits", "seed": seed}
    if method in MODELS:
        model, bayesian = MODELS[method]
        changes |= {"model.name": model, f"model.{model}.bayesian": bayesian}
    return with_changes(params, changes)


def nested_labels(split: Split, size: int, seed: int) -> list[str]:
    """``size`` balanced ids, the first of each class among the largest number of labels."""
    taken = dict.fromkeys(split.info.classes, size // len(split.info.classes))
    chosen = []
    for name in split.balanced(max(LABELS), seed):
        label = split.truth[name]
        if taken[label]:
            taken[label] -= 1
            chosen.append(name)
    return chosen


def logistic_regression_accuracy(split: Split, ids: Sequence[str]) -> float:
    """Holdout accuracy of scikit-learn's logistic regression on the labelled examples, x in model space."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  a second to import

    known = np.isin(split.pool.ids, ids)
    model = LogisticRegression(max_iter=5000).fit(
        split.pool.x[known], class_indices(split.labels(split.pool.ids[known]), split)
    )
    return float(model.score(split.holdout.x, split.holdout.labels))


BASELINES = {"label_spreading": label_spreading_accuracy, "logistic_regression": logistic_regression_accuracy}
METHODS = (*BASELINES, *MODELS)


def work(params: Params, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit."""
    method, size, seed = setting["method"], setting["labels"], setting["seed"]
    own = method_params(params, method, seed)
    split = load_split(own)
    ids = nested_labels(split, size, seed)
    if method in BASELINES:
        return {"accuracy": BASELINES[method](split, ids)}
    return fit_and_measure(own, split, split.labels(ids))[1]


def make_units(params: Params, seeds: int, labels: Sequence[int], methods: Sequence[str]) -> list[Unit]:
    """All fits, seed by seed, so that a run that stops early has all methods with about equally many seeds."""
    units = []
    for seed, size, method in itertools.product(range(seeds), labels, methods):
        own = method_params(params, method, seed)
        decisive = (own.data, own.model, own.training, own.prediction) if method in MODELS else (own.data,)
        units.append(Unit({"method": method, "labels": size, "seed": seed, "params": digest(*decisive)}))
    return units


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=10)
    options.add_argument(
        "--labels", type=int, nargs="+", default=LABELS, choices=LABELS, metavar="N", help="(default: %(default)s)"
    )
    options.add_argument(
        "--methods", nargs="+", default=METHODS, choices=METHODS, metavar="METHOD", help=one_of(METHODS)
    )
    add_recipe_options(options)
    given = options.parse_args()
    params = recipe(given)
    units = make_units(params, given.seeds, given.labels, given.methods)
    raw = RawFile(given.results / "raw" / "ssl_digits.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    rows = compared_rows(units, raw, "method", "label_spreading")
    report("ssl_digits", rows, given.results, measured=raw.measured(units))


if __name__ == "__main__":
    with one_line_errors():
        main()
