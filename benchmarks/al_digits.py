"""Claim: choosing which digits to label buys accuracy that random labels do not, from 10 to 100 labels.

Model m2 with the committed recipe, queries of 10. Seeds are paired: of one seed, all acquisitions share the split, the
balanced seed set of 10, and the streams of initial weights, minibatches and noise. Rows: {acquisition, auc, auc_gain,
auc_gain_ci, labels_to_95, n, failures}:

    auc           mean over n seeds of the area under accuracy over labels 10..100, divided by its width
    auc_gain      mean over seeds of auc minus random's on the same seed, auc_gain_ci its paired-t 95 % interval
    labels_to_95  median labels at which accuracy reaches 0.95; null where the median run never does
    failures      runs whose fit failed, or whose accuracy ever fell 0.1 below what it had been
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from common import (
    RawFile,
    Result,
    Setting,
    Unit,
    add_recipe_options,
    add_unit_options,
    parser,
    recipe,
    report,
    run_units,
)
from digit_loops import (
    ACQUISITIONS,
    add_loop_options,
    labels_up_to,
    loop_params,
    loop_row,
    loop_units,
    mean_curve,
    next_round,
    read_loops,
)
from digits_data import load_split

from al_dgm.config import Params
from al_dgm.errors import one_line_errors


def work(params: Params, setting: Setting, earlier: Sequence[Result]) -> Result:
    """One round: train on the labels so far, measure, and choose the next ones."""
    own = loop_params(params, setting["acquisition"], setting["seed"])
    return next_round(own, load_split(own), setting["labels"], earlier)


def make_units(params: Params, seeds: int, acquisitions: Sequence[str], labels: Sequence[int]) -> list[Unit]:
    """All rounds, seed by seed, and of one seed all acquisitions side by side."""
    units = []
    for seed in range(seeds):
        loops = [({"acquisition": name, "seed": seed}, loop_params(params, name, seed)) for name in acquisitions]
        units += loop_units(loops, labels)
    return units


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=10)
    add_loop_options(options, tuple(ACQUISITIONS))
    add_recipe_options(options)
    given = options.parse_args()
    params, labels = recipe(given), labels_up_to(given.most)
    units = make_units(params, given.seeds, given.acquisitions, labels)
    raw = RawFile(given.results / "raw" / "al_digits.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    found = read_loops(units, raw, "acquisition")
    rows = [
        {"acquisition": name, **loop_row(found[name,], found.get(("random",)) if name != "random" else None, labels)}
        for name in given.acquisitions
        if (name,) in found
    ]
    means = {name: mean_curve(loops, labels) for (name,), loops in found.items()}
    report("al_digits", rows, given.results, measured=raw.measured(units), curves=means)


if __name__ == "__main__":
    with one_line_errors():
        main()
