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

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from common import (
    RawFile,
    Result,
    Setting,
    Unit,
    add_recipe_options,
    add_unit_options,
    censored_median,
    digest,
    one_of,
    paired_interval,
    parser,
    recipe,
    report,
    results_by,
    run_units,
    with_changes,
)
from digits_data import Split, fit_and_measure, load_split

from al_dgm.config import Params
from al_dgm.errors import one_line_errors
from al_dgm.learning.metrics import area_under_curve, labels_to
from al_dgm.learning.rounds import choose
from al_dgm.models import Model

ACQUISITIONS = {
    "random": ("random", "top_k"),
    "margin": ("margin", "top_k"),
    "entropy": ("entropy", "top_k"),
    "bald": ("bald", "top_k"),
    "power_bald": ("bald", "power"),
    "elbo": ("elbo", "top_k"),
}
QUERY = 10
LABELS = tuple(range(QUERY, 101, QUERY))
TARGET = 0.95
COLLAPSE = 0.1


def loop_params(params: Params, acquisition: str, seed: int) -> Params:
    """``params`` for one loop."""
    name, selector = ACQUISITIONS[acquisition]
    return with_changes(
        params,
        {
            "seed": seed,
            "data.name": "digits",
            "model.name": "m2",
            "seed_set": {"size": QUERY, "strategy": "balanced"},
            "acquisition.name": name,
            "acquisition.query_size": QUERY,
            "acquisition.max_candidates": None,
            "acquisition.selector.name": selector,
        },
    )


_kept: dict[str, tuple[Model, dict[str, Any]]] = {}


def fitted(params: Params, split: Split, labelled: Sequence[str], k: int) -> tuple[Model, dict[str, Any]]:
    """`fit_and_measure`; the last one is kept, since all acquisitions of a seed start with the same fit."""
    decisive = digest(params.data, params.model, params.training, params.prediction)
    key = repr((decisive, params.seed, k, sorted(labelled)))
    if key not in _kept:
        _kept.clear()
        _kept[key] = fit_and_measure(params, split, split.labels(labelled), k)
    return _kept[key]


def work(params: Params, setting: Setting, earlier: Sequence[Result]) -> Result:
    """One round: train on the labels so far, measure, and choose the next ones."""
    own = loop_params(params, setting["acquisition"], setting["seed"])
    split, k = load_split(own), setting["labels"] // QUERY
    bought = [name for result in earlier for name in result["chosen"]]
    labelled = [*split.balanced(QUERY, own.seed), *bought]
    model, measured = fitted(own, split, labelled, k)
    if setting["labels"] == LABELS[-1]:
        return {**measured, "chosen": []}
    candidates = np.flatnonzero(~np.isin(split.pool.ids, labelled))
    query = choose(model, split.pool, candidates, split.info, own, k)
    return {**measured, "chosen": [name for name, _ in query]}


def make_units(params: Params, seeds: int, acquisitions: Sequence[str], most: int) -> list[Unit]:
    """All rounds, seed by seed, and of one seed all acquisitions side by side."""
    units = []
    last: dict[tuple[int, str], Unit] = {}
    labels = [size for size in LABELS if size <= most]
    for seed, size, acquisition in itertools.product(range(seeds), labels, acquisitions):
        own = loop_params(params, acquisition, seed)
        decisive = digest(own.data, own.model, own.training, own.prediction, own.acquisition.selector)
        setting = {"acquisition": acquisition, "seed": seed, "labels": size, "params": decisive}
        unit = Unit(setting, last.get((seed, acquisition)))
        last[seed, acquisition] = unit
        units.append(unit)
    return units


Curve = dict[int, float]  # labels -> accuracy


def read_curves(units: Sequence[Unit], raw: RawFile) -> tuple[dict[str, dict[int, Curve]], dict[str, set[int]]]:
    """(acquisition -> seed -> curve, as far as it is done; acquisition -> seeds whose fit failed)."""
    curves: dict[str, dict[int, Curve]] = {}
    failed: dict[str, set[int]] = {}
    for (name, seed), results in results_by(units, raw, "acquisition", "seed", "labels").items():
        curves.setdefault(name, {})[seed] = {
            k: result["accuracy"] for k, result in results.items() if "accuracy" in result
        }
        if any("failure" in result for result in results.values()):
            failed.setdefault(name, set()).add(seed)
    return curves, failed


def collapsed(curve: Curve) -> bool:
    """Whether accuracy ever fell by `COLLAPSE` below its best so far."""
    values = np.array(list(curve.values()))
    return bool((np.maximum.accumulate(values) - values > COLLAPSE).any())


def make_row(
    name: str, curves: Mapping[int, Curve], baseline: Mapping[int, Curve], failed: set[int], points: int
) -> dict[str, Any]:
    """The row of one acquisition, from its seeds whose curve is complete."""
    whole = {seed: curve for seed, curve in curves.items() if len(curve) == points}
    area = {seed: area_under_curve(list(curve), list(curve.values())) for seed, curve in whole.items()}
    random = {seed: area_under_curve(list(c), list(c.values())) for seed, c in baseline.items() if len(c) == points}
    pairs = sorted(set(area) & set(random))
    gain, interval = None, None
    if pairs and name != "random":
        gain, interval = paired_interval([area[s] for s in pairs], [random[s] for s in pairs])
    reached = [labels_to(TARGET, list(curve), list(curve.values())) for curve in whole.values()] + [None] * len(failed)
    return {
        "acquisition": name,
        "auc": float(np.mean(list(area.values()))) if area else None,
        "auc_gain": gain,
        "auc_gain_ci": interval,
        "labels_to_95": censored_median(reached) if reached else None,
        "n": len(whole),
        "failures": len(failed) + sum(collapsed(curve) for curve in whole.values()),
    }


def mean_curve(curves: Mapping[int, Curve], points: int) -> dict[int, float]:
    """Mean accuracy at each number of labels over the seeds whose curve is complete."""
    whole = [curve for curve in curves.values() if len(curve) == points]
    return {size: float(np.mean([curve[size] for curve in whole])) for size in (whole[0] if whole else {})}


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=10)
    options.add_argument(
        "--acquisitions",
        nargs="+",
        default=tuple(ACQUISITIONS),
        choices=ACQUISITIONS,
        metavar="NAME",
        help=one_of(ACQUISITIONS),
    )
    options.add_argument("--most", type=int, default=LABELS[-1], choices=LABELS, metavar="N", help="stop at N labels")
    add_recipe_options(options)
    given = options.parse_args()
    params = recipe(given)
    units = make_units(params, given.seeds, given.acquisitions, given.most)
    raw = RawFile(given.results / "raw" / "al_digits.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    curves, failed = read_curves(units, raw)
    points, random = given.most // QUERY, curves.get("random", {})
    rows = [make_row(a, curves.get(a, {}), random, failed.get(a, set()), points) for a in given.acquisitions]
    means = {name: mean_curve(of_seeds, points) for name, of_seeds in curves.items()}
    report("al_digits", rows, given.results, measured=raw.measured(units), curves=means)


if __name__ == "__main__":
    with one_line_errors():
        main()
