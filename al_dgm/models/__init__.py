"""The models by the name that params.yaml gives them. To add one: its file, and its line here."""

from __future__ import annotations

from collections.abc import Callable

from al_dgm.models.adgm import ADGM
from al_dgm.models.base import DeepGenerativeModel, Model, Space
from al_dgm.models.m2 import M2
from al_dgm.models.sdgm import SDGM
from al_dgm.models.supervised import logistic, mlp

MODELS: dict[str, Callable[..., Model]] = {
    "adgm": ADGM,
    "logistic": logistic,
    "m2": M2,
    "mlp": mlp,
    "sdgm": SDGM,
}

__all__ = ["MODELS", "DeepGenerativeModel", "Model", "Space"]
