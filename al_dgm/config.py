"""params.yaml and rounds.yaml as frozen, checked objects. Nothing else in the project reads YAML.

Every key is documented where users meet it, in params.yaml; here are its type and its range. A section such as
``model`` names one component and carries a block of options for each it may be switched to::

    model: {name: m2, ensemble: 1, m2: {latent: 8}, sdgm: {latent: 8, auxiliary: 8}}

The blocks are checked by the registry against the component's own constructor (`al_dgm.registry`), so this module
needs no torch. Addresses and secrets never stand in params.yaml: they come from the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from al_dgm.errors import ConfigError
from al_dgm.files import write_atomically
from al_dgm.registry import build, describe, lookup, nearest

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Section = TypeVar("Section", bound=BaseModel)
Component = TypeVar("Component")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Choice(BaseModel):
    """One component by name, and a block of options for each component the name may be switched to."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def blocks(self) -> dict[str, Mapping[str, Any] | None]:
        """Component name -> the options written for it."""
        return dict(self.model_extra or {})

    @property
    def options(self) -> dict[str, Any]:
        """The options of the component that is named; none written means its defaults."""
        return dict(self.blocks.get(self.name) or {})

    def in_use(self) -> dict[str, Any]:
        """Everything but the blocks of components that are not named."""
        return {key: value for key, value in self.model_dump().items() if key not in set(self.blocks) - {self.name}}

    def build(self, registry: Mapping[str, Callable[..., Component]], path: str, **given: Any) -> Component:
        """The named component from ``registry``, with its options and what the program gives.

        Raises:
            ConfigError: the name, a block or an option is unknown (with the nearest known one) or wrong.
        """
        for name in self.blocks:
            lookup(registry, name, path)
        lookup(registry, self.name, f"{path}.name")
        return build(registry, self.name, self.options, f"{path}.{self.name}", **given)

    @model_validator(mode="after")
    def _blocks_are_mappings(self) -> Choice:
        for key, block in self.blocks.items():
            if block is not None and not isinstance(block, Mapping):
                raise ValueError(
                    f"'{key}' should be a block of options (key: value), got {block!r}; options of '{self.name}' stand "
                    f"in its own block: {self.name}.{key}"
                )
        return self


class SeedSetParams(_Section):
    """How the loop gets its first labels."""

    size: Positive
    strategy: Literal["balanced", "random", "given"]


class TrainingParams(_Section):
    """The recipe of one fit; minibatch sizes are global, over all workers."""

    steps: Positive
    labelled_batch: Positive
    unlabelled_batch: NonNegative
    learning_rate: Annotated[float, Field(gt=0)]
    final_learning_rate: Annotated[float, Field(ge=0)] | None
    weight_average: Annotated[float, Field(ge=0, lt=1)]
    gradient_norm: Annotated[float, Field(gt=0)]
    classification_weight: Annotated[float, Field(ge=0)]
    weighting: Literal["sum", "mean"]
    latent_warmup: Fraction
    weight_warmup: Fraction
    responsibility_start: Fraction
    responsibility_end: Fraction
    label_neighbours: NonNegative
    adversarial_weight: Annotated[float, Field(ge=0)]
    adversarial_radius: Annotated[float, Field(gt=0)]
    balance_weight: Annotated[float, Field(ge=0)]
    consistency_weight: Annotated[float, Field(ge=0)]
    consistency_temperature: Annotated[float, Field(gt=0, le=1)]
    smoothing_warmup: Fraction
    temperature: Annotated[float, Field(gt=0)]
    precision: Literal["float32", "bfloat16"]
    patience: NonNegative
    min_improvement: Annotated[float, Field(ge=0)]
    restarts: NonNegative
    start: Literal["cold", "warm"]

    @model_validator(mode="after")
    def _responsibility_grows(self) -> TrainingParams:
        if self.responsibility_start > self.responsibility_end:
            raise ValueError(
                f"responsibility_start: expected at most responsibility_end, {self.responsibility_end}, "
                f"got {self.responsibility_start}"
            )
        return self


class PredictionParams(_Section):
    """How many samples a predictive probability averages over."""

    weight_samples: Positive
    latent_samples: Positive


class AcquisitionParams(_Section):
    """Which examples a query asks for: score, then selector."""

    name: str
    query_size: Positive
    selector: Choice
    max_candidates: Positive | None

    @model_validator(mode="after")
    def _candidates_suffice(self) -> AcquisitionParams:
        if self.max_candidates is not None and self.max_candidates < self.query_size:
            raise ValueError(
                f"max_candidates: expected at least query_size, {self.query_size}, got {self.max_candidates}"
            )
        return self


class ComputeParams(_Section):
    """Where training runs; nothing here changes a result."""

    workers: NonNegative
    gpu: bool | Literal["auto"]
    threads: Positive | None
    compile: bool
    prediction_batch: Positive
    checkpoint_seconds: Annotated[float, Field(gt=0)]
    max_failures: NonNegative


class TrackingParams(_Section):
    """Where MLflow shows the loop; nothing here changes a result."""

    enabled: bool
    experiment: Annotated[str, Field(min_length=1)]


class DataParams(Choice):
    """The data set, its options, and how many rows a Parquet shard of the pool holds."""

    shard_size: Positive


