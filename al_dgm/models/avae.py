"""AVAE: Maaløe, Sønderby, Sønderby & Winther 2016, "Auxiliary deep generative models" (seed 003, App. A, Section 4.3).

p(x, a, z) = p(x | z_1) p(z_1 | z_2) … p(z_L) Π_i p(a_i | z_i, …, z_L)
q(a, z | x) = q(a_1 | x) q(z_1 | a_1, x) Π_{i≥2} q(a_i | a_{i−1}, x) q(z_i | a_i, z_{i−1})

L(x) = E_q[log p(x, a, z) − log q(a, z | x)], where −KL(q(z_L | a_L, z_{L−1}) ‖ p(z_L)) is in closed form
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from al_dgm.errors import ConfigError
from al_dgm.models.base import Factor, Size, Space
from al_dgm.models.density import DensityModel, Inference, Sizes
from al_dgm.models.images import Channels
from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import latent_kl, sample_gaussian


class AVAE(DensityModel):
    """The auxiliary variational auto-encoder with L stochastic layers, each with an auxiliary variable.

    Args:
        space: the data's sizes and observation model.
        hidden: size of the hidden layers between x and z_1, z_1 and z_2, …; L numbers.
        latents: sizes of z_1, …, z_L.
        auxiliary: sizes of a_1, …, a_L.
        convolutions: channels of the convolutions by which networks read x and produce it; none for rows of numbers.
        depth: how many hidden layers each network has.
        batch_norm: normalise the hidden layers of encoder and decoder.
        importance_samples: K of the bound that is trained; 1 is the ELBO, a Bayesian decoder takes no other.
        monte_carlo_samples: how many estimates of that bound a training step averages over.
        classifier_hidden: sizes of the hidden layers of the classifier of the latent means.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier``, ``auxiliary``
            q(a|·), ``encoder``, ``auxiliary_decoder`` p(a|·), ``decoder``.
    """

    networks: ClassVar[tuple[str, ...]] = ("classifier", "auxiliary", "encoder", "auxiliary_decoder", "decoder")

    def __init__(
        self,
        space: Space,
        hidden: list[Size] = [128],  # noqa: B006 - a schema's default, never mutated
        latents: list[Size] = [10],  # noqa: B006
        auxiliary: list[Size] = [10],  # noqa: B006
        convolutions: Channels = [],  # noqa: B006
        depth: Size = 1,
        batch_norm: bool = False,  # noqa: FBT001, FBT002 - an option in params.yaml
        importance_samples: Size = 1,
        monte_carlo_samples: Size = 1,
        classifier_hidden: list[Size] = [],  # noqa: B006
        bayesian: str | list[str] = "classifier",
    ) -> None:
        sizes = Sizes(hidden, latents, depth, batch_norm, importance_samples, monte_carlo_samples, convolutions)
        super().__init__(space, sizes, classifier_hidden, bayesian)
        if len(auxiliary) != len(latents):
            raise ConfigError(
                f"auxiliary: expected as many sizes as there are latents, {len(latents)}, got {len(auxiliary)}"
            )
        x, levels = self.x, range(len(latents))
        below, sees = [x, *latents], [[x], *([size, x] for size in auxiliary)]
        self.auxiliary = nn.ModuleList(self.network("auxiliary", sees[i], i, 2 * auxiliary[i]) for i in levels)
        self.encoder = nn.ModuleList(
            self.network("encoder", [auxiliary[i], below[i]], i, 2 * latents[i]) for i in levels
        )
        self.auxiliary_decoder = nn.ModuleList(
            self.network("auxiliary_decoder", latents[i:], i, 2 * auxiliary[i]) for i in levels
        )
        priors = [self.network("decoder", [latents[i]], i, 2 * latents[i - 1]) for i in levels[1:]]
        self.decoder = nn.ModuleList([self.decoder_of_x(latents[:1]), *priors])

    def infer(
        self, x: Tensor, noise: Noise, samples: int, *, latents: Factor = 1.0, closed_form: bool = True
    ) -> Inference:
        """Bottom-up: a_1, z_1, …, a_L, z_L."""
        u = self.space.network_input(x)[None]
        sees, below = [u], u
        a, z, q_a, q_z = [], [], [], []
        for auxiliary, encoder in zip(self.auxiliary, self.encoder, strict=True):
            q_a.append(gaussian(auxiliary(*sees, noise=noise)))
            a.append(sample_gaussian(*q_a[-1], noise, samples))
            q_z.append(gaussian(encoder(a[-1], below, noise=noise)))
            below = sample_gaussian(*q_z[-1], noise)
            z.append(below)
            sees = [a[-1], u]
        kl = latent_kl(z[-1], q_z[-1], None, closed_form=closed_form)
        to_x, *priors = self.decoder
        # Of the draws: what p(a_i | ·) and p(z_i | z_{i+1}) are given is drawn after a_i and z_i, and depends on them.
        for i, prior in enumerate(priors):
            kl = kl + latent_kl(z[i], q_z[i], gaussian(prior(z[i + 1], noise=noise)), closed_form=False)
        for i, decoder in enumerate(self.auxiliary_decoder):
            kl = kl + latent_kl(a[i], q_a[i], gaussian(decoder(*z[i:], noise=noise)), closed_form=False)
        reconstruction = self.space.observation.log_density(x, to_x(z[0], noise=noise))
        return Inference(reconstruction - latents * kl, torch.cat([mean[0] for mean, _ in q_z], dim=-1))
