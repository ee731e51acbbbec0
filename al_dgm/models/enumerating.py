"""Models that enumerate y: what is inferred of x before, the bounds of (example, class) pairs, and how y is predicted.

Dimensions as in `al_dgm.models.base`; M is how many classes of an example are summed over.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.adversarial import adversarial_divergence
from al_dgm.models.base import Factor, GenerativeModel, Minibatch, Settings, Space
from al_dgm.nn.bayesian import bayesian_layers
from al_dgm.nn.corrupted import apart, clean, corrupted
from al_dgm.nn.noise import JoinedNoise, Noise, NoNoise
from al_dgm.nn.pairs import Label, OfExamples, Pairs
from al_dgm.objectives.bounds import log_mean_exp, unlabelled_bound
from al_dgm.objectives.densities import categorical_kl

Prediction = Literal["classifier", "bayes", "both"]
Enumeration = Literal["exact"] | Annotated[int, Field(ge=2)]


@dataclass(frozen=True)
class Tempering:
    """Factors on the terms of a bound; it is a bound on the log-evidence only where both are 1.

    Attributes:
        likelihood: λ on log p(x | ·). Pixels are not independent given the latents, though the likelihood multiplies
            them as if they were; λ < 1 counts them as the fewer observations that they are worth.
        latents: on the KL of the latents (warm-up).
    """

    likelihood: float = 1.0
    latents: Factor = 1.0


@dataclass(frozen=True)
class Recognition:
    """What is inferred of x before y is enumerated.

    Attributes:
        log_q: log q(y | a_s, x), [S, B, C], or log q(y | x) with S = 1.
        auxiliary: draws a_s that ``log_q`` was given and that the bounds are to use, [S, B, A]; A may be 0.
        log_q_auxiliary: log q(a_s | x), [S, B].
    """

    log_q: Tensor
    auxiliary: Tensor
    log_q_auxiliary: Tensor

    @classmethod
    def without_auxiliary(cls, log_q: Tensor) -> Recognition:
        """log q(y | x) of a model that has no auxiliary variable; ``log_q`` is [B, C]."""
        return cls(log_q[None], log_q.new_empty(1, len(log_q), 0), log_q.new_zeros(1, len(log_q)))


@dataclass(frozen=True)
class Enumerated:
    """The terms of a sum over y, for B examples with M classes each.

    Attributes:
        bound: L_s(x, y), [S, B, M].
        classifier: log q(y | ·) of all classes, on the same draws, [S, B, C].
        pairs: which classes those are.
    """

    bound: Tensor
    classifier: Tensor
    pairs: Pairs

    @property
    def log_q(self) -> Tensor:
        """log q(y | ·), normalised over the M classes, [S, B, M]."""
        return self.pairs.pick(self.classifier)[0]


class DeepGenerativeModel(GenerativeModel):
    """p(x, y) = ∫ p(x, y, latents), with a classifier q(y|·) as part of its inference model.

    y is summed out over all C classes, or, where ``enumeration`` is a number m < C, over a set T of m classes: those
    that q(y|x) finds most probable; in training m // 4 of them are others, at random, so that with m ≥ 4 every class
    is tried.
    q renormalised on T is a posterior like another, so U(x) stays a lower bound on log p(x), at a cost that does not
    depend on C.

    A subclass sets ``latent``, the size Z of the z ~ N(0, I) from which it generates, or has a `generate` of its own.

    Attributes:
        decodes_class: whether p(x | ·) is given y, so that one z can be decoded as every class.
    """

    log_prior: Tensor
    latent: int
    decodes_class: bool = True

    def __init__(
        self, space: Space, prediction: str, likelihood_weight: float, enumeration: Enumeration = "exact"
    ) -> None:
        super().__init__(space)
        self.prediction = prediction
        self.likelihood_weight = likelihood_weight
        self.enumeration = enumeration
        # p(y) is uniform: balanced classes are the seeds' setting. Its logarithm is kept in every bound.
        self.register_buffer("log_prior", F.log_softmax(torch.zeros(space.classes), dim=0))

    @abstractmethod
    def recognise(self, x: Tensor, noise: Noise, samples: int) -> Recognition:
        """The classifier, and the auxiliary draws that it is given, for x [B, D]."""

    @abstractmethod
    def bounds(
        self,
        x: Tensor,
        seen: Recognition,
        pairs: Pairs,
        noise: Noise,
        samples: int,
        *,
        tempering: Tempering = Tempering(),
        closed_form: bool = True,
    ) -> Tensor:
        """One-sample estimates of L(x, y), [S, R].

        Args:
            x: [B, D].
            seen: what `recognise` gave for it.
            pairs: which classes of which examples.
            noise: source of the latent draws.
            samples: S.
            tempering: factors on the terms; by default none, which gives a bound.
            closed_form: take the KL of the latents in closed form; otherwise log q − log p of the draw, which makes
                the result a log importance weight: log p(x, y, latents) − log q(latents | x, y).
        """

    @abstractmethod
    def encode(self, x: Tensor, y: Tensor, noise: Noise) -> Tensor:
        """Mean of q(z | x, y) for class indices y [B]; [B, Z]."""

    @abstractmethod
    def decode(self, y: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | y, z, ·) for class indices y [R] and z [R, Z]; [R, outputs].

        What stands between z and x is drawn from the model.
        """

    def generate(self, noise: Noise, samples: int, y: Tensor | None = None) -> Tensor:
        """Parameters of p(x | y, z, ·) at draws of z, and of y where it is not given as class indices [S]."""
        z = self.prior_sample(noise, samples, self.latent)
        if y is None:
            y = drawn(self.log_prior.expand(samples, -1), noise)
        return self.decode(y, z, noise)

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | ŷ, z, ·) at the most probable class and the mean of q(z | x, ŷ)."""
        y = self.log_classifier(x, NoNoise(), samples=1).argmax(-1)
        return self.decode(y, self.encode(x, y, noise), noise)

    def class_bounds(self, x: Tensor, noise: Noise, samples: int, tempering: Tempering = Tempering()) -> Enumerated:
        """L_s(x, y) of the classes that are summed over, and log q(y | ·) on the same draws."""
        seen = self.recognise(x, noise, samples)
        pairs = Pairs(len(x), x.new_empty(0, dtype=torch.int64), self._candidates(seen.log_q), self.space.classes)
        bound, _ = pairs.split(self.bounds(x, seen, pairs, noise, samples, tempering=tempering))
        return Enumerated(bound, seen.log_q, pairs)

    def log_weights(self, x: Tensor, y: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(x, y, z_s) − log q(z_s | x, y) for class indices y [B] and S draws; [S, B].

        Their `importance_weighted_bound` is a bound on log p(x, y); with S = 1 it is the ELBO.
        """
        seen = self.recognise(x, noise, samples)
        pairs = Pairs.labelled(y, self.space.classes)
        return self.bounds(x, seen, pairs, noise, samples, closed_form=False)

    def elbo(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """U(x) ≤ log p(x), the bound with y summed out; [B]."""
        found = self.class_bounds(x, noise, samples)
        return unlabelled_bound(found.bound, found.log_q)

    def log_importance(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log Σ_y p(x, y, z_s) / q(z_s | x, y), over all classes, [S, B]."""
        seen = self.recognise(x, noise, samples)
        pairs = Pairs(len(x), x.new_empty(0, dtype=torch.int64), None, self.space.classes)
        weights, _ = pairs.split(self.bounds(x, seen, pairs, noise, samples, closed_form=False))
        return weights.logsumexp(-1)

    def log_bayes(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """p(y|x) ∝ exp mean_s L_s(x, y), with λ on the likelihood; [B, C].

        At λ = 1 it is the model's own posterior as far as the bounds are tight.

        Of Bernoulli data x is the grey value itself, not a draw: the likelihood is linear in x, so this is a bound on
        the expected log-evidence of the draws, by one q(z | x, y) for all of them.

        Where pixels depend on others the likelihood is not linear in x, and x is drawn as in training.

        Classes outside T keep what q(y|x) gives them, and the bounds share out the rest among T.
        """
        x = self.space.observation.draw(x, noise) if self.sees_pixels else x
        found = self.class_bounds(x, noise, samples, Tempering(self.likelihood_weight))
        posterior = F.log_softmax(found.bound.mean(0), dim=-1)
        candidates = found.pairs.candidates
        if candidates is None:
            return posterior
        log_q = log_mean_exp(found.classifier, dim=0)
        within = log_q.gather(-1, candidates).logsumexp(-1, keepdim=True)
        return log_q.scatter(-1, candidates, within + posterior)

    def groundwork(self, x: Tensor, noise: Noise, samples: int) -> tuple[Tensor, ...]:
        """The costly part of `log_predictive`, which may be the same for every weight sample; () where there is none.

        Tensors [B, ...], so that it can be done for a few examples at a time. Here `log_bayes`, where it takes part in
        the prediction.
        """
        return (self.log_bayes(x, noise, samples),) if self.prediction in {"bayes", "both"} else ()

    @property
    def groundwork_has_point_weights(self) -> bool:
        """Whether `groundwork` is the same for every weight sample.

        Only the classifier's weights are drawn, and it has no say in which classes there are bounds of.
        """
        return self._sums_over_all and all(name.startswith("classifier.") for name in bayesian_layers(self))

    def log_predictive(self, x: Tensor, noise: Noise, samples: int, *groundwork: Tensor) -> Tensor:
        """log p(y | x), [B, C], by the way that ``prediction`` names.

        * ``classifier``: log mean_s q(y | a_s, x)
        * ``bayes``: `log_bayes`
        * ``both``: the normalised geometric mean of the two

        `groundwork` need not be done again where it is given.
        """
        if self.prediction == "classifier":
            return self.log_classifier(x, noise, samples)
        (bayes,) = groundwork or self.groundwork(x, noise, samples)
        if self.prediction == "bayes":
            return bayes
        return F.log_softmax(0.5 * (self.log_classifier(x, noise, samples) + bayes), dim=-1)

    def log_classifier(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log mean_s q(y | a_s, x), [B, C]."""
        return log_mean_exp(self.recognise(x, noise, samples).log_q, dim=0)

    def terms(self, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:
        """J(x, y), E_{q(a|x)}[−log q(y | a, x)], U(x), the classifier's probabilities, and the adversarial divergence.

        One pass over both sets: every network sees all rows at once. The classification term is the expectation of
        the logarithm, not the other way round.

        Early in training the bounds know nothing of the classes, and their gradient pulls q(y|x) into whatever
        clusters a random decoder prefers. ``settings.responsibility`` ω scales that gradient: the value of U is that
        of ω = 1, while the classifier learns from the labels first and then takes responsibility for its classes.
        """
        unlabelled, _ = batch.sizes
        noise = JoinedNoise(batch.unlabelled_noise, batch.labelled_noise, batch.sizes)
        x = self.space.observation.draw(torch.cat([batch.x_unlabelled, batch.x_labelled]), noise)
        with apart(self, batch.sizes):
            seen = self.recognise(x, noise, samples=1)
        alone = seen.log_q[:, :unlabelled]
        pairs = Pairs(unlabelled, batch.y, self._candidates(alone, batch.unlabelled_noise), self.space.classes)
        tempering = Tempering(self.likelihood_weight, settings.latents)
        of_candidates, labelled_bound = pairs.split(self.bounds(x, seen, pairs, noise, 1, tempering=tempering))
        log_q, log_q_given = pairs.pick(seen.log_q)
        result = {"labelled_bound": labelled_bound.mean(0), "classification": -log_q_given.mean(0)}
        if unlabelled:
            result["unlabelled_bound"] = unlabelled_bound(of_candidates, pulled(log_q, settings.responsibility))
        return result | self.regularised(x, seen, batch, settings)

    def regularised(self, x: Tensor, seen: Recognition, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:
        """What regularises the classifier on unlabelled examples: its probabilities and divergences; all [U, ...].

        ``adversarial`` as in `al_dgm.models.adversarial`; ``consistency``, of a corrupted classifier, is its divergence
        from what it says undisturbed, KL(q_τ(y|x) ‖ q(y|x, noise)), where only the latter learns, q_τ ∝ q(y|x)^(1/τ)
        and τ is ``settings.consistency_temperature``. A classifier that hardly says anything is the most consistent,
        and at τ = 1 nothing here tells it to be surer under noise than without; at τ < 1 the target is (Berthelot et
        al. 2019, Xie et al. 2020).
        """
        unlabelled, _ = batch.sizes
        undisturbed = self._undisturbed(x[: unlabelled or len(x)]) if corrupted(self) else None
        if not unlabelled:
            return {}
        log_q = log_mean_exp(seen.log_q[:, :unlabelled], dim=0)
        result = {"q": log_q.exp()}
        if undisturbed is not None:
            target = F.log_softmax(undisturbed / settings.consistency_temperature, dim=-1)
            result["consistency"] = categorical_kl(target, log_q)
        if settings.adversarial_radius:
            radius = settings.adversarial_radius
            result["adversarial"] = self.adversarial(x[:unlabelled], batch.unlabelled_noise, radius)
        return result

    @torch.no_grad()
    def _undisturbed(self, x: Tensor) -> Tensor:
        """log q(y | x) without any noise, by the statistics of these rows, which count as the population's; [B, C].

        Of an auxiliary model a is at its mean here and drawn in prediction, whose units vary a little more.
        """
        with clean(self):
            return self.log_classifier(x, NoNoise(), samples=1)

    def adversarial(self, x: Tensor, noise: Noise, radius: float) -> Tensor:
        """KL(q(y|x) ‖ q(y|x + r)) at the worst r of length ``radius``, [B]; see `al_dgm.models.adversarial`."""
        return adversarial_divergence(self, self.log_classifier, x, noise, radius)

    @property
    def classes_in_bounds(self) -> int:
        """M, how many classes y is summed over."""
        return self.space.classes if self.enumeration == "exact" else min(self.enumeration, self.space.classes)

    @property
    def _sums_over_all(self) -> bool:
        return self.classes_in_bounds == self.space.classes

    def _candidates(self, log_q: Tensor, noise: Noise | None = None) -> Tensor | None:
        """T by log q(y | ·) [S, B, C], as class indices [B, m]; with ``noise`` m // 4 at random. None for all."""
        if self._sums_over_all or self.enumeration == "exact":
            return None
        others = self.enumeration // 4 if noise is not None else 0
        expected = log_q.detach().mean(0)
        best = expected.topk(self.enumeration - others).indices
        if noise is None:
            return best
        rest = noise.uniform(expected.shape).scatter(-1, best, -1.0).topk(others).indices
        return torch.cat([best, rest], dim=-1)

    def log_prior_of(self, pairs: Pairs) -> Tensor:
        """log p(y) of every pair, [R]."""
        return self.log_prior[pairs.labels]

    def _inputs(self, x: Tensor, pairs: Pairs) -> tuple[OfExamples, Label]:
        """x and y of every pair, as networks read them."""
        return OfExamples(self.space.network_input(x), pairs), self.space.network_label(pairs)


def drawn(log_p: Tensor, noise: Noise) -> Tensor:
    """A class of each row's log-probabilities [S, C], as class indices [S]."""
    below = log_p.exp().cumsum(-1)[:, :-1]
    return (noise.uniform(torch.Size([len(log_p), 1])) >= below).sum(-1)


def pulled(log_q: Tensor, responsibility: Factor) -> Tensor:
    """``log_q``, its gradient times ω."""
    return responsibility * log_q + (1 - responsibility) * log_q.detach()
