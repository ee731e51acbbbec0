"""M1+M2: Kingma, Rezende, Mohamed & Welling 2014 (seed 002): M2 on the features that M1 has learnt.

p(x, y, z₁, z₂) = p(x | z₁) p(z₁ | y, z₂) p(y) p(z₂)     q(z₁, y, z₂ | x) = q(z₁ | x) q(y | z₁) q(z₂ | y, z₁)

L(x, y) = E_q[log p(x | z₁) − log q(z₁ | x) + log p(z₁ | y, z₂)] + log p(y) − E_q[KL(q(z₂ | y, z₁) ‖ p(z₂))]

M1 is trained first, with p(z₁) = N(0, I), and then fixed. Dimensions of z₁ that it does not use keep that prior. A
prediction averages q(y | z₁) over draws of z₁, where the released code takes the mean of z₁.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from al_dgm.errors import ConfigError
from al_dgm.models.adversarial import adversarial_divergence
from al_dgm.models.base import Model, Size, Space, check_networks, is_bayesian
from al_dgm.models.classifiers import CorruptionOption, classifier
from al_dgm.models.enumerating import DeepGenerativeModel, Enumeration, Prediction, Recognition, Tempering
from al_dgm.models.images import Channels
from al_dgm.models.vae import VAE
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import Noise, NoNoise
from al_dgm.nn.pairs import Label, OfExamples, Pairs
from al_dgm.objectives.densities import gaussian, normal_log_density, standard_normal_log_density
from al_dgm.objectives.latents import latent_kl, sample_gaussian

ROWS = 1000  # of the training set at a time, when features are compared


class M1M2(DeepGenerativeModel):
    """M2 on M1's latents, with weights of M2 that may carry a distribution.

    Args:
        space: the data's sizes and observation model.
        hidden: sizes of the hidden layers of M2's networks.
        latent: size of z₂.
        features: how many dimensions of z₁ M2 models: those whose means vary most over the data.
        m1_hidden: sizes of M1's two hidden layers, alike.
        m1_latent: size of z₁.
        convolutions: channels of the convolutions by which M1 reads x and produces it; none for rows of numbers.
        m1_share: share of the training steps that M1 takes, before M2.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier`` q(y|z₁),
            ``encoder`` q(z₂|y,z₁) and ``decoder`` p(z₁|y,z₂). M1 has none.
        prediction: how y is predicted; see `DeepGenerativeModel.log_predictive`.
        likelihood_weight: λ on log p(z₁|y,z₂) in training and in the Bayes classifier; see `Tempering`.
        enumeration: the classes that y is summed over; see `DeepGenerativeModel`.
        corruption: standard deviations of the noise on z₁ and on the normalised units of the
            classifier in training, [input, units]; none for a plain network. See `al_dgm.nn.corrupted`.
    """

    active: Tensor

    def __init__(
        self,
        space: Space,
        hidden: list[Size] = [128],  # noqa: B006 - a schema's default, never mutated
        latent: Size = 10,
        features: Size = 10,
        m1_hidden: Size = 128,
        m1_latent: Size = 10,
        convolutions: Channels = [],  # noqa: B006
        m1_share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        bayesian: str | list[str] = "classifier",
        prediction: Prediction = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 1.0,
        enumeration: Enumeration = "exact",
        corruption: CorruptionOption = [],  # noqa: B006
    ) -> None:
        super().__init__(space, prediction, likelihood_weight, enumeration)
        if features > m1_latent:
            raise ConfigError(f"features: expected at most m1_latent, {m1_latent}, got {features}")
        check_networks(bayesian, ("classifier", "encoder", "decoder"))
        C = space.classes
        self.latent, self.m1_share = latent, m1_share
        self.m1 = VAE(space, [m1_hidden], [m1_latent], convolutions, depth=2, bayesian="none")
        self.register_buffer("active", torch.arange(features))
        self.classifier = classifier([features], hidden, C, corruption, is_bayesian("classifier", bayesian))
        self.encoder = MLP(
            [features, C], hidden, 2 * latent, bayesian=is_bayesian("encoder", bayesian), head_init_sd=HEAD_INIT_SD
        )
        self.decoder = MLP(
            [C, latent], hidden, 2 * features, bayesian=is_bayesian("decoder", bayesian), head_init_sd=HEAD_INIT_SD
        )

    def curriculum(self) -> list[tuple[Model, float]]:
        """First M1, then M2 on it."""
        return [(self.m1, self.m1_share), (self, 1 - self.m1_share)]

    @torch.no_grad()
    def build_on(self, x: Tensor) -> None:
        """Fix M1, and choose the features: the dimensions of E_q[z₁ | x] with the largest variance over ``x``."""
        self.m1.requires_grad_(False)  # noqa: FBT003 - torch's own signature
        means = torch.cat([self.m1.represent(part, NoNoise()) for part in x.split(ROWS)])
        self.active.copy_(means.var(0).topk(len(self.active)).indices.sort().values)

    def recognise(self, x: Tensor, noise: Noise, samples: int) -> Recognition:
        """z₁ from q(z₁ | x), and log q(y | z₁)."""
        q = gaussian(self.m1.encoder[0](self.space.network_input(x), noise=noise)[None])
        z_1 = sample_gaussian(*q, noise, samples)
        log_q = F.log_softmax(self.classifier(self._features(z_1), noise=noise), dim=-1)
        return Recognition(log_q, z_1, normal_log_density(z_1, *q))

    def bounds(
        self,
        x: Tensor,
        seen: Recognition,
        pairs: Pairs,
        noise: Noise,
        samples: int,  # noqa: ARG002 - as many as there are draws of z₁
        *,
        tempering: Tempering = Tempering(),  # noqa: B008 - frozen
        closed_form: bool = True,
    ) -> Tensor:
        """L_s(x, y), [S, R], with the draws of z₁ that the classifier was given."""
        z_1, label = seen.auxiliary, self.space.network_label(pairs)
        features = self._features(z_1)
        q = gaussian(self.encoder(OfExamples(features, pairs), label, noise=noise))
        z_2 = sample_gaussian(*q, noise)
        log_p = normal_log_density(pairs.spread(features), *gaussian(self.decoder(label, z_2, noise=noise)))
        likelihood, kl_1 = self._of_m1(x, seen, noise)
        # M1 has counted the features under its own prior; p(z₁ | y, z₂) takes that one's place.
        likelihood = log_p + _spread(likelihood - standard_normal_log_density(features), pairs)
        kl = _spread(kl_1, pairs) + latent_kl(z_2, q, None, closed_form=closed_form)
        return tempering.likelihood * likelihood + self.log_prior_of(pairs) - tempering.latents * kl

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z₂ | ŷ, z₁) at the mean of q(z₁ | x), [B, Z]."""
        best = self.classifier(self._features(self.m1.represent(x, noise)), noise=noise).argmax(-1)
        return self.encode(x, best, noise)

    def encode(self, x: Tensor, y: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z₂ | y, z₁) at the mean of q(z₁ | x), [B, Z]."""
        features = self._features(self.m1.represent(x, noise))
        return gaussian(self.encoder(features, self._label(y), noise=noise))[0]

    def decode(self, y: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | z₁) with z₁ drawn from p(z₁ | y, z₂), or from its prior where M2 does not model it."""
        features = sample_gaussian(*gaussian(self.decoder(self._label(y), z, noise=noise)), noise)
        z_1 = self.prior_sample(noise, len(y), self.m1.layers[0]).index_copy(-1, self.active, features)
        output: Tensor = self.m1.decoder[0](z_1, noise=noise)
        return output

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | z₁) at the mean of q(z₁ | x), [B, outputs]."""
        return self.m1.reconstruct(x, noise)

    def adversarial(self, x: Tensor, noise: Noise, radius: float) -> Tensor:
        """KL(q(y|z₁) ‖ q(y|z₁ + r)) at the worst r of length ``radius``, [B]: where z₁ is close, x is alike."""

        def classify(z_1: Tensor, noise: Noise, _: int) -> Tensor:
            return F.log_softmax(self.classifier(z_1, noise=noise), dim=-1)

        return adversarial_divergence(
            self, classify, self._features(self.m1.represent(x, noise)).detach(), noise, radius
        )

    def train(self, mode: bool = True) -> M1M2:  # noqa: FBT001, FBT002 - torch's own signature
        """M1 is trained by itself; here it only ever predicts."""
        super().train(mode)
        self.m1.eval()
        return self

    def _label(self, y: Tensor) -> Label:
        return self.space.network_label(Pairs.labelled(y, self.space.classes))

    def _features(self, z_1: Tensor) -> Tensor:
        return z_1.index_select(-1, self.active)

    @torch.no_grad()
    def _of_m1(self, x: Tensor, seen: Recognition, noise: Noise) -> tuple[Tensor, Tensor]:
        """log p(x | z₁) and log q(z₁ | x) − log N(z₁; 0, I), [S, B]."""
        log_p = self.space.observation.log_density(x, self.m1.decoder[0](seen.auxiliary, noise=noise))
        return log_p, seen.log_q_auxiliary - standard_normal_log_density(seen.auxiliary)


def _spread(of_examples: Tensor, pairs: Pairs) -> Tensor:
    """[S, B] -> [S, R]."""
    return pairs.spread(of_examples[..., None])[..., 0]
