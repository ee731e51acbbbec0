"""Claim: the models of x reach their published bounds on log p(x) of MNIST's test images, dynamically binarised.

Training binarises the 60000 training images anew in every step; the 10000 test images are binarised once, the same
for every model. The figure is the importance-weighted bound of 5000 samples (L_5000), by the model of the last step:
nothing is chosen on the test images. Recipes are those of mnist_recipes.yaml. Rows: {model, labels, nats, error,
images, iw_samples, epochs, precision, device}: the mean over the test images and its standard error; ``elbo`` is the
bound of one sample, and an epoch is 60000 images seen. ``--images n``: 5000 samples of n test images only, whose gain
over the ELBO is added to the ELBO of all 10000, which takes n/10000 of the time and adds a few hundredths of a nat of
error.

A recipe may start ``from`` another one's weights, with a learning rate that falls anew: LVAE's fine-tuning.

Fits are kept one by one (results/raw/mnist_density.jsonl); one that is killed goes on from its last checkpoint. Models
that others start from stay in checkpoints/. ``--steps`` and ``--precision`` as in mnist_ssl.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RawFile, Result, Setting, Unit, add_unit_options, digest, one_of, parser, report, run_units
from mnist_data import (
    CHECKPOINTS,
    FROM,
    add_deviations,
    deviating,
    deviations,
    fitted,
    load_mnist,
    load_recipes,
    recipe,
)

from al_dgm.config import Params, load_params
from al_dgm.errors import one_line_errors
from al_dgm.learning.density import log_likelihood
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.model_files import load_model, save_model
from al_dgm.learning.rounds import model_spec
from al_dgm.models import GenerativeModel

LABELS = {"cagem0": 0, "cagem100": 100}  # the others see none


def work(params: Params, setting: Setting, _: Sequence[Result]) -> Result:
    """One fit."""
    recipes, name = load_recipes("density"), setting["model"]
    own, start = own_params(params, setting), None
    split = load_mnist(own, development=setting["development"])
    if FROM in setting:
        start = load_model(folder(recipes[name][FROM], setting, setting[FROM]))[0].state_dict()
    x = torch.from_numpy(split.holdout.x)
    with fitted(own, split, setting["labels"], start) as (model, _curve):
        if not isinstance(model, GenerativeModel):
            raise TypeError(f"{name}: expected a model of x")
        if any(changes.get(FROM) == name for changes in recipes.values()):
            save_model(folder(name, setting, setting["params"]), model_spec(own.model, split.info), model)
        device = set_up_torch(own.compute)
        found = log_likelihood(model.to(device), x, own.seed, setting["iw_samples"], setting["images"])
        return {**found.summary(), "device": device.type}


def folder(name: str, setting: Setting, params: str) -> Path:
    """Where the model ``name`` of this seed, trained by the recipe with the digest ``params``, is kept for others."""
    data = "development" if setting["development"] else "mnist"
    return CHECKPOINTS / f"{data}-{name}-{setting['seed']}-{params}"


def make_units(params: Params, given: Any) -> list[Unit]:
    """All fits, each after the one whose model it starts from."""
    recipes = load_recipes("density")

    def unit(model: str, seed: int) -> Unit:
        setting = {"model": model, "labels": LABELS.get(model, 0), "seed": seed, "iw_samples": given.samples}
        setting |= {"images": given.images, "development": given.development} | deviations(given)
        setting |= {"params": recipe_digest(params, setting)}
        if not (origin := recipes[model].get(FROM)):
            return Unit(setting)
        after = unit(origin, seed)
        return Unit(setting | {FROM: after.setting["params"]}, after)

    wanted = [unit(model, seed) for seed in range(given.seeds) for model in given.models]
    return list({unit.key: unit for last in wanted for unit in [*last.chain(), last]}.values())


def own_params(params: Params, setting: Setting) -> Params:
    """The recipe of the setting's model, but for the setting's deviations."""
    return deviating(recipe(params, load_recipes("density"), setting["model"], setting["seed"]), setting)


def recipe_digest(params: Params, setting: Setting) -> str:
    """What tells fits by this recipe from those by an earlier one."""
    own = own_params(params, setting)
    return digest(own.model, own.training)


def finished(params: Params, raw: RawFile, *, development: bool) -> list[Unit]:
    """Every fit by the present recipes, whoever made it."""
    methods = load_recipes("density")

    def current(setting: Setting) -> bool:
        known = setting["development"] == development and setting["model"] in methods
        return known and bool(setting["params"] == recipe_digest(params, setting))

    return sorted(raw.units(current), key=lambda unit: [unit.setting[name] for name in ("model", "seed", "images")])


def rows(params: Params, units: Sequence[Unit], raw: RawFile) -> list[dict[str, Any]]:
    """One row for each fit."""
    found = []
    for unit in units:
        setting, result = unit.setting, raw.results[unit.key]
        training = own_params(params, setting).training
        row = {"model": setting["model"], "labels": setting["labels"], "seed": setting["seed"]}
        if "failure" not in result:
            row |= {"nats": result["importance_weighted"], "error": result["importance_weighted_error"]}
            row |= {"elbo": result["elbo"], "images": result["weighted_examples"]}
            row |= {"iw_samples": result["importance_samples"], "device": result["device"]}
        row |= {"epochs": round(training.steps * training.unlabelled_batch / 60_000, 1)}
        found.append(row | {"precision": training.precision} | failure(result))
    return found


def failure(result: Result) -> dict[str, Any]:
    """Why a fit gave no figure."""
    return {"failure": result["failure"]} if "failure" in result else {}


def main() -> None:
    """Do what is missing and report."""
    options = parser(__doc__)
    add_unit_options(options, seeds=1)
    methods = sorted(load_recipes("density"))
    options.add_argument("--models", nargs="+", default=methods, choices=methods, metavar="MODEL", help=one_of(methods))
    options.add_argument("--samples", type=int, default=5000, help="K (default: %(default)s)")
    options.add_argument("--images", type=int, default=10_000, help="that get K samples (default: %(default)s)")
    add_deviations(options)
    options.add_argument("--development", action="store_true", help="measure on 10000 training images")
    given = options.parse_args()
    if given.images < 2:
        options.error(f"--images: expected at least 2, whose scatter is the error, got {given.images}")
    params = load_params("params.yaml")
    units = make_units(params, given)
    raw = RawFile(given.results / "raw" / "mnist_density.jsonl")
    run_units(units, partial(work, params), raw, given.jobs, given.budget_seconds)
    done = finished(params, raw, development=given.development)
    name = "mnist_density_development" if given.development else "mnist_density"
    report(name, rows(params, done, raw), given.results, measured=raw.measured(done))


if __name__ == "__main__":
    with one_line_errors():
        main()
