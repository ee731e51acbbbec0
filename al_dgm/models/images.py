"""How a model's networks read and produce x: as a row of D numbers, or as an image by the option ``convolutions``."""

from __future__ import annotations

from collections.abc import Sequence

from al_dgm.errors import ConfigError
from al_dgm.models.base import Size, Space
from al_dgm.nn.pictures import Picture, Pyramid

Channels = list[Size]


def as_input(space: Space, convolutions: Sequence[int]) -> int | Pyramid:
    """x as a network's input; without convolutions a row of D numbers.

    Raises:
        ConfigError: there are convolutions, and x is no image.
    """
    return Pyramid(picture(space), tuple(convolutions)) if convolutions else space.features


def as_output(space: Space, convolutions: Sequence[int]) -> int | Pyramid:
    """The parameters of p(x | ·) as a network's output; raises as `as_input` does."""
    outputs = space.observation.outputs(space.features)
    if not convolutions:
        return outputs
    return Pyramid(picture(space), tuple(convolutions), outputs // space.features)


def picture(space: Space, option: str = "convolutions") -> Picture:
    """x as an image, which ``option`` is about.

    Raises:
        ConfigError: it is none.
    """
    found = Picture.of(space.shape)
    if found is None:
        raise ConfigError(
            f"{option}: expected images, of a shape such as [28, 28] or [32, 32, 3], "
            f"got examples of shape {list(space.shape or (space.features,))}"
        )
    return found
