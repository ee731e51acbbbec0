"""What the shape of an example says: whether it is an image, and where its channels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

USUAL = {1, 3}  # numbers of channels


@dataclass(frozen=True)
class ImageShape:
    """An image in a row of numbers: [height, width, channels], or ``channels_first``, [channels, height, width]."""

    height: int
    width: int
    channels: int
    channels_first: bool = False


def image_shape(shape: Sequence[int]) -> ImageShape | None:
    """Of (height, width), or with channels: first or last, where there are 1 or 3, else where there are fewer.

    None of what is no image.
    """
    if len(shape) == 2:
        return ImageShape(shape[0], shape[1], 1)
    if len(shape) != 3:
        return None
    first, middle, last = shape
    if first in USUAL or (last not in USUAL and first < last):
        return ImageShape(middle, last, first, channels_first=True)
    return ImageShape(first, middle, last)
