"""The data sets by the name that params.yaml gives them. To add one: its file, and its line here.

Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Callable

from al_dgm.data.digits import digits
from al_dgm.data.fashion_mnist import fashion_mnist
from al_dgm.data.half_moons import half_moons
from al_dgm.data.mnist import mnist
from al_dgm.data.raw import RawData
from al_dgm.data.table import table

DATASETS: dict[str, Callable[..., RawData]] = {
    "digits": digits,
    "half_moons": half_moons,
    "mnist": mnist,
    "fashion_mnist": fashion_mnist,
    "table": table,
}

__all__ = ["DATASETS", "RawData"]
