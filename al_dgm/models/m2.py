"""M2: Kingma, Rezende, Mohamed & Welling 2014, "Semi-supervised learning with deep generative models" (seed 002).

p(x, y, z) = p(y) p(z) p(x | y, z)         q(y, z | x) = q(y | x) q(z | x, y)

L(x, y) = E_q(z|x,y)[log p(x | y, z)] + log p(y) − KL(q(z | x, y) ‖ p(z))

q(z | x, y) has one network for mean and variance, so that both depend on y; in the paper the variance is of x alone.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.base import Size, Space, check_networks, is_bayesian
from al_dgm.models.classifiers import CorruptionOption, classifier
from al_dgm.models.enumerating import DeepGenerativeModel, Enumeration, Prediction, Recognition, Tempering
from al_dgm.models.images import Channels, as_input, as_output
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Pairs
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import latent_kl, sample_gaussian


class M2(DeepGenerativeModel):
    """M2 with weights that may carry a distribution.

    Args:
        space: the data's sizes and observation model.
        hidden: sizes of the hidden layers of every network.
        latent: size Z of z.
        convolutions: channels of the convolutions by which networks read x and produce it; none for rows of numbers.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier`` q(y|x),
            ``encoder`` q(z|x,y) and ``decoder`` p(x|y,z).
        prediction: how y is predicted; see `DeepGenerativeModel.log_predictive`.
        likelihood_weight: λ on log p(x|·) in training and in the Bayes classifier; see `Tempering`.
        enumeration: the classes that y is summed over; see `DeepGenerativeModel`.
        corruption: standard deviations of the noise on the standardised input and on the normalised units of the
            classifier in training, [input, units]; none for a plain network. See `al_dgm.nn.corrupted`.
    """

    def __init__(
        self,
        space: Space,
        hidden: list[Size] = [128],  # noqa: B006 - a schema's default, never mutated
        latent: Size = 10,
        convolutions: Channels = [],  # noqa: B006
        bayesian: str | list[str] = "classifier",
        prediction: Prediction = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 0.25,
        enumeration: Enumeration = "exact",
        corruption: CorruptionOption = [],  # noqa: B006
    ) -> None:
        super().__init__(space, prediction, likelihood_weight, enumeration)
        self.latent = latent
        x, C = as_input(space, convolutions), space.classes
        outputs = as_output(space, convolutions)
        check_networks(bayesian, ("classifier", "encoder", "decoder"))
        self.classifier = classifier([x], hidden, C, corruption, is_bayesian("classifier", bayesian))
        self.encoder = MLP(
            [x, C], hidden, 2 * latent, bayesian=is_bayesian("encoder", bayesian), head_init_sd=HEAD_INIT_SD
        )
        self.decoder = MLP([C, latent], hidden, outputs, bayesian=is_bayesian("decoder", bayesian))

    def recognise(self, x: Tensor, noise: Noise, samples: int) -> Recognition:  # noqa: ARG002 - no auxiliary draws
        """log q(y | x), with S = 1."""
        logits = self.classifier(self.space.network_input(x), noise=noise)
        return Recognition.without_auxiliary(F.log_softmax(logits, dim=-1))

    def bounds(
        self,
        x: Tensor,
        seen: Recognition,  # noqa: ARG002 - no auxiliary draws
        pairs: Pairs,
        noise: Noise,
        samples: int,
        *,
        tempering: Tempering = Tempering(),  # noqa: B008 - frozen
        closed_form: bool = True,
    ) -> Tensor:
        """L_s(x, y), [S, R]."""
        of_x, label = self._inputs(x, pairs)
        q_z = gaussian(self.encoder(of_x, label, noise=noise)[None])
        z = sample_gaussian(*q_z, noise, samples)
        reconstruction = self.space.observation.log_density(pairs.spread(x), self.decoder(label, z, noise=noise))
        kl = latent_kl(z, q_z, None, closed_form=closed_form)
        return tempering.likelihood * reconstruction + self.log_prior_of(pairs) - tempering.latents * kl

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | x, ŷ), [B, Z]."""
        return self.encode(x, self.recognise(x, noise, 1).log_q[0].argmax(-1), noise)

    def encode(self, x: Tensor, y: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | x, y), [B, Z]."""
        return gaussian(self.encoder(*self._inputs(x, Pairs.labelled(y, self.space.classes)), noise=noise))[0]

    def decode(self, y: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | y, z), [R, outputs]."""
        label = self.space.network_label(Pairs.labelled(y, self.space.classes))
        output: Tensor = self.decoder(label, z, noise=noise)
        return output
