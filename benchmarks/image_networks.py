"""Claim: SDGM reads and produces images by convolutions, and by a PixelCNN as in FAME, and what that brings.

The further work that the thesis and FAME's paper name (seed 003): convolutions in SDGM, and FAME's decoder in
a semi-supervised model. On UCI's training digits (uci_digits.py): for each seed 1200 examples are the pool and 600
others are looked at.

    python benchmarks/image_networks.py --data optdigits.tra    the file of 65 columns, as UCI publishes it

Rows: {networks, labels, mean, sd, n, gain, gain_ci, nats}: accuracy in 0..1 over n paired seeds, the mean gain over
dense networks and its paired-t 95 % interval, and the mean ELBO on log p(x) of the examples looked at, in nats.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import (
    RawFile,
    Result,
    Setting,
    Unit,
    add_recipe_options,
    add_unit_options,
    compared_rows,
    digest,
    mean_and_sd,
    one_of,
    parser,
    recipe,
    report,
    results_by,
    run_units,
    with_changes,
)
from digits_data import fit_and_measure
from uci_digits import add_data_option, development_split

from al_dgm.config import Params
from al_dgm.errors import one_line_errors
from al_dgm.learning.rounds import predictor
from al_dgm.models import DeepGenerativeModel

CONVOLUTIONS = {"model.sdgm.convolutions": [16, 32]}
PIXELCNN = {**CONVOLUTIONS, "model.sdgm.pixelcnn": [16, 2]}
WHOLE = {"model.sdgm.likelihood_weight": 1.0}  # pixels described by those before them are not counted several times
NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {},
    "convolutions": CONVOLUTIONS,
    "PixelCNN": PIXELCNN,
    "dense, likelihood weight 1": WHOLE,
    "convolutions, likelihood weight 1": CONVOLUTIONS | WHOLE,
    "PixelCNN, likelihood weight 1": PIXELCNN | WHOLE,
}
BASE = {"model.name": "sdgm", "model.sdgm.enumeration": 2}  # a PixelCNN of every image with all classes takes long


def own_params(params: Params, networks: str, seed: int) -> Params:
    """``params`` for one kind of networks and seed."""
    return with_changes(params, {"seed": seed, **BASE, **NETWORKS[networks]})


def work(params: Params, path: Path, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit."""
    own = own_params(params, setting["networks"], setting["seed"])
    split = development_split(path, own)
    model, measured = fit_and_measure(own, split, split.labels(split.balanced(setting["labels"], own.seed)))
    assert isinstance(model, DeepGenerativeModel)
    bounds = predictor(own, 1, "bounds").expected_elbo(model, torch.from_numpy(split.holdout.x))
    return measured | {"nats": float(bounds.mean())}


def make_units(params: Params, seeds: int, labels: Sequence[int], networks: Sequence[str]) -> list[Unit]:
    """All fits, seed by seed."""
    units = []
    for seed, size, name in itertools.product(range(seeds), labels, networks):
        own = own_params(params, name, seed)
        decisive = digest(own.model, own.training, own.prediction)
        units.append(Unit({"networks": name, "labels": size, "seed": seed, "params": decisive}))
    return units


def rows(units: Sequence[Unit], raw: RawFile) -> list[dict[str, Any]]:
    """Accuracies compared, and the mean ELBO beside them."""
    done = results_by(units, raw, "networks", "labels", "seed")
    compared = compared_rows(units, raw, "networks", "dense")
    nats = [[r["nats"] for r in done[row["networks"], row["labels"]].values() if "nats" in r] for row in compared]
    return [row | {"nats": mean_and_sd(of)[0] if of else None} for row, of in zip(compared, nats, strict=True)]


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=3)
    add_data_option(options)
    options.add_argument(
        "--labels", type=int, nargs="+", default=[100], metavar="N", help="known labels (default: %(default)s)"
    )
    options.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS, help=one_of(NETWORKS))
    add_recipe_options(options)
    given = options.parse_args()
    params = recipe(given)
    units = make_units(params, given.seeds, given.labels, given.networks)
    raw = RawFile(given.results / "raw" / "image_networks.jsonl")
    run_units(units, partial(work, params, given.data), raw, given.jobs, given.budget_seconds)
    report("image_networks", rows(units, raw), given.results, measured=raw.measured(units))


if __name__ == "__main__":
    with one_line_errors():
        main()
