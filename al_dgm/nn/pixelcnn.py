"""PixelCNN: van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel recurrent neural networks"."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.nn.linear import Extent, kinds
from al_dgm.nn.maps import Convolution, Grid
from al_dgm.nn.mlp import Features
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Input, OfExamples, rounded
from al_dgm.nn.pictures import Picture

FIRST, BLOCK = 7, 3  # sizes of the windows (seed 003, App. E)


class PixelCNN(nn.Module):
    """The parameters of p(x_i | x_<i, h) for every pixel i in raster order, from an image x and feature maps h.

    A 7 × 7 window on the pixels before i (mask A) and what h has at i; then residual 3 × 3 windows on what was found
    before i and at i (mask B); then three 1 × 1 layers. The channels of a pixel are independent given those before it.

    Args:
        picture: x.
        features: channels of h, which is as large as x.
        channels: of the layers.
        blocks: how many of them are residual.
        parameters: for each number of x.
        autoregressive: without it x is not read, and nothing is masked: the parameters of p(x_i | h).
        bayesian: every layer a `BayesianLinear`, or the ``last`` one alone.
    """

    def __init__(
        self,
        picture: Picture,
        features: int,
        channels: int,
        blocks: int,
        parameters: int,
        *,
        autoregressive: bool = True,
        bayesian: Extent = False,
    ) -> None:
        super().__init__()
        size = picture.grid.height, picture.grid.width
        of_h, maps = Convolution(Grid(*size, features), 1), Grid(*size, channels)
        window = Convolution.up_to(maps, BLOCK) if autoregressive else Convolution(maps, BLOCK)
        made = [channels, channels, parameters * picture.grid.channels]
        self.picture, self.autoregressive = picture, autoregressive
        first, *rest = kinds(bayesian, 1 + blocks + len(made))
        self.first = first([*[Convolution.before(picture.grid, FIRST)] * autoregressive, of_h], channels)
        self.blocks = nn.ModuleList(kind([window], channels) for kind in rest[:blocks])
        ends = zip(rest[blocks:], made, strict=True)
        self.last = nn.ModuleList(kind([Convolution(maps, 1)], outputs) for kind, outputs in ends)

    def forward(self, x: Tensor | OfExamples, h: Tensor, *, noise: Noise) -> Tensor:
        """Maps of x [..., D] and h [..., positions · features] as parameters [..., n D] that observation models read.

        Leading dimensions broadcast: x is convolved once for each example, however many h there are.
        """
        seen = [x] if self.autoregressive else []
        found: Tensor = self.first(*seen, h, noise=noise)
        for layer in self.blocks:
            found = found + layer(F.relu(rounded(found, self.first.matmul)), noise=noise)
        for layer in self.last:
            found = layer(F.relu(rounded(found, self.first.matmul)), noise=noise)
        return self.picture.parameters(found)


class PixelDecoder(nn.Module):
    """What a pixel is given beside those before it, by way of feature maps as large as the image ↦ a PixelCNN."""

    def __init__(self, maps: Features, pixels: PixelCNN) -> None:
        super().__init__()
        self.maps, self.pixels = maps, pixels

    def forward(self, x: Tensor | OfExamples, *inputs: Input, noise: Noise) -> Tensor:
        """Parameters of p(x_i | x_<i, inputs), [..., n D], for maps of x [..., D]."""
        found: Tensor = self.pixels(x, self.maps(*inputs, noise=noise), noise=noise)
        return found
