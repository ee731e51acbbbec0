"""Images as networks read and produce them: through convolutions of stride 2, each at half the resolution."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from al_dgm.nn.maps import Convolution, Grid, TransposedConvolution
from al_dgm.shapes import image_shape

STRIDE = 2


@dataclass(frozen=True)
class Picture:
    """An image in a row of D numbers.

    Attributes:
        grid: its sizes.
        channels_first: [channels, height, width] instead of [height, width, channels].
    """

    grid: Grid
    channels_first: bool = False

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Picture | None:
        """Of an example's shape; None of what is no image."""
        image = image_shape(shape)
        return None if image is None else cls(Grid(image.height, image.width, image.channels), image.channels_first)

    def maps(self, x: Tensor) -> Tensor:
        """[..., D] as feature maps."""
        if not self.channels_first:
            return x
        channels: Tensor = x.unflatten(-1, (self.grid.channels, -1))
        return channels.transpose(-1, -2).flatten(-2)

    def parameters(self, maps: Tensor) -> Tensor:
        """Feature maps with n channels for each of the image's, [..., n D], as n rows beside each other.

        So observation models read them: all means, and then all log-variances.
        """
        h: Tensor = maps.unflatten(-1, (self.grid.height * self.grid.width, -1, self.grid.channels))
        return h.movedim(-3, -1 if self.channels_first else -2).flatten(-3)


@dataclass(frozen=True)
class Pyramid:
    """An image and the feature maps above it: what a network reads, or produces, instead of a row of D numbers.

    Attributes:
        picture: the image.
        channels: of the feature maps, from the image upwards.
        parameters: how many numbers a network that produces the image gives for each of its own.
    """

    picture: Picture
    channels: tuple[int, ...]
    parameters: int = 1

    @property
    def top(self) -> Grid:
        """The smallest feature maps."""
        return self.windows[-1].makes(self.channels[-1])

    @property
    def windows(self) -> list[Convolution]:
        """From the image up: 5 × 5 on the image, 3 × 3 on feature maps (seed 003, App. E, Table 1)."""
        windows, grid = [], self.picture.grid
        for level, channels in enumerate(self.channels):
            windows.append(Convolution(grid, 3 if level else 5, STRIDE))
            grid = windows[-1].makes(channels)
        return windows

    @property
    def up(self) -> list[tuple[Convolution, int]]:
        """From the image up, each with the channels that it makes."""
        return list(zip(self.windows, self.channels, strict=True))

    @property
    def down(self) -> list[tuple[TransposedConvolution, int]]:
        """From the top down, each with the channels that it makes; the last makes the parameters."""
        made = [self.parameters * self.picture.grid.channels, *self.channels[:-1]]
        of = zip(self.windows, self.channels, made, strict=True)
        return [(TransposedConvolution(window, channels), makes) for window, channels, makes in of][::-1]
