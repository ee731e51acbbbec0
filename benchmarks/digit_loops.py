"""Active-learning loops on digits: the rounds as units of a benchmark, and what a loop's curve says.

Seeds are paired: of one seed, all loops share the split, the balanced seed set, and the streams of initial weights,
minibatches and noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from common import RawFile, Result, Setting, Unit, censored_median, digest, paired_interval, results_by, with_changes
from digits_data import Split, fit_and_measure

from al_dgm.config import Params
from al_dgm.learning.acquire import choose
from al_dgm.learning.metrics import area_under_curve, labels_to
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


def add_loop_options(made: argparse.ArgumentParser, acquisitions: Sequence[str]) -> None:
    """Which loops, ``acquisitions`` unless told, and up to how many labels (`labels_up_to`)."""
    made.add_argument(
        "--acquisitions",
        nargs="+",
        default=tuple(acquisitions),
        choices=ACQUISITIONS,
        metavar="NAME",
        help=f"among {', '.join(ACQUISITIONS)} (default: {' '.join(acquisitions)})",
    )
    made.add_argument("--most", type=int, default=LABELS[-1], choices=LABELS, metavar="N", help="stop at N labels")


def labels_up_to(most: int) -> tuple[int, ...]:
    """How many labels the rounds have."""
    return tuple(size for size in LABELS if size <= most)


# --- rounds ---


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


def loop_units(loops: Sequence[tuple[Setting, Params]], labels: Sequence[int]) -> list[Unit]:
    """Every round of ``loops``, side by side, each after the loop's round before."""
    units = []
    last: dict[int, Unit] = {}
    for size in labels:
        for i, (setting, own) in enumerate(loops):
            decisive = digest(own.data, own.model, own.training, own.prediction, own.acquisition.selector)
            last[i] = Unit({**setting, "labels": size, "params": decisive}, last.get(i))
            units.append(last[i])
    return units


_kept: dict[str, tuple[Model, dict[str, Any]]] = {}


def _fitted(params: Params, split: Split, labelled: Sequence[str], k: int) -> tuple[Model, dict[str, Any]]:
    """`fit_and_measure`; the last one is kept, since all acquisitions of a seed start with the same fit."""
    decisive = digest(params.data, params.model, params.training, params.prediction)
    key = repr((decisive, params.seed, k, sorted(labelled)))
    if key not in _kept:
        _kept.clear()
        _kept[key] = fit_and_measure(params, split, split.labels(labelled), k)
    return _kept[key]


def next_round(params: Params, split: Split, labels: int, earlier: Sequence[Result]) -> Result:
    """Train on the labels so far, ``labels`` of them; measure, and choose the next ones."""
    k = labels // QUERY
    bought = [name for result in earlier for name in result["chosen"]]
    labelled = [*split.balanced(QUERY, params.seed), *bought]
    model, measured = _fitted(params, split, labelled, k)
    if labels == LABELS[-1]:
        return {**measured, "chosen": []}
    candidates = np.flatnonzero(~np.isin(split.pool.ids, labelled))
    query = choose(model, split.pool, candidates, split.info, params, k)
    return {**measured, "chosen": [name for name, _ in query]}


# --- curves ---


@dataclass(frozen=True)
class Loop:
    """What is done of one loop."""

    curve: Mapping[int, float]  # labels -> accuracy
    failed: bool  # whether a fit failed, which ends it

    @property
    def area(self) -> float:
        """Under accuracy over labels, divided by their width."""
        return area_under_curve(list(self.curve), list(self.curve.values()))

    @property
    def collapsed(self) -> bool:
        """Whether accuracy ever fell by `COLLAPSE` below its best so far."""
        values = np.array(list(self.curve.values()))
        return bool((np.maximum.accumulate(values) - values > COLLAPSE).any())


Loops = Mapping[int, Loop]  # by seed


def read_loops(units: Sequence[Unit], raw: RawFile, *names: str) -> dict[tuple[Any, ...], dict[int, Loop]]:
    """Values of ``names`` -> seed -> loop."""
    found: dict[tuple[Any, ...], dict[int, Loop]] = {}
    for (*group, seed), results in results_by(units, raw, *names, "seed", "labels").items():
        curve = {size: result["accuracy"] for size, result in results.items() if "accuracy" in result}
        found.setdefault(tuple(group), {})[seed] = Loop(curve, any("failure" in r for r in results.values()))
    return found


def loop_row(loops: Loops, reference: Loops | None, labels: Sequence[int]) -> dict[str, Any]:
    """{auc, auc_gain, auc_gain_ci, labels_to_95, n, failures} of the loops that have all ``labels``.

    The gain is over the loop of ``reference`` with the same seed.
    """
    whole = _whole(loops, labels)
    theirs = _whole(reference or {}, labels)
    pairs = sorted(set(whole) & set(theirs))
    gain, interval = (
        paired_interval([whole[s].area for s in pairs], [theirs[s].area for s in pairs]) if pairs else (None, None)
    )
    reached = [labels_to(TARGET, list(loop.curve), list(loop.curve.values())) for loop in whole.values()]
    failed = sum(loop.failed for loop in loops.values())
    reached += [None] * failed
    return {
        "auc": float(np.mean([loop.area for loop in whole.values()])) if whole else None,
        "auc_gain": gain,
        "auc_gain_ci": interval,
        "labels_to_95": censored_median(reached) if reached else None,
        "n": len(whole),
        "failures": failed + sum(loop.collapsed for loop in whole.values()),
    }


def mean_curve(loops: Loops, labels: Sequence[int]) -> dict[int, float]:
    """Mean accuracy at each of ``labels`` over the loops that have them all."""
    whole = _whole(loops, labels).values()
    return {size: float(np.mean([loop.curve[size] for loop in whole])) for size in labels} if whole else {}


def _whole(loops: Loops, labels: Sequence[int]) -> dict[int, Loop]:
    return {seed: loop for seed, loop in loops.items() if len(loop.curve) == len(labels)}
