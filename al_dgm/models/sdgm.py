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
        pixelcnn: [channels, residual blocks] of a PixelCNN after them, by which a pixel depends on those before it, as
            in FAME; none where pixels are independent given the latents.
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
        pixelcnn: Channels = [],  # noqa: B006
        bayesian: str | list[str] = "classifier",
        prediction: Prediction = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 0.25,
        enumeration: Enumeration = "exact",
        corruption: CorruptionOption = [],  # noqa: B006
    ) -> None:
        super().__init__(space, prediction, likelihood_weight, enumeration)
        C = space.classes
        sees = [C, latent], [auxiliary, C, latent]
        self.build((hidden, latent, auxiliary), sees, bayesian, convolutions, pixelcnn, corruption)

    def conditionals(
        self,
        of_x: OfExamples,
        of_a: OfExamples,
        label: Label,
        z: Tensor,
        noise: Noise,
    ) -> tuple[Tensor, Tensor]:
        """Parameters of p(a | y, z), [S, R, 2A], and of p(x | a, y, z)."""
        return self.auxiliary_decoder(label, z, noise=noise), self.describe(of_x, of_a, label, z, noise=noise)

    def decode(self, y: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | a, y, z), with a ~ p(a | y, z); [R, outputs]."""
        label = self.label(y)
        a = sample_gaussian(*gaussian(self.auxiliary_decoder(label, z, noise=noise)), noise)
        return self.describe(None, a, label, z, noise=noise)

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | a, ŷ, z) at the most probable class and the means of q(a | x) and q(z | a, x, ŷ)."""
        a, y = self.infer(x, noise)
        return self.describe(self.space.network_input(x), a, self.label(y), self.encode(x, y, noise, a), noise=noise)
