"""The Bayesian deep generative model of Gordon & Hernández-Lobato 2017 (seed 000, the poster).

p(x, y, z, W) = p(z) p(x | z) p(y | x, z, W) p(W)          q(y, z, W | x) = q(y | x) q(z | x, y) q(W)

L(x, y) = E_q(z|x,y)[log p(x | z) + log p(y | x, z, W)] − KL(q(z | x, y) ‖ p(z))

A variational auto-encoder of x beside a Bayesian network for y. There is no p(y); KL(q(W) ‖ p(W)) belongs to no example
and is counted once, by the objective. While y is unknown W and z are independent given x, so that

    p(y | x, W) = E_p(z|x)[p(y | x, z, W)],          p(z | x) ∝ p(z) p(x | z),

and whatever estimates the expectation does so inside each weight sample: latent noise is no uncertainty about W.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.base import Size, Space, check_networks, is_bayesian
from al_dgm.models.classifiers import CorruptionOption, classifier
from al_dgm.models.enumerating import DeepGenerativeModel, Enumeration, Recognition, Tempering
from al_dgm.models.gibbs import State, gibbs
from al_dgm.models.images import Channels, as_input, as_output
from al_dgm.models.mixture import Mixture
from al_dgm.nn.bayesian import bayesian_layers
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Pairs
from al_dgm.nn.pictures import Pyramid
from al_dgm.objectives.bounds import effective_sample_size, log_mean_exp
from al_dgm.objectives.densities import gaussian, standard_normal_log_density
from al_dgm.objectives.latents import latent_kl, sample_gaussian


class BDGM(DeepGenerativeModel):
    """The poster's model.

    Args:
        space: the data's sizes and observation model.
        hidden: sizes of the hidden layers of every network.
        latent: size Z of z.
        convolutions: channels of the convolutions by which networks read x and produce it; none for rows of numbers.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``classifier`` q(y|x),
            ``encoder`` q(z|x,y), ``decoder`` p(x|z) and ``predictor`` p(y|x,z,W). The first two are no part of the
            model but approximate its posterior: point weights serve them best.
        prediction: how y is predicted: ``importance`` by `posterior_draws`, ``gibbs`` by `al_dgm.models.gibbs`, or by
            the ``classifier`` q(y|x) alone.
        sweeps: of each Gibbs chain, of which the first half is burn-in.
        likelihood_weight: λ on log p(x|z), and on that alone, in training and prediction; see `Tempering`.
        enumeration: the classes that y is summed over; see `DeepGenerativeModel`.
        corruption: standard deviations of the noise on the standardised input and on the normalised units of the
            classifier in training, [input, units]; none for a plain network. See `al_dgm.nn.corrupted`.
    """

    decodes_class = False

    def __init__(
        self,
        space: Space,
        hidden: list[Size] = [128],  # noqa: B006 - a schema's default, never mutated
        latent: Size = 10,
        convolutions: Channels = [],  # noqa: B006
        bayesian: str | list[str] = "predictor",
        prediction: Literal["classifier", "importance", "gibbs"] = "importance",
        sweeps: Annotated[int, Field(ge=2)] = 20,
        likelihood_weight: Annotated[float, Field(gt=0)] = 0.25,
        enumeration: Enumeration = "exact",
        corruption: CorruptionOption = [],  # noqa: B006
    ) -> None:
        super().__init__(space, prediction, likelihood_weight, enumeration)
        self.latent, self.sweeps = latent, sweeps
        x, C = as_input(space, convolutions), space.classes
        check_networks(bayesian, ("classifier", "encoder", "decoder", "predictor"))

        def network(
            name: str, inputs: list[int | Pyramid], outputs: int | Pyramid, head_init_sd: float | None = None
        ) -> MLP:
            return MLP(inputs, hidden, outputs, bayesian=is_bayesian(name, bayesian), head_init_sd=head_init_sd)

        self.classifier = classifier([x], hidden, C, corruption, is_bayesian("classifier", bayesian))
        self.encoder = network("encoder", [x, C], 2 * latent, HEAD_INIT_SD)
        self.decoder = network("decoder", [latent], as_output(space, convolutions))
        self.predictor = network("predictor", [x, latent], C)

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
        reconstruction = self.space.observation.log_density(pairs.spread(x), self.decoder(z, noise=noise))
        log_label = F.log_softmax(self.predictor(of_x, z, noise=noise), dim=-1)
        given = log_label.gather(-1, pairs.labels.expand(len(z), -1)[..., None])[..., 0]
        kl = latent_kl(z, q_z, None, closed_form=closed_form)
        return tempering.likelihood * reconstruction + given - tempering.latents * kl

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | x, ŷ), [B, Z]."""
        return self.encode(x, self.recognise(x, noise, 1).log_q[0].argmax(-1), noise)

    def encode(self, x: Tensor, y: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | x, y), [B, Z]."""
        return gaussian(self.encoder(*self._inputs(x, Pairs.labelled(y, self.space.classes)), noise=noise))[0]

    def decode(self, y: Tensor, z: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - x does not depend on y given z
        """Parameters of p(x | z), [R, outputs]."""
        output: Tensor = self.decoder(z, noise=noise)
        return output

    def log_predictive(self, x: Tensor, noise: Noise, samples: int, *groundwork: Tensor) -> Tensor:
        """log p(y | x, W), [B, C], by the way that ``prediction`` names.

        * ``importance``: log Σ_s w̃_s p(y | x, z_s, W) with the normalised weights of `posterior_draws`; S draws
        * ``gibbs``: log mean over S chains and their sweeps of p(y | x, z, W)
        * ``classifier``: log q(y | x)

        Gibbs sampling and importance sampling have the same proposal and the same limit. The latter's draws serve all
        samples of the predictor's weights, whereas a chain is run for each of them, ``sweeps`` times as long.
        """
        if self.prediction == "classifier":
            return self.log_classifier(x, noise, samples)
        if self.prediction == "gibbs":
            return log_mean_exp(self.chains(x, noise, samples), dim=0)
        z, log_weights = (drawn.transpose(0, 1) for drawn in groundwork or self.groundwork(x, noise, samples))
        shares = F.log_softmax(log_weights, dim=0)
        return (shares[..., None] + self._log_label(x, z, noise)).logsumexp(0)

    def groundwork(self, x: Tensor, noise: Noise, samples: int) -> tuple[Tensor, ...]:
        """`posterior_draws` with the examples first, [B, S, Z] and [B, S], where they predict."""
        if self.prediction != "importance":
            return ()
        z, log_weights = self.posterior_draws(x, noise, samples)
        return z.transpose(0, 1), log_weights.transpose(0, 1)

    @property
    def groundwork_has_point_weights(self) -> bool:
        """Whether `posterior_draws` are the same for every weight sample: only the predictor's weights are drawn."""
        return all(name.startswith("predictor.") for name in bayesian_layers(self))

    def posterior_draws(self, x: Tensor, noise: Noise, samples: int) -> tuple[Tensor, Tensor]:
        """z_s from Σ_y q(y|x) q(z|x,y), [S, B, Z], with log-weights towards p(z | x), [S, B].

        log w_s = λ log p(x | z_s) + log p(z_s) − log Σ_y q(y | x) q(z_s | x, y). With λ = 1 the mean weight is an
        unbiased estimate of p(x).
        """
        proposal = self._proposal(x, noise)
        z = proposal.sample(noise, samples)
        return z, self._log_joint(x, z, noise) - proposal.log_density(z)

    def effective_samples(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """How many independent draws of p(z | x) the S weighted ones are worth, in [1, S]; [B]."""
        return effective_sample_size(self.posterior_draws(x, noise, samples)[1])

    def chains(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(y | x, W) by S Gibbs chains of each example, chain by chain, [S, B, C]."""

        def evaluate(z: Tensor) -> State:
            return State(z, self._log_joint(x, z, noise), self._log_label(x, z, noise))

        return gibbs(evaluate, self._proposal(x, noise, every_class=True), noise, samples, self.sweeps)

    def _proposal(self, x: Tensor, noise: Noise, *, every_class: bool = False) -> Mixture:
        """q(z | x), of the classes that ``enumeration`` says or of all."""
        seen = self.recognise(x, noise, 1)
        candidates = None if every_class else self._candidates(seen.log_q)
        pairs = Pairs(len(x), x.new_empty(0, dtype=torch.int64), candidates, self.space.classes)
        q_z = self.encoder(*self._inputs(x, pairs), noise=noise).unflatten(0, (len(x), pairs.width))
        return Mixture(pairs.pick(seen.log_q)[0][0], *gaussian(q_z))

    def _log_joint(self, x: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """log p(z) + λ log p(x | z), [S, B]."""
        log_p_x = self.space.observation.log_density(x, self.decoder(z, noise=noise))
        return standard_normal_log_density(z) + self.likelihood_weight * log_p_x

    def _log_label(self, x: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """log p(y | x, z, W), [S, B, C]."""
        return F.log_softmax(self.predictor(self.space.network_input(x), z, noise=noise), dim=-1)
