"""What ADGM and SDGM share: the inference model, and the bound but for what the decoders see.

    q(a, y, z | x) = q(a | x) q(y | a, x) q(z | a, y, x)

One draw of a serves the classifier and every class's bound, as Eq. 4.20 (seed 003) requires of a bound.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.base import check_networks, is_bayesian
from al_dgm.models.classifiers import classifier
from al_dgm.models.enumerating import DeepGenerativeModel, Recognition, Tempering
from al_dgm.models.images import as_input, decoder_of_x, pixel_by_pixel
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Input, Label, OfExamples, Pairs
from al_dgm.nn.pictures import Pyramid
from al_dgm.nn.pixelcnn import PixelDecoder
from al_dgm.objectives.densities import gaussian, normal_log_density
from al_dgm.objectives.latents import latent_kl, sample_gaussian

NETWORKS = ("auxiliary", "classifier", "encoder", "auxiliary_decoder", "decoder")


class AuxiliaryModel(DeepGenerativeModel):
    """p(y) p(z) p(a | ·) p(x | ·); a subclass says what the two decoders see."""

    def build(
        self,
        sizes: tuple[list[int], int, int],
        sees: tuple[Sequence[int | Pyramid], Sequence[int]],
        bayesian: str | list[str],
        convolutions: Sequence[int] = (),
        pixelcnn: Sequence[int] = (),
        corruption: Sequence[float] = (),
    ) -> None:
        """Make the networks.

        Args:
            sizes: of the hidden layers, of z, of a.
            sees: inputs of p(a | ·) and of p(x | ·).
            bayesian: which networks have Bayesian weights.
            convolutions: by which networks read x and produce it.
            pixelcnn: by which a pixel depends on those before it.
            corruption: of the classifier in training.
        """
        hidden, Z, A = sizes
        self.latent = Z
        x, C = as_input(self.space, convolutions), self.space.classes
        check_networks(bayesian, NETWORKS)

        def network(
            name: str, inputs: Sequence[int | Pyramid], outputs: int | Pyramid, head_init_sd: float | None = None
        ) -> MLP:
            return MLP(inputs, hidden, outputs, bayesian=is_bayesian(name, bayesian), head_init_sd=head_init_sd)

        self.auxiliary = network("auxiliary", [x], 2 * A, HEAD_INIT_SD)
        self.classifier = classifier([x, A], hidden, C, corruption, is_bayesian("classifier", bayesian))
        self.encoder = network("encoder", [x, A, C], 2 * Z, HEAD_INIT_SD)
        self.auxiliary_decoder = network("auxiliary_decoder", sees[0], 2 * A, HEAD_INIT_SD)
        random = is_bayesian("decoder", bayesian)
        self.decoder = decoder_of_x(self.space, sees[1], hidden, convolutions, pixelcnn, random)
        self.sees_pixels = isinstance(self.decoder, PixelDecoder)

    @abstractmethod
    def conditionals(
        self, of_x: OfExamples, of_a: OfExamples, label: Label, z: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Parameters of p(a | ·), [S, R, 2A], and of p(x | ·)."""

    def recognise(self, x: Tensor, noise: Noise, samples: int) -> Recognition:
        """a_s from q(a | x) and log q(y | a_s, x)."""
        x = self.space.network_input(x)
        q_a = gaussian(self.auxiliary(x, noise=noise)[None])
        a = sample_gaussian(*q_a, noise, samples)
        log_q = F.log_softmax(self.classifier(x, a, noise=noise), dim=-1)
        return Recognition(log_q, a, normal_log_density(a, *q_a))

    def bounds(
        self,
        x: Tensor,
        seen: Recognition,
        pairs: Pairs,
        noise: Noise,
        samples: int,  # noqa: ARG002 - as many as there are draws of a
        *,
        tempering: Tempering = Tempering(),  # noqa: B008 - frozen
        closed_form: bool = True,
    ) -> Tensor:
        """L_s(x, y), [S, R], with the draws a_s that the classifier was given."""
        of_x, label = self._inputs(x, pairs)
        of_a = OfExamples(seen.auxiliary, pairs)
        z, q_z = self.draw_latent(of_x, of_a, label, noise)
        p_a, p_x = self.conditionals(of_x, of_a, label, z, noise)
        reconstruction = self.space.observation.log_density(pairs.spread(x), p_x)
        # Of this draw always: z depends on a, so a closed form in a at a given z would not be a bound.
        log_p_a = normal_log_density(pairs.spread(seen.auxiliary), *gaussian(p_a))
        kl_a = pairs.spread(seen.log_q_auxiliary[..., None])[..., 0] - log_p_a
        kl_z = latent_kl(z, q_z, None, closed_form=closed_form)
        log_p_y = self.log_prior_given(z, pairs, noise)
        return tempering.likelihood * reconstruction + log_p_y - tempering.latents * (kl_a + kl_z)

    def describe(self, x: Tensor | OfExamples | None, *inputs: Input, noise: Noise) -> Tensor:
        """Parameters of p(x | inputs), [..., outputs].

        With a PixelCNN of p(x_i | x_<i, inputs): at ``x``, as networks read it, or where that is None at draws of it.
        """
        if not isinstance(self.decoder, PixelDecoder):
            independent: Tensor = self.decoder(*inputs, noise=noise)
            return independent
        if x is None:
            nothing = self.log_prior.new_zeros(1, self.space.features)
            return pixel_by_pixel(
                self.space,
                lambda drawn: self.describe(self.space.network_input(drawn), *inputs, noise=noise),
                nothing,
                noise,
            )
        maps = self.decoder.pixels.picture.maps
        found: Tensor = self.decoder(maps(x) if isinstance(x, Tensor) else x.each(maps), *inputs, noise=noise)
        return found

    def draw_latent(
        self, of_x: OfExamples, of_a: OfExamples, label: Label, noise: Noise
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """z from q(z | a, y, x), [S, R, Z], and that Gaussian's mean and log-variance."""
        q_z = gaussian(self.encoder(of_x, of_a, label, noise=noise))
        return sample_gaussian(*q_z, noise), q_z

    def log_prior_given(self, z: Tensor, pairs: Pairs, noise: Noise) -> Tensor:  # noqa: ARG002 - p(y | z) = p(y)
        """log p(y | z) of every pair, [R] or [S, R]."""
        return self.log_prior_of(pairs)

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | a, x, ŷ) at the mean of q(a | x), [B, Z]."""
        a, y = self.infer(x, noise)
        return self.encode(x, y, noise, a)

    def infer(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Mean of q(a | x), [B, A], and the most probable class at it, [B]."""
        of_x = self.space.network_input(x)
        a = gaussian(self.auxiliary(of_x, noise=noise))[0]
        return a, self.classifier(of_x, a, noise=noise).argmax(-1)

    def encode(self, x: Tensor, y: Tensor, noise: Noise, a: Tensor | None = None) -> Tensor:
        """Mean of q(z | a, x, y), at the mean of q(a | x) unless another a [B, A] is given; [B, Z]."""
        a = self.infer(x, noise)[0] if a is None else a
        return gaussian(self.encoder(self.space.network_input(x), a, self.label(y), noise=noise))[0]

    def label(self, y: Tensor) -> Label:
        """Class indices y [R] as networks read them."""
        return self.space.network_label(Pairs.labelled(y, self.space.classes))
