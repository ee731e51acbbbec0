"""M2: Kingma, Rezende, Mohamed & Welling 2014, "Semi-supervised learning with deep generative models" (seed 002).

p(x, y, z) = p(y) p(z) p(x | y, z)         q(y, z | x) = q(y | x) q(z | x, y)

L(x, y) = E_q(z|x,y)[log p(x | y, z)] + log p(y) − KL(q(z | x, y) ‖ p(z))
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.base import (
    DeepGenerativeModel,
    Enumeration,
    Prediction,
    Space,
    Tempering,
    check_networks,
    is_bayesian,
    latent_kl,
    sample_gaussian,
)
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import gaussian


class M2(DeepGenerativeModel):
    """M2 with weights that may carry a distribution.

    Args:
        space: the data's sizes and observation model.
        hidden: sizes of the hidden layers of every network.
        latent: size Z of z.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier`` q(y|x),
            ``encoder`` q(z|x,y) and ``decoder`` p(x|y,z).
        prediction: how y is predicted; see `DeepGenerativeModel.log_predictive`.
        likelihood_weight: λ on log p(x|·) in training and in the Bayes classifier; see `Tempering`.
    """

    def __init__(
        self,
        space: Space,
        hidden: list[int] = [128],  # noqa: B006 - a schema's default, never mutated
        latent: int = 10,
        bayesian: str | list[str] = "classifier",
        prediction: Prediction = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 0.25,
    ) -> None:
        super().__init__(space, prediction, likelihood_weight)
        D, C = space.features, space.classes
        outputs = space.observation.outputs(D)
        check_networks(bayesian, ("classifier", "encoder", "decoder"))
        self.classifier = MLP([D], hidden, C, bayesian=is_bayesian("classifier", bayesian))
        self.encoder = MLP(
            [D, C], hidden, 2 * latent, bayesian=is_bayesian("encoder", bayesian), head_init_sd=HEAD_INIT_SD
        )
        self.decoder = MLP([C, latent], hidden, outputs, bayesian=is_bayesian("decoder", bayesian))

    def classify(self, x: Tensor, noise: Noise, samples: int) -> Tensor:  # noqa: ARG002 - q(y|x) has no latents
        """log q(y | x), [B, 1, C]."""
        return F.log_softmax(self.classifier(self.space.network_input(x)[:, None, :], noise=noise), dim=-1)

    def enumerate(
        self,
        x: Tensor,
        y: Tensor,
        noise: Noise,
        samples: int,
        *,
        tempering: Tempering = Tempering(),  # noqa: B008 - frozen
        closed_form: bool = True,
    ) -> Enumeration:
        """L_s(x, y), [B, S, C]."""
        x4, label = x[:, None, None, :], self.space.network_label(y)
        q_z = gaussian(self.encoder(self.space.network_input(x4), label, noise=noise))
        z = sample_gaussian(*q_z, noise, samples)
        reconstruction = self.space.observation.log_density(x4, self.decoder(label, z, noise=noise))
        kl = latent_kl(z, q_z, None, closed_form=closed_form)
        bound = tempering.likelihood * reconstruction + (y * self.log_prior).sum(-1) - tempering.latents * kl
        return Enumeration(bound=bound, log_q=self.classify(x, noise, samples))

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | x, ŷ), [B, Z]."""
        best = self.classify(x, noise, 1)[:, 0].argmax(-1)
        y = F.one_hot(best, self.space.classes).to(x.dtype)
        return gaussian(self.encoder(self.space.network_input(x), self.space.network_label(y), noise=noise))[0]
