"""A trained model on disk: `model.safetensors` for the weights, `model.json` for everything else. No pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from al_dgm.errors import DataError
from al_dgm.files import write_atomically
from al_dgm.learning.job import ModelSpec
from al_dgm.models import Model

WEIGHTS, SPEC = "model.safetensors", "model.json"


def save_model(folder: Path, spec: ModelSpec, model: Model) -> str:
    """Write the model; returns its version, twelve hex digits of the SHA-256 of its weights."""
    weights = save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    version = _version(weights)
    write_atomically(folder / WEIGHTS, weights)
    write_atomically(folder / SPEC, (json.dumps({**asdict(spec), "version": version}, indent=2) + "\n").encode())
    return version


def load_model(folder: Path) -> tuple[Model, ModelSpec, str]:
    """The model in evaluation mode, what it is, and its version.

    Raises:
        DataError: a file is missing or damaged.
    """
    try:
        content = json.loads((folder / SPEC).read_text())
        version = content.pop("version")
        listed = {name: tuple(content[name]) for name in ("classes", "shape") if name in content}
        spec = ModelSpec(**{**content, **listed})
        stored = (folder / WEIGHTS).read_bytes()
        weights = load(stored)
    except FileNotFoundError as error:
        raise DataError(f"{error.filename or folder}: no model here; `dvc repro` or `al-dgm train` makes one") from None
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError(f"{folder}: not a model of al-dgm: {error}") from None
    if _version(stored) != version:
        raise DataError(f"{folder}: {WEIGHTS} and {SPEC} do not belong together: {SPEC} names version {version}")
    model = spec.build(seed=0)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(
            f"{folder}: {WEIGHTS} and {SPEC} do not belong together: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.eval(), spec, version


def _version(weights: bytes) -> str:
    return hashlib.sha256(weights).hexdigest()[:12]
