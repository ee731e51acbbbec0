"""The models by the name that params.yaml gives them. To add one: its file, and its line here."""

from __future__ import annotations

from collections.abc import Callable

from al_dgm.models.adgm import ADGM
from al_dgm.models.avae import AVAE
from al_dgm.models.base import GenerativeModel, Model, Space
from al_dgm.models.bdgm import BDGM
from al_dgm.models.cagem import CaGeM
from al_dgm.models.enumerating import DeepGenerativeModel
from al_dgm.models.fame import FAME
from al_dgm.models.lvae import LVAE
from al_dgm.models.m1m2 import M1M2
from al_dgm.models.m2 import M2
from al_dgm.models.sdgm import SDGM
from al_dgm.models.supervised import logistic, mlp
from al_dgm.models.vae import VAE

MODELS: dict[str, Callable[..., Model]] = {
    "adgm": ADGM,
    "avae": AVAE,
    "bdgm": BDGM,
    "cagem": CaGeM,
    "fame": FAME,
    "logistic": logistic,
    "lvae": LVAE,
    "m1m2": M1M2,
    "m2": M2,
    "mlp": mlp,
    "sdgm": SDGM,
    "vae": VAE,
}

__all__ = ["MODELS", "DeepGenerativeModel", "GenerativeModel", "Model", "Space"]
