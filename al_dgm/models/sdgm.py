"""SDGM: Maaløe, Sønderby, Sønderby & Winther 2016, "Auxiliary deep generative models" (seed 003, chapter 4, App. A).

p(x, y, z, a) = p(y) p(z) p(a | y, z) p(x | a, y, z)     q(a, y, z | x) = q(a | x) q(y | a, x) q(z | a, y, x)

L(x, y) = E_q[log p(x | a, y, z) + log p(a | y, z) − log q(a | x)] + log p(y) − E_q(a|x) KL(q(z | a, y, x) ‖ p(z))
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from al_dgm.models.auxiliary import AuxiliaryModel
from al_dgm.models.base import Size, Space
from al_dgm.models.classifiers import CorruptionOption
from al_dgm.models.enumerating import Enumeration, Prediction
from al_dgm.models.images import Channels
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Label, OfExamples
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import sample_gaussian


class SDGM(AuxiliaryModel):
    """The skip deep generative model.

    Args:
        space: the data's sizes and observation model.
        hidden: sizes of the hidden layers of every network.
        latent: size Z of z.
        auxiliary: size A of a.
        convolutions: channels of the convolutions by which networks read x and produce it; none for rows of numbers.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``auxiliary`` q(a|x),
            ``classifier`` q(y|a,x), ``encoder`` q(z|a,y,x), ``auxiliary_decoder`` p(a|y,z), ``decoder`` p(x|a,y,z).
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
        auxiliary: Size = 4,
        convolutions: Channels = [],  # noqa: B006
        bayesian: str | list[str] = "classifier",
        prediction: Prediction = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 0.25,
        enumeration: Enumeration = "exact",
        corruption: CorruptionOption = [],  # noqa: B006
    ) -> None:
        super().__init__(space, prediction, likelihood_weight, enumeration)
        C = space.classes
        sees = [C, latent], [auxiliary, C, latent]
        self.build((hidden, latent, auxiliary), sees, bayesian, convolutions, corruption)

    def conditionals(
        self,
        of_x: OfExamples,  # noqa: ARG002
        of_a: OfExamples,
        label: Label,
        z: Tensor,
        noise: Noise,
    ) -> tuple[Tensor, Tensor]:
        """Parameters of p(a | y, z), [S, R, 2A], and of p(x | a, y, z)."""
        return self.auxiliary_decoder(label, z, noise=noise), self.decoder(of_a, label, z, noise=noise)

    def decode(self, y: Tensor, z: Tensor, noise: Noise, a: Tensor | None = None) -> Tensor:
        """Parameters of p(x | a, y, z), with a ~ p(a | y, z) unless it is given, [R, A]; [R, outputs]."""
        label = self.label(y)
        if a is None:
            a = sample_gaussian(*gaussian(self.auxiliary_decoder(label, z, noise=noise)), noise)
        output: Tensor = self.decoder(a, label, z, noise=noise)
        return output

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | a, ŷ, z) at the most probable class and the means of q(a | x) and q(z | a, x, ŷ)."""
        a, y = self.infer(x, noise)
        return self.decode(y, self.encode(x, y, noise, a), noise, a)
