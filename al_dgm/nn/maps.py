"""Linear maps x ↦ x W of a layer's inputs: the plain product, and convolutions, which use a weight at many positions.

A convolution is linear too: its W has a row for every tap of its window and channel that it reads, and a column for
every channel that it makes. Feature maps are [..., height · width · channels], the channels of a position beside each
other, so that whatever is done to [..., rows, F] is done to them: noise, sums, leading dimensions that broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from al_dgm.nn.pairs import Input, OfExamples, product, rounded


class LinearMap(Protocol):
    """x [..., F] ↦ x W [..., positions · outputs] for W [rows, outputs].

    Attributes:
        rows: of W.
        fan_in: how many of x go into one output.
        reach: into how many outputs of one column each of x goes.
    """

    @property
    def rows(self) -> int: ...  # noqa: D102 - as above

    @property
    def fan_in(self) -> float: ...  # noqa: D102

    @property
    def reach(self) -> float: ...  # noqa: D102

    def times(self, x: Any, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        """The product, its factors rounded to ``matmul``."""
        ...


@dataclass(frozen=True)
class Dense:
    """The matrix product with x [..., rows]: one position."""

    rows: int
    reach: float = 1.0

    @property
    def fan_in(self) -> float:
        """All of x."""
        return self.rows

    def times(self, x: Input, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        """The matrix product."""
        return product(x, weight, matmul)


@dataclass(frozen=True)
class Grid:
    """The sizes of feature maps."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """How many numbers they are."""
        return self.height * self.width * self.channels

    def as_image(self, x: Tensor) -> Tensor:
        """[..., size] -> [N, channels, height, width], as torch convolves it."""
        return x.reshape(-1, self.height, self.width, self.channels).permute(0, 3, 1, 2)


def as_maps(images: Tensor, like: Tensor) -> Tensor:
    """[N, channels, height, width] -> [..., height · width · channels] with the leading dimensions of ``like``."""
    return images.permute(0, 2, 3, 1).reshape(*like.shape[:-1], images.shape[1:].numel())  # -1 fails where N is 0


@dataclass(frozen=True)
class Convolution:
    """A window of ``kernel`` × ``kernel`` taps around every ``stride``-th position; zeros beyond the edge.

    Attributes:
        reads: what x is.
        kernel: odd.
        stride: positions from one window to the next.
        taps: how many of the window's taps there are, in raster order; by default all. The first kernel² // 2 are
            those before the centre, mask A of van den Oord et al. 2016; one more makes mask B. What is masked has no
            weights, rather than weights that are multiplied by zero. Only with a stride of 1.
    """

    reads: Grid
    kernel: int
    stride: int = 1
    taps: int | None = None

    @classmethod
    def before(cls, reads: Grid, kernel: int) -> Convolution:
        """Of the positions before its own: mask A."""
        return cls(reads, kernel, taps=kernel**2 // 2)

    @classmethod
    def up_to(cls, reads: Grid, kernel: int) -> Convolution:
        """Of the positions before its own, and its own: mask B."""
        return cls(reads, kernel, taps=kernel**2 // 2 + 1)

    @property
    def rows(self) -> int:
        """Taps × channels."""
        return (self.kernel**2 if self.taps is None else self.taps) * self.reads.channels

    @property
    def strides(self) -> tuple[int, int]:
        """Of rows and columns; 1 where there is only one of them, and any stride is the same.

        Of bfloat16 on a CPU oneDNN computes the gradient of the weights right for that stride alone (torch 2.13).
        """
        return self.stride if self.reads.height > 1 else 1, self.stride if self.reads.width > 1 else 1

    @property
    def fan_in(self) -> float:
        """As many as there are rows, but at the edge."""
        return self.rows

    @property
    def reach(self) -> float:
        """On average over positions."""
        return self.rows / self.reads.channels / self.stride**2

    def makes(self, channels: int) -> Grid:
        """What x W is for W [rows, channels]."""
        return Grid(-(-self.reads.height // self.stride), -(-self.reads.width // self.stride), channels)

    def times(self, x: Tensor | OfExamples, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        """The convolution of x with W; of an example once, however many rows it has."""
        if isinstance(x, OfExamples):
            return x.pairs.spread(self.times(x.values, weight, matmul))
        height = -(-self.rows // (self.kernel * self.reads.channels))  # no rows of taps below the last one that is used
        missing = height * self.kernel * self.reads.channels - self.rows
        whole = F.pad(rounded(weight, matmul), (0, 0, 0, missing))
        window = whole.view(height, self.kernel, self.reads.channels, -1).permute(3, 2, 0, 1)
        images = self.reads.as_image(rounded(x, matmul))
        found = F.conv2d(images, window, stride=self.strides, padding=self.kernel // 2)
        return as_maps(found[:, :, : self.makes(1).height], x).to(weight.dtype)


@dataclass(frozen=True)
class TransposedConvolution:
    """The transpose of a convolution as a linear map: from what that one makes to what it reads.

    Attributes:
        of: that convolution; only its positions matter, all its taps are used.
        channels: of x.
    """

    of: Convolution
    channels: int

    @property
    def reads(self) -> Grid:
        """What x is."""
        return self.of.makes(self.channels)

    @property
    def rows(self) -> int:
        """Taps × channels."""
        return self.of.kernel**2 * self.channels

    @property
    def fan_in(self) -> float:
        """On average over positions."""
        return self.rows / self.of.stride**2

    @property
    def reach(self) -> float:
        """All taps."""
        return self.of.kernel**2

    def makes(self, channels: int) -> Grid:
        """What x W is for W [rows, channels]."""
        return Grid(self.of.reads.height, self.of.reads.width, channels)

    def times(self, x: Tensor, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        """The transposed convolution of x with W."""
        k, s, small, large = self.of.kernel, self.of.strides, self.reads, self.of.reads
        window = rounded(weight, matmul).view(k, k, self.channels, -1).permute(2, 3, 0, 1)
        # Several sizes have windows at the same positions: what this one has beyond the smallest of them.
        more = large.height - 1 - s[0] * (small.height - 1), large.width - 1 - s[1] * (small.width - 1)
        images = small.as_image(rounded(x, matmul))
        found = F.conv_transpose2d(images, window, stride=s, padding=k // 2, output_padding=more)
        return as_maps(found, x).to(weight.dtype)
