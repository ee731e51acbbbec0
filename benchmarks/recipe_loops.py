"""Claim: the recipe in params.yaml is the right one where queries choose the labels, too.

The loops of al_digits.py on UCI's training digits (uci_digits.py), by variants of the recipe: what helps with labels at
random need not help with those that a query chose, and the other way round. Nothing here is in a holdout of al_digits.

    python benchmarks/recipe_loops.py --data optdigits.tra    the file of 65 columns, as UCI publishes it

Rows: {variant, acquisition, auc, auc_gain, auc_gain_ci, labels_to_95, n, failures}, as in al_digits.py, but the gain is
that of the variant over the recipe with the same acquisition and seed.
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
    one_of,
    parser,
    recipe,
    report,
    run_units,
    with_changes,
)
from digit_loops import (
    add_loop_options,
    labels_up_to,
    loop_params,
    loop_row,
    loop_units,
    mean_curve,
    next_round,
    read_loops,
)
from uci_digits import add_data_option, development_split

from al_dgm.config import Params
from al_dgm.errors import one_line_errors

VARIANTS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "falling learning rate": {"training.final_learning_rate": 0.0},
    "labels spread to 5": {"training.label_neighbours": 5},
    "sdgm": {"model.name": "sdgm"},
    "best of 3 fits": {"training.restarts": 2},
}


def variant_params(params: Params, setting: Setting) -> Params:
    """``params`` for one loop."""
    return with_changes(loop_params(params, setting["acquisition"], setting["seed"]), VARIANTS[setting["variant"]])


def work(params: Params, path: Path, setting: Setting, earlier: Sequence[Result]) -> Result:
    """One round: train on the labels so far, measure, and choose the next ones."""
    own = variant_params(params, setting)
    return next_round(own, development_split(path, own), setting["labels"], earlier)


def make_units(
    params: Params, seeds: int, variants: Sequence[str], acquisitions: Sequence[str], labels: Sequence[int]
) -> list[Unit]:
    """All rounds, seed by seed, and of one seed and variant all acquisitions side by side."""
    units = []
    for seed, variant in itertools.product(range(seeds), variants):
        settings = [{"variant": variant, "acquisition": name, "seed": seed} for name in acquisitions]
        units += loop_units([(setting, variant_params(params, setting)) for setting in settings], labels)
    return units


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=8)
    add_data_option(options)
    options.add_argument(
        "--variants", nargs="+", default=tuple(VARIANTS), choices=VARIANTS, metavar="NAME", help=one_of(VARIANTS)
    )
    add_loop_options(options, ("random", "bald"))
    add_recipe_options(options)
    given = options.parse_args()
    params, labels = recipe(given), labels_up_to(given.most)
    units = make_units(params, given.seeds, given.variants, given.acquisitions, labels)
    raw = RawFile(given.results / "raw" / "recipe_loops.jsonl")
    run_units(units, partial(work, params, given.data), raw, given.jobs, given.budget_seconds)
    found = read_loops(units, raw, "variant", "acquisition")
    rows = [
        {"variant": variant, "acquisition": acquisition, **row}
        for (variant, acquisition), loops in found.items()
        for row in [loop_row(loops, found.get(("recipe", acquisition)) if variant != "recipe" else None, labels)]
    ]
    means = {" ".join(names): mean_curve(loops, labels) for names, loops in found.items()}
    report("recipe_loops", rows, given.results, measured=raw.measured(units), curves=means)


if __name__ == "__main__":
    with one_line_errors():
        main()
