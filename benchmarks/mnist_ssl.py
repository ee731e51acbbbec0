"""Claim: with few labels the models reach their published test errors on MNIST, and better.

Every split draws its own balanced labels from the 60000 training images, and its own weights, minibatches and noise;
the rest of the images are unlabelled, in another order in every pass. Errors are of the 10000 test images, by the
model of the last step: nothing is chosen on them. Recipes (mnist_recipes.yaml) were chosen with ``--development``,
which measures on 10000 of the training images instead and writes to a file of its own. Rows: {model, labels,
error_percent, sd, splits, epochs, device}: mean and standard deviation over the splits; an epoch is 60000 unlabelled
images seen.

Fits take minutes to hours, and are kept one by one (results/raw/mnist_ssl.jsonl, with the commit each was measured at);
a fit that is killed goes on from its last checkpoint. So several machines can share the work by ``--first-split``, and
the result has the rows of all fits by the present recipes, not only of those that were asked for. ``--steps`` shortens
them, but for their warm-ups, and ``--precision float32`` is for processors on which bfloat16 is slow: such fits have
rows of their own.
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
    add_unit_options,
    digest,
    mean_and_sd,
    one_of,
    parser,
    report,
    results_by,
    run_units,
)
from mnist_data import (
    DEVIATIONS,
    add_deviations,
    deviating,
    deviations,
    load_recipes,
    measured_fit,
    recipe,
)

from al_dgm.config import Params, load_params
from al_dgm.errors import one_line_errors

LABELS = (10, 20, 50, 100, 1000)


def work(params: Params, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit."""
    own = own_params(params, setting)
    return measured_fit(own, setting["labels"], development=setting["development"])


def make_units(params: Params, given: Any) -> list[Unit]:
    """All fits, split by split, so that a run that stops early has about equally many of each."""
    splits = range(given.first_split, given.first_split + given.seeds)
    units = []
    for split, labels, model in itertools.product(splits, given.labels, given.models):
        setting = {"model": model, "labels": labels, "split": split, "development": given.development}
        setting |= deviations(given)
        units.append(Unit(setting | {"params": recipe_digest(params, setting)}))
    return units


def own_params(params: Params, setting: Setting) -> Params:
    """The recipe of the setting's model, but for the setting's `DEVIATIONS`."""
    return deviating(recipe(params, load_recipes("labels"), setting["model"], setting.get("split", 0)), setting)


def recipe_digest(params: Params, setting: Setting) -> str:
    """What tells fits by this recipe from those by an earlier one."""
    own = own_params(params, setting)
    return digest(own.model, own.training, own.prediction)


def finished(params: Params, raw: RawFile, *, development: bool) -> list[Unit]:
    """Every fit by the present recipes, whoever made it."""
    methods = load_recipes("labels")

    def current(setting: Setting) -> bool:
        model, kind = setting["model"], setting["development"]
        known = kind == development and model in methods
        return known and bool(setting["params"] == recipe_digest(params, setting))

    return sorted(raw.units(current), key=lambda unit: [unit.setting[name] for name in ("model", "labels", "split")])


def rows(params: Params, units: Sequence[Unit], raw: RawFile) -> list[dict[str, Any]]:
    """One row for each model, number of labels, and way to deviate from the recipe."""
    found = []
    for (model, labels, *deviated), results in results_by(units, raw, "model", "labels", *DEVIATIONS, "split").items():
        done = [result for result in results.values() if "accuracy" in result]
        errors = [100 * (1 - result["accuracy"]) for result in done]
        mean, sd = mean_and_sd(errors) if errors else (None, None)
        own = {name: value for name, value in zip(DEVIATIONS, deviated, strict=True) if value is not None}
        training = own_params(params, {"model": model, **own}).training
        row = {"model": model, "labels": labels, "error_percent": mean, "sd": sd, "splits": len(errors)}
        row["epochs"] = round(training.steps * training.unlabelled_batch / 60_000, 1)
        row |= {"precision": training.precision, "device": "/".join(sorted({result["device"] for result in done}))}
        failed = len(results) - len(done)
        found.append(row | ({"failures": failed} if failed else {}))
    return found


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=5)
    methods = sorted(load_recipes("labels"))
    options.add_argument(
        "--labels", type=int, nargs="+", default=LABELS, metavar="N", help="known labels (default: %(default)s)"
    )
    options.add_argument("--models", nargs="+", default=methods, choices=methods, metavar="MODEL", help=one_of(methods))
    options.add_argument(
        "--first-split", type=int, default=0, help="number of the first of them (default: %(default)s)"
    )
    add_deviations(options)
    options.add_argument("--development", action="store_true", help="measure on 10000 training images")
    options.add_argument("--params", type=Path, default=Path("params.yaml"), help="(default: %(default)s)")
    given = options.parse_args()
    params = load_params(given.params)
    name = "mnist_ssl_development" if given.development else "mnist_ssl"
    units = make_units(params, given)
    raw = RawFile(given.results / "raw" / f"{name}.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    done = finished(params, raw, development=given.development)
    report(name, rows(params, done, raw), given.results, measured=raw.measured(done))


if __name__ == "__main__":
    with one_line_errors():
        main()
