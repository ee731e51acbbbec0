"""FAME: Maaløe & Winther 2018, "Feature map variational auto-encoders" (seed 003, Section 5.2, App. E).

p(x, z) = Π_i p(x_i | x_<i, z_1) p(z_1 | z_2) … p(z_L)      q(z | x) = q(z_L | x) q(z_{L−1} | z_L, x) … q(z_1 | z_2, x)

LVAE with feature maps as hidden layers, up and down (Table 1), and a PixelCNN that describes pixel i by those before it
and by feature maps of z_1. What the appendix leaves open is chosen here, and some of the rest simplified:

* the feature maps of z_1 go into the PixelCNN at their own position, and only x is masked;
* every stack of feature maps has one width, where the table's first convolution has 32 channels and the others 64, and
  the latents are read off the feature maps without a dense hidden layer between;
* a residual block is a single 3 × 3 convolution, and the three layers after the blocks are 1 × 1, as in the first
  PixelCNN; batch normalisation is of the hidden layers between the latents and not of the PixelCNN's.

Without the concatenation of x (``concatenate``) the same layers, unmasked, give Π_i p(x_i | z_1), from which an image
is generated in a single pass: the thesis's "FAME no concatenation".
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from al_dgm.models.base import Size, Space, is_bayesian
from al_dgm.models.density import Sizes
from al_dgm.models.images import picture, pixel_by_pixel
from al_dgm.models.lvae import LadderModel
from al_dgm.nn.maps import Convolution, TransposedConvolution
from al_dgm.nn.mlp import HEAD_INIT_SD, Features, Layers, Plan
from al_dgm.nn.noise import Noise
from al_dgm.nn.pictures import Pyramid
from al_dgm.nn.pixelcnn import PixelCNN, PixelDecoder


class FAME(LadderModel):
    """The feature map variational auto-encoder with L stochastic layers; of images only.

    Args:
        space: the data's sizes, shape and observation model.
        hidden: channels of the feature maps between x and z_1, z_1 and z_2, …, each at half the resolution; L numbers.
        latents: sizes of z_1, …, z_L.
        depth: how many 3 × 3 convolutions come after each that halves the resolution, and before it on the way down.
        pixel_channels: of the PixelCNN's layers.
        pixel_blocks: how many residual ones it has.
        concatenate: describe a pixel by those before it, beside z_1.
        batch_norm: normalise the hidden layers of encoder and decoder, as the paper does: so many train badly without.
        importance_samples: K of the bound that is trained; 1 is the ELBO, a Bayesian decoder takes no other.
        monte_carlo_samples: M, how many estimates of that bound a step averages over.
        classifier_hidden: sizes of the hidden layers of the classifier of the latent means.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier``, ``encoder``,
            ``decoder``.

    Raises:
        ConfigError: the data are no images.
    """

    def __init__(
        self,
        space: Space,
        hidden: list[Size] = [32],  # noqa: B006 - a schema's default, never mutated
        latents: list[Size] = [10],  # noqa: B006
        depth: Annotated[int, Field(ge=0)] = 1,
        pixel_channels: Size = 32,
        pixel_blocks: Annotated[int, Field(ge=0)] = 4,
        concatenate: bool = True,  # noqa: FBT001, FBT002 - an option in params.yaml
        batch_norm: bool = True,  # noqa: FBT001, FBT002
        importance_samples: Size = 1,
        monte_carlo_samples: Size = 1,
        classifier_hidden: list[Size] = [],  # noqa: B006
        bayesian: str | list[str] = "classifier",
    ) -> None:
        sizes = Sizes(hidden, latents, depth, batch_norm, importance_samples, monte_carlo_samples)
        super().__init__(space, sizes, classifier_hidden, bayesian)
        self.sees_pixels = concatenate
        self.picture = picture(space, "hidden")
        self.pyramid = Pyramid(self.picture, tuple(hidden))
        levels = range(len(latents))
        self.encoder = nn.ModuleList(self.network_by("encoder", self.up(i), i) for i in levels)
        priors = [self.network_by("decoder", self.down(i), i - 1) for i in levels[1:]]
        decodes = is_bayesian("decoder", bayesian)
        maps = Features(self.down(0), bayesian=decodes is True, batch_norm=batch_norm)
        n = space.observation.outputs(space.features) // space.features
        pixels = PixelCNN(
            self.picture, hidden[0], pixel_channels, pixel_blocks, n, autoregressive=concatenate, bayesian=decodes
        )
        self.decoder = nn.ModuleList([PixelDecoder(maps, pixels), *priors])

    def up(self, level: int) -> Plan:
        """Layers from the feature maps below ``level`` to its own."""
        window, channels = self.pyramid.up[level]
        return [([window], channels), *self._deeper(level)]

    def down(self, level: int) -> Plan:
        """Layers from z at ``level`` to feature maps as large as those below it, with as many channels."""
        window, channels = self.pyramid.up[level]
        below = self.sizes.hidden[max(level - 1, 0)]
        first = ([self.sizes.latents[level]], window.makes(channels).size)
        return [first, *self._deeper(level), ([TransposedConvolution(window, channels)], below)]

    def _deeper(self, level: int) -> Plan:
        window, channels = self.pyramid.up[level]
        return [([Convolution(window.makes(channels), 3)], channels)] * self.sizes.depth

    def network_by(self, name: str, plan: Plan, level: int) -> Layers:
        """The network ``name`` that makes feature maps by ``plan`` and of them the parameters of z at ``level``."""
        window, channels = self.pyramid.up[level]
        head = ([window.makes(channels).size], 2 * self.sizes.latents[level])
        return Layers(
            [*plan, head],
            bayesian=is_bayesian(name, self._bayesian),
            head_init_sd=HEAD_INIT_SD,
            batch_norm=self.sizes.batch_norm,
        )

    def read(self, x: Tensor) -> Tensor:
        """x [B, D] as feature maps."""
        return self.picture.maps(self.space.network_input(x))

    def generate(self, noise: Noise, samples: int) -> Tensor:
        """Parameters of p(x_i | x_<i, z_1) at draws of z_1 and of x, pixel by pixel; [S, n D].

        As many passes as there are pixels; a single one without the concatenation of x.
        """
        z = self.from_the_top(noise, samples)[None]

        def describe(x: Tensor) -> Tensor:
            return self.describe(self.read(x), z, noise)[0]

        nothing = z.new_zeros(1, self.space.features)
        return pixel_by_pixel(self.space, describe, nothing, noise) if self.sees_pixels else describe(nothing)

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x_i | x_<i, z_1) at x and at the mean of z_1; [B, n D]."""
        z = self.represent(x, noise)[None, :, : self.layers[0]]
        return self.describe(self.read(x), z, noise)[0]

    def describe(self, seen: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x_i | x_<i, z_1), [S, B, n D]."""
        parameters: Tensor = self.decoder[0](seen, z, noise=noise)
        return parameters
