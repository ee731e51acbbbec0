"""A trained model on disk:

    model.safetensors   the weights
    labelled.parquet    id of every example whose label it has learnt from
    model.json          everything else, written last

Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from al_dgm.errors import ConfigError, DataError
from al_dgm.files import read_table, write_atomically, write_table
from al_dgm.learning.job import ModelSpec
from al_dgm.learning.outcome import read_json
from al_dgm.models import Model
from al_dgm.registry import describe

WEIGHTS, LABELLED, SPEC = "model.safetensors", "labelled.parquet", "model.json"
MISSING = "no model here; `dvc repro` or `al-dgm train` makes one"


def save_model(folder: Path, spec: ModelSpec, model: Model, labelled: Iterable[str] = ()) -> str:
    """Write the model; returns its version, twelve hex digits of the SHA-256 of its weights.

    Args:
        folder: where to.
        spec: what it is.
        model: with its weights.
        labelled: ids of the examples whose labels it has learnt from.
    """
    weights = save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    version = _version(weights)
    write_atomically(folder / WEIGHTS, weights)
    write_table(folder / LABELLED, pa.table({"id": pa.array(sorted(labelled), pa.string())}))
    write_atomically(folder / SPEC, (json.dumps({**asdict(spec), "version": version}, indent=2) + "\n").encode())
    return version


def load_model(folder: Path) -> tuple[Model, ModelSpec, str]:
    """The model in evaluation mode, what it is, and its version.

    Raises:
        DataError: a file is missing or damaged.
    """
    spec, version = _read_spec(folder)
    try:
        stored = (folder / WEIGHTS).read_bytes()
        weights, model = load(stored), spec.build(seed=0)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: {MISSING}") from None
    except (ValueError, KeyError, TypeError, SafetensorError, ConfigError) as error:
        raise DataError(f"{folder}: not a model of al-dgm: {error}") from None
    if _version(stored) != version:
        raise DataError(f"{folder}: {WEIGHTS} and {SPEC} do not belong together: {SPEC} names version {version}")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(
            f"{folder}: {WEIGHTS} and {SPEC} do not belong together: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.eval(), spec, version


def labelled_ids(folder: Path) -> set[str]:
    """Ids of the examples whose labels the saved model has learnt from.

    Raises:
        DataError: the file is missing or damaged.
    """
    return set(read_table(folder / LABELLED, ["id"])["id"].to_pylist())


def _read_spec(folder: Path) -> tuple[ModelSpec, str]:
    """What ``model.json`` says, and the version of the weights that it belongs to."""
    if not (folder / SPEC).exists():
        raise DataError(f"{folder / SPEC}: {MISSING}")
    content = read_json(folder / SPEC)
    version = str(content.pop("version", None))
    try:
        return TypeAdapter(ModelSpec).validate_python(content), version
    except ValidationError as error:
        raise DataError(f"{folder}: not a model of al-dgm: {SPEC}: {describe(error)}") from None


def _version(weights: bytes) -> str:
    return hashlib.sha256(weights).hexdigest()[:12]
