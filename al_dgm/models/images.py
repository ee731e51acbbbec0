"""How a model's networks read and produce x: as a row of D numbers, or as an image.

Options say which: ``convolutions``, and ``pixelcnn`` where a pixel is to depend on those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from al_dgm.errors import ConfigError
from al_dgm.models.base import Size, Space
from al_dgm.nn.linear import Extent
from al_dgm.nn.mlp import MLP, Features, plan_of
from al_dgm.nn.noise import Noise
from al_dgm.nn.pictures import Picture, Pyramid
from al_dgm.nn.pixelcnn import PixelCNN, PixelDecoder

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


def decoder_of_x(
    space: Space,
    inputs: Sequence[int],
    hidden: Sequence[int],
    convolutions: Sequence[int],
    pixelcnn: Sequence[int],
    bayesian: Extent,
) -> MLP | PixelDecoder:
    """The network of p(x | inputs), or of p(x_i | x_<i, inputs) for every pixel i; see `PixelCNN`.

    Args:
        space: the data's sizes and observation model.
        inputs: their sizes.
        hidden: sizes of the hidden layers.
        convolutions: channels of the transposed convolutions after them; none for rows of numbers.
        pixelcnn: [channels, residual blocks]; none where pixels are independent given the inputs.
        bayesian: which layers are Bayesian.

    Raises:
        ConfigError: x is no image, or ``pixelcnn`` is not two numbers, or there are no convolutions before it.
    """
    if not pixelcnn:
        return MLP(inputs, hidden, as_output(space, convolutions), bayesian=bayesian)
    if len(pixelcnn) != 2:
        raise ConfigError(f"pixelcnn: expected [channels, residual blocks], as [32, 4], or [], got {list(pixelcnn)}")
    if not convolutions:
        raise ConfigError("pixelcnn: expected convolutions as well, as [32, 64], by which it is given feature maps")
    shown, n = picture(space, "pixelcnn"), space.observation.outputs(space.features) // space.features
    below = Pyramid(shown, tuple(convolutions), convolutions[0])
    maps = Features(plan_of(inputs, hidden, below), bayesian=bayesian is True)
    (channels, blocks), width = pixelcnn, convolutions[0] * shown.grid.channels
    return PixelDecoder(maps, PixelCNN(shown, width, channels, blocks, n, bayesian=bayesian))


def pixel_by_pixel(space: Space, describe: Callable[[Tensor], Tensor], x: Tensor, noise: Noise) -> Tensor:
    """Parameters of p(x_i | x_<i, ·) at x drawn from it, pixel by pixel in raster order; [R, n D].

    Args:
        space: the data's sizes and observation model.
        describe: x [1, D] or [R, D] ↦ the parameters of every pixel, [R, n D]: as many passes as there are pixels.
        x: anything, [1, D].
        noise: source of the draws.
    """
    shown = picture(space)
    order = shown.maps(torch.arange(space.features, device=x.device)).view(-1, shown.grid.channels)
    for pixel in order:
        here = torch.zeros(space.features, dtype=torch.bool, device=x.device).index_fill(0, pixel, value=True)
        x = torch.where(here, space.observation.sample(describe(x), noise), x)
    return describe(x)
