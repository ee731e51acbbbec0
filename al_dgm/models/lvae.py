"""LVAE: Sønderby, Raiko, Maaløe, Sønderby & Winther 2016, "Ladder variational autoencoders" (seed 003, App. B).

p(x, z) = p(x | z_1) p(z_1 | z_2) … p(z_L)         q(z | x) = q(z_L | x) q(z_{L−1} | z_L, x) … q(z_1 | z_2, x)

A deterministic way up gives each layer's own guess N(μ̂_l, σ̂_l²) from x; on the way down it is merged with what the
generative model expects, N(μ_p, σ_p²), by their precisions (Eqs. 5.2 to 5.4 with σ² where the thesis has σ):

    q(z_l | z_{l+1}, x) = N((μ̂_l σ̂_l⁻² + μ_p σ_p⁻²) σ², σ²),   σ² = 1 / (σ̂_l⁻² + σ_p⁻²)

L(x) = E_q[log p(x | z_1) − Σ_l KL(q(z_l | z_{l+1}, x) ‖ p(z_l | z_{l+1}))], each divergence in closed form

Unlike the paper's, hidden units are plain rectifiers, heads give log σ² and not σ² by softplus, and normalisation is of
hidden layers and not of heads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.models.base import Factor, Size, Space
from al_dgm.models.density import DensityModel, Inference, Sizes
from al_dgm.models.images import Channels
from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import latent_kl, sample_gaussian


class LadderModel(DensityModel):
    """What infers by a ladder; a subclass has its rungs, the priors, and how x is read and described.

    Attributes:
        encoder: one for each layer, x or d_{l−1} ↦ d_l and the parameters of the guess of z_l.
        decoder: of p(x | z_1), as `describe` uses it, and of p(z_1 | z_2), …
    """

    encoder: nn.ModuleList
    decoder: nn.ModuleList

    def read(self, x: Tensor) -> Tensor:
        """x [B, D] as the networks read it."""
        return self.space.network_input(x)

    def describe(self, seen: Tensor, z: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - x is not read here
        """Parameters of p(x | z_1), [S, B, …], for z_1 [S, B, Z]; ``seen`` is x as it is read."""
        parameters: Tensor = self.decoder[0](z, noise=noise)
        return parameters

    def infer(
        self, x: Tensor, noise: Noise, samples: int, *, latents: Factor = 1.0, closed_form: bool = True
    ) -> Inference:
        """Up to the guesses of all layers, and down again: z_L, …, z_1."""
        seen, guesses = self.read(x), []
        rungs: list[Any] = list(self.encoder)
        d = seen[None]
        for encoder in rungs:
            d, parameters = encoder.with_hidden(d, noise=noise)
            guesses.append(gaussian(parameters))
        *below, q = guesses
        z, means = sample_gaussian(*q, noise, samples), [q[0]]
        kl = latent_kl(z, q, None, closed_form=closed_form)
        _, *priors = self.decoder
        for guess, prior in zip(reversed(below), reversed(priors), strict=True):
            p = gaussian(prior(z, noise=noise))
            q = precision_weighted(guess, p)
            z = sample_gaussian(*q, noise)
            kl = kl + latent_kl(z, q, p, closed_form=closed_form)
            means.append(q[0])
        reconstruction = self.space.observation.log_density(x, self.describe(seen, z, noise))
        return Inference(reconstruction - latents * kl, torch.cat([mean[0] for mean in reversed(means)], dim=-1))


class LVAE(LadderModel):
    """The ladder variational auto-encoder with L stochastic layers.

    Args:
        space: the data's sizes and observation model.
        hidden: size of the hidden layers d_1 between x and z_1, d_2 between d_1 and z_2, …; L numbers.
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
        hidden: list[Size] = [128, 64],  # noqa: B006 - a schema's default, never mutated
        latents: list[Size] = [10, 5],  # noqa: B006
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
        below = [self.x, *hidden]
        levels = range(len(latents))
        self.encoder = nn.ModuleList(self.network("encoder", [below[i]], i, 2 * latents[i]) for i in levels)
        priors = [self.network("decoder", [latents[i]], i, 2 * latents[i - 1]) for i in levels[1:]]
        self.decoder = nn.ModuleList([self.decoder_of_x(latents[:1]), *priors])


def precision_weighted(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The normalised product of two Gaussians: precisions add, means are weighted by them.

    With s = log σ₁² − log σ₂² the variance is σ₁² sigmoid(−s) and the mean μ₁ + (μ₂ − μ₁) sigmoid(s), for any s.
    """
    (mean, log_variance), (other, other_log_variance) = first, second
    s = log_variance - other_log_variance
    return mean + (other - mean) * torch.sigmoid(s), log_variance + F.logsigmoid(-s)
