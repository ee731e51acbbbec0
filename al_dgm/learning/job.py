"""A training job: all that one fit needs, as plain data that can travel to a worker, and how to run it there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from al_dgm.config import TrainingParams
from al_dgm.learning.fit import Checkpoints, TrainingData, Workers, fit
from al_dgm.learning.restarts import best_fits
from al_dgm.models import MODELS, Model, Space
from al_dgm.models.ensemble import ensemble, members_of
from al_dgm.models.observation import make_observation
from al_dgm.registry import build
from al_dgm.seeding import integer_seed


@dataclass(frozen=True)
class ModelSpec:
    """A model without its weights: what `model.json` holds.

    Attributes:
        name: the model's name in `MODELS`.
        options: its block in params.yaml.
        features: D.
        classes: class names, in the order of the model's outputs.
        observation: ``kind`` and ``trials``, as dataset.json has them, and the ``step`` of quantised values.
        centre: mean of x over the pool, all features together.
        spread: standard deviation likewise.
        shape: of one example, as dataset.json has it; () in a model.json from before it was kept there.
        ensemble: how many members; 1 is the model alone.
        model_space: which features x has, and by which scale, as a digest; "" where that is not known.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")  # model.json is checked when it is read

    name: str
    options: Mapping[str, Any]
    features: int
    classes: tuple[str, ...]
    observation: Mapping[str, Any]
    centre: float
    spread: float
    shape: tuple[int, ...] = ()
    ensemble: Annotated[int, Field(ge=1)] = 1
    model_space: str = ""

    def build(self, seed: int) -> Model:
        """The model with initial weights drawn from ``seed``, each member of an ensemble from a stream of its own.

        Raises:
            ConfigError: the name or an option is unknown or wrong.
        """
        if self.ensemble == 1:
            return self._member(seed)
        return ensemble([self._member(integer_seed(seed, "member", m)) for m in range(self.ensemble)])

    def _member(self, seed: int) -> Model:
        observation = make_observation(**self.observation)
        space = Space(self.features, len(self.classes), observation, self.centre, self.spread, self.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(MODELS, self.name, self.options, path=f"model.{self.name}", space=space)


def _code() -> dict[str, str]:
    """Each file of this package -> its digest: half a fit by one version is not to be ended by another."""
    package = Path(__file__).parents[1]
    files = sorted(package.rglob("*.py"))
    return {path.relative_to(package).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@dataclass(frozen=True)
class TrainingJob:
    """One fit.

    Attributes:
        spec: which model.
        data: on the CPU.
        recipe: the ``training`` section of params.yaml.
        seed: of this fit.
        start: weights to start from instead of fresh ones (warm start).
        label: shown before the progress bar.
    """

    spec: ModelSpec
    data: TrainingData
    recipe: TrainingParams
    seed: int
    start: Mapping[str, Tensor] | None = None
    label: str = "fit"

    def digest(self) -> str:
        """Twelve hex digits of all that decides the result: model, data, recipe, seed, and the code that trains."""
        plain = [vars(self.spec), self.recipe.model_dump(), self.seed, _code()]
        found = hashlib.sha256(json.dumps(plain, sort_keys=True, default=dict).encode())
        tensors = [self.data.x_labelled, self.data.y, self.data.x_unlabelled, *(self.start or {}).values()]
        for tensor in tensors:
            found.update(tensor.contiguous().numpy().data)
        return found.hexdigest()[:12]

    def run(
        self,
        device: torch.device,
        workers: Workers | None = None,
        checkpoints: Checkpoints | None = None,
        *,
        compile_step: bool = False,
    ) -> tuple[Model, list[dict[str, float]]]:
        """Train on ``device``; the model and its training curve, which of several fits is their mean's."""
        fits = self._to_fit()
        data = self.data.to(device)
        history = fit(
            fits.to(device),
            data,
            self.recipe,
            self.seed,
            workers=workers,
            checkpoints=checkpoints,
            label=self.label,
            compile_step=compile_step,
        )
        members, keep = members_of(fits), self.spec.ensemble
        if len(members) == keep:
            return fits, history
        return best_fits(members, keep, data, self.recipe, integer_seed(self.seed, "restarts")), history

    def _to_fit(self) -> Model:
        """The model with its initial weights, and its restarts beside it in one ensemble.

        There are none where all fits would start from the same weights, or no bounds could tell them apart.
        """
        seed = integer_seed(self.seed, "init")
        model = self.spec.build(seed)
        if self.start is not None:
            model.load_state_dict(dict(self.start))
        elif model.generative and self.recipe.restarts:
            return replace(self.spec, ensemble=self.spec.ensemble + self.recipe.restarts).build(seed)
        return model
