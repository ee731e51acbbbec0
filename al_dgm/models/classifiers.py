"""The network of q(y | ·): plain, or disturbed in training by the option ``corruption``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from al_dgm.errors import ConfigError
from al_dgm.nn.corrupted import CorruptedMLP, Corruption
from al_dgm.nn.linear import Extent
from al_dgm.nn.mlp import MLP
from al_dgm.nn.pictures import Pyramid

CorruptionOption = list[Annotated[float, Field(ge=0)]]


def classifier(
    inputs: Sequence[int | Pyramid],
    hidden: Sequence[int],
    classes: int,
    corruption: Sequence[float],
    bayesian: Extent,
    *,
    batch_norm: bool = False,
) -> MLP:
    """A network whose outputs are the logits of y; a disturbed one is normalised in any case.

    Raises:
        ConfigError: ``corruption`` is neither empty nor two numbers.
    """
    if not corruption:
        return MLP(inputs, hidden, classes, bayesian=bayesian, batch_norm=batch_norm)
    if len(corruption) != len(Corruption._fields):
        raise ConfigError(f"corruption: expected [input, units], as [1.0, 0.3], or [], got {list(corruption)}")
    return CorruptedMLP(inputs, hidden, classes, Corruption(*corruption), bayesian=bayesian)
