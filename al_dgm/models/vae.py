"""VAE, which is M1: Kingma & Welling 2014; its importance-weighted bound: Burda, Grosse & Salakhutdinov 2016.

p(x, z) = p(x | z_1) p(z_1 | z_2) … p(z_L)         q(z | x) = q(z_1 | x) q(z_2 | z_1) … q(z_L | z_{L−1})

L(x) = E_q[log p(x | z_1) + Σ_{l<L} (log p(z_l | z_{l+1}) − log q(z_l | z_{l−1})) − KL(q(z_L | z_{L−1}) ‖ p(z_L))]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from al_dgm.models.base import Factor, Size, Space
from al_dgm.models.density import DensityModel, Inference, Sizes
from al_dgm.models.images import Channels
from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import latent_kl, sample_gaussian


class VAE(DensityModel):
    """The variational auto-encoder with L stochastic layers.

    Args:
        space: the data's sizes and observation model.
        hidden: size of the hidden layers between x and z_1, z_1 and z_2, …; L numbers.
        latents: sizes of z_1, …, z_L.
        convolutions: channels of the convolutions by which networks read x and produce it; none for rows of numbers.
        depth: how many hidden layers each network has.
        batch_norm: normalise the hidden layers of encoder and decoder.
        importance_samples: K of the bound that is trained; 1 is the ELBO, a Bayesian decoder takes no other.
        monte_carlo_samples: how many estimates of that bound a training step averages over.
        classifier_hidden: sizes of the hidden layers of the classifier of the latent means.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier``, ``encoder``,
            ``decoder``.
    """

    def __init__(
        self,
        space: Space,
        hidden: list[Size] = [128],  # noqa: B006 - a schema's default, never mutated
        latents: list[Size] = [10],  # noqa: B006
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
        below = [self.x, *latents]
        levels = range(len(latents))
        self.encoder = nn.ModuleList(self.network("encoder", [below[i]], i, 2 * latents[i]) for i in levels)
        priors = [self.network("decoder", [latents[i]], i, 2 * latents[i - 1]) for i in levels[1:]]
        self.decoder = nn.ModuleList([self.decoder_of_x(latents[:1]), *priors])

    def infer(
        self, x: Tensor, noise: Noise, samples: int, *, latents: Factor = 1.0, closed_form: bool = True
    ) -> Inference:
        """Bottom-up: x, z_1, …, z_L."""
        below, z, q = self.space.network_input(x)[None], [], []
        for encoder in self.encoder:
            q.append(gaussian(encoder(below, noise=noise)))
            below = sample_gaussian(*q[-1], noise, samples)
            z.append(below)
        kl = latent_kl(z[-1], q[-1], None, closed_form=closed_form)
        to_x, *priors = self.decoder
        for i, prior in enumerate(priors):
            # Of the draw always: what is above z_i depends on it, so a closed form given that would not be a bound.
            kl = kl + latent_kl(z[i], q[i], gaussian(prior(z[i + 1], noise=noise)), closed_form=False)
        reconstruction = self.space.observation.log_density(x, to_x(z[0], noise=noise))
        return Inference(reconstruction - latents * kl, torch.cat([mean[0] for mean, _ in q], dim=-1))
