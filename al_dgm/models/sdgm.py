"""SDGM: Maaløe, Sønderby, Sønderby & Winther 2016, "Auxiliary deep generative models" (seed 003, chapter 4, App. A).

    p(x, y, z, a) = p(y) p(z) p(a | y, z) p(x | a, y, z)     q(a, y, z | x) = q(a | x) q(y | a, x) q(z | a, y, x)

    L(x, y) = E_q[log p(x | a, y, z) + log p(a | y, z) − log q(a | x)] + log p(y) − E_q(a|x) KL(q(z | a, y, x) ‖ p(z))

One draw of a serves the classifier and every class's bound, as Eq. 4.20 requires of a bound.
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


class SDGM(DeepGenerativeModel):
    """The skip deep generative model.

    Args:
        space: the data's sizes and observation model.
        hidden: sizes of the hidden layers of every network.
        latent: size Z of z.
        auxiliary: size A of a.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``auxiliary`` q(a|x),
            ``classifier`` q(y|a,x), ``encoder`` q(z|a,y,x), ``auxiliary_decoder`` p(a|y,z), ``decoder`` p(x|a,y,z).
        prediction: how y is predicted; see `DeepGenerativeModel.log_predictive`.
        likelihood_weight: λ on log p(x|·) in training and in the Bayes classifier; see `Tempering`.
    """

    def __init__(
        self,
        space: Space,
        hidden: list[int] = [128],  # noqa: B006 - a schema's default, never mutated
        latent: int = 10,
        auxiliary: int = 4,
        bayesian: str | list[str] = "classifier",
        prediction: Prediction = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 0.25,
    ) -> None:
        super().__init__(space, prediction, likelihood_weight)
        D, C, A, Z = space.features, space.classes, auxiliary, latent
        check_networks(bayesian, ("auxiliary", "classifier", "encoder", "auxiliary_decoder", "decoder"))

        def network(name: str, inputs: list[int], outputs: int, head_init_sd: float | None = None) -> MLP:
            return MLP(inputs, hidden, outputs, bayesian=is_bayesian(name, bayesian), head_init_sd=head_init_sd)

        self.auxiliary = network("auxiliary", [D], 2 * A, HEAD_INIT_SD)
        self.classifier = network("classifier", [D, A], C)
        self.encoder = network("encoder", [D, A, C], 2 * Z, HEAD_INIT_SD)
        self.auxiliary_decoder = network("auxiliary_decoder", [C, Z], 2 * A, HEAD_INIT_SD)
        self.decoder = network("decoder", [A, C, Z], space.observation.outputs(D))

    def classify(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log q(y | a_s, x), [B, S, C]."""
        x4 = self.space.network_input(x)[:, None, None, :]
        a = sample_gaussian(*gaussian(self.auxiliary(x4, noise=noise)), noise, samples)
        return self._log_q(x4, a, noise)

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
        """L_s(x, y), [B, S, C], and log q(y | a_s, x) for the same a_s."""
        x4, label = self.space.network_input(x)[:, None, None, :], self.space.network_label(y)
        q_a = gaussian(self.auxiliary(x4, noise=noise))
        a = sample_gaussian(*q_a, noise, samples)
        q_z = gaussian(self.encoder(x4, a, label, noise=noise))
        z = sample_gaussian(*q_z, noise)
        p_a = gaussian(self.auxiliary_decoder(label, z, noise=noise))
        reconstruction = self.space.observation.log_density(x[:, None, None, :], self.decoder(a, label, z, noise=noise))
        # Of this draw always: z depends on a, so a closed form in a at a given z would not be a bound.
        kl_a = latent_kl(a, q_a, p_a, closed_form=False)
        kl_z = latent_kl(z, q_z, None, closed_form=closed_form)
        bound = tempering.likelihood * reconstruction + (y * self.log_prior).sum(-1) - tempering.latents * (kl_a + kl_z)
        return Enumeration(bound=bound, log_q=self._log_q(x4, a, noise))

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | a, x, ŷ) at the mean of q(a | x), [B, Z]."""
        x = self.space.network_input(x)
        a = gaussian(self.auxiliary(x, noise=noise))[0]
        best = self.classifier(x, a, noise=noise).argmax(-1)
        y = F.one_hot(best, self.space.classes).to(x.dtype)
        return gaussian(self.encoder(x, a, self.space.network_label(y), noise=noise))[0]

    def _log_q(self, x4: Tensor, a: Tensor, noise: Noise) -> Tensor:
        return F.log_softmax(self.classifier(x4, a, noise=noise), dim=-1)[:, :, 0]