class ModelParams(Choice):
    """The model, its options, and how many members an ensemble of it has; 1 is the model alone."""

    ensemble: Positive


class Params(_Section):
    """All of params.yaml."""

    seed: NonNegative
    data: DataParams
    seed_set: SeedSetParams
    model: ModelParams
    training: TrainingParams
    prediction: PredictionParams
    acquisition: AcquisitionParams
    labels: Choice
    compute: ComputeParams
    tracking: TrackingParams

    @model_validator(mode="after")
    def _seed_set_needs_truth(self) -> Params:
        if self.seed_set.strategy == "balanced" and self.labels.name != "oracle":
            raise ValueError(
                f"seed_set.strategy 'balanced' reads the true labels, so it needs labels.name 'oracle', "
                f"got '{self.labels.name}'; expected 'random' or 'given'"
            )
        return self

    def fingerprint(self) -> str:
        """Twelve hex digits that change when, and only when, something that can change a result does."""
        decisive = self.model_dump(exclude={"compute", "tracking"})
        decisive |= {"data": self.data.in_use(), "model": self.model.in_use(), "labels": self.labels.in_use()}
        decisive["acquisition"]["selector"] = self.acquisition.selector.in_use()
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


class Rounds(_Section):
    """The unrolled loop: each round's number and its predecessor's, as DVC's ``foreach`` needs them.

    ``trainings`` has one entry more than ``queries``: labels that the last query bought are trained on too.
    """

    trainings: dict[str, NonNegative]
    queries: dict[str, NonNegative]

    @model_validator(mode="after")
    def _is_a_chain(self) -> Rounds:
        expected = Rounds.chain(len(self.queries))
        if (self.trainings, self.queries) != expected:
            raise ValueError("the rounds are not a chain 1, 2, 3, …; write the file with `al-dgm rounds N`")
        return self

    @staticmethod
    def chain(queries: int) -> tuple[dict[str, int], dict[str, int]]:
        """(trainings, queries) of a loop that buys labels ``queries`` times."""
        trainings = {str(k): k - 1 for k in range(1, queries + 2)}
        return trainings, {k: prev for k, prev in trainings.items() if int(k) <= queries}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: file not found; expected it in {Path.cwd()}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}:{line} not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections (key: value), got {type(content).__name__}")
    return content


def _unknown_key(schema: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The nearest known key beside an unknown one."""
    for part in location[:-1]:
        annotation = schema.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        schema = annotation
    return nearest(str(location[-1]), schema.model_fields) + f"; expected one of: {', '.join(schema.model_fields)}"


def _checked(schema: type[Section], content: Mapping[str, Any], source: str) -> Section:
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        # Before all else: a required key that is misspelt is missing, too, and its name says more.
        unknown = next((one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"), None)
        if unknown is not None:
            where = ".".join(map(str, unknown))
            raise ConfigError(f"{source}: {where}: unknown key{_unknown_key(schema, unknown)}") from None
        raise ConfigError(f"{source}: {describe(error)}") from None


def parse_params(content: Mapping[str, Any], source: str = "params") -> Params:
    """Checked parameters from a mapping.

    Raises:
        ConfigError: a key is unknown (with the nearest known one), missing, of the wrong type or out of range.
    """
    return _checked(Params, content, source)


def load_params(path: str | os.PathLike[str] = "params.yaml", changes: Iterable[str] = ()) -> Params:
    """Checked parameters from a YAML file, after ``changes`` such as ``training.steps=500``; raises as `parse_params`.

    A change that is no such thing is a ConfigError too.
    """
    content = _read(Path(path))
    for change in changes:
        _change(content, change)
    return parse_params(content, str(path))


def _change(content: dict[str, Any], change: str) -> None:
    """Set one dotted key to a value in YAML; what is missing on the way is made, for the schema to refuse it."""
    where, equals, text = change.partition("=")
    *sections, key = where.strip().split(".")
    if not (equals and all([*sections, key])):
        raise ConfigError(f"--set: expected section.key=value, got '{change}'")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {where}: expected a value in YAML, got '{text}'") from None
    for section in sections:
        if not isinstance(content.get(section), dict):
            content[section] = {}
        content = content[section]
    content[key] = value


def load_rounds(path: str | os.PathLike[str] = "rounds.yaml") -> Rounds:
    """The loop's rounds from the file that `write_rounds` wrote."""
    return _checked(Rounds, _read(Path(path)), str(path))


def write_rounds(queries: int, path: str | os.PathLike[str] = "rounds.yaml") -> Rounds:
    """Unroll a loop of ``queries`` rounds into the file that dvc.yaml's ``foreach`` reads."""
    if queries < 1:
        raise ConfigError(f"rounds: expected at least 1, got {queries}")
    trainings, chain = Rounds.chain(queries)
    rounds = Rounds(trainings=trainings, queries=chain)
    lines = ["# The loop, unrolled: round -> its predecessor. Written by `al-dgm rounds N`; not meant to be edited."]
    for name, entries in (("trainings", rounds.trainings), ("queries", rounds.queries)):
        lines += [f"{name}:", *(f'  "{k}": {prev}' for k, prev in entries.items())]
    write_atomically(Path(path), ("\n".join(lines) + "\n").encode())
    return rounds
