"""Whether everything that params.yaml names can be made: asked before an hour of training, not after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from al_dgm.acquisition import SELECTORS
from al_dgm.config import Choice, Params
from al_dgm.data import DATASETS
from al_dgm.data.prepared import DatasetInfo
from al_dgm.errors import ConfigError
from al_dgm.labelling import LABEL_SOURCES, build_source
from al_dgm.learning.acquire import check_acquisition
from al_dgm.learning.labels import check_source
from al_dgm.learning.rounds import model_spec
from al_dgm.models import MODELS, DeepGenerativeModel, Model
from al_dgm.models.ensemble import members_of
from al_dgm.nn.corrupted import corrupted
from al_dgm.registry import checked_options, lookup

# What the program passes to constructors, section by section, and no user may set.
GIVEN = {"data": {"seed"}, "model": {"space"}, "labels": {"truth", "classes", "seed", "root"}}


def check_components(params: Params, info: DatasetInfo) -> None:
    """Build every component that is named, and check the blocks of those it may be switched to.

    Raises:
        ConfigError: a name or an option is unknown or wrong, or two choices do not go together.
    """
    _check_blocks(params.data, DATASETS, "data")
    model = checked_model(params, info)
    _check_blocks(params.acquisition.selector, SELECTORS, "acquisition.selector")
    _check_blocks(params.labels, LABEL_SOURCES, "labels")
    source = build_source(params.labels, truth=dict, classes=info.classes, seed=params.seed, root=Path())
    check_source(params.labels.name, source, info)
    check_acquisition(params, model, info)


def checked_model(params: Params, info: DatasetInfo) -> Model:
    """The model that is named, as it starts; the blocks of those it may be switched to are checked as well.

    Raises:
        ConfigError: a name or an option is unknown or wrong, or the model cannot be trained as ``training`` says.
    """
    _check_blocks(params.model, MODELS, "model")
    model = model_spec(params.model, info).build(seed=0)
    _check_consistency(params, model)
    _check_neighbours(params, model)
    return model


def _check_consistency(params: Params, model: Model) -> None:
    weight, name = params.training.consistency_weight, params.model.name
    if weight and params.training.unlabelled_batch == 0:
        raise ConfigError(
            f"training.consistency_weight: expected 0, got {weight}: it is taken over unlabelled examples, and "
            "training.unlabelled_batch is 0"
        )
    if weight and not corrupted(model):
        may_be = isinstance(members_of(model)[0], DeepGenerativeModel)
        raise ConfigError(
            f"training.consistency_weight: expected 0, got {weight}: the classifier of model '{name}' has no "
            f"corruption to be consistent under{'; [1.0, 0.3] is one' if may_be else ''}"
        )


def _check_neighbours(params: Params, model: Model) -> None:
    """Refuse to spread labels where they would not be."""
    training = params.training
    reasons = {
        f"model '{params.model.name}' sees no unlabelled example": not model.generative,
        "training.unlabelled_batch is 0": training.unlabelled_batch == 0,
        "training.responsibility_end, until which labels are spread, is 0": training.responsibility_end == 0,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    if training.label_neighbours and reason:
        raise ConfigError(f"training.label_neighbours: expected 0, got {training.label_neighbours}: {reason}")


def _check_blocks(choice: Choice, registry: Mapping[str, Callable[..., Any]], path: str) -> None:
    lookup(registry, choice.name, f"{path}.name")
    for name, block in choice.blocks.items():
        checked_options(lookup(registry, name, path), block or {}, f"{path}.{name}", GIVEN.get(path, ()))
