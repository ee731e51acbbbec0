"""What training, prediction and acquisition may ask of a model.

Dimensions: B examples, S latent samples, C classes, D features. Nats everywhere; ``x`` is in model space
(dataset.json's scale applied). A model's weights are used as `al_dgm.nn.bayesian` switches them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.errors import ConfigError
from al_dgm.models.observation import Observation
from al_dgm.nn.bayesian import bayesian_layers, mean_weights
from al_dgm.nn.noise import Noise
from al_dgm.objectives.bounds import log_mean_exp, unlabelled_bound
from al_dgm.objectives.densities import (
    categorical_kl,
    kl_normal,
    kl_standard_normal,
    normal_log_density,
    standard_normal_log_density,
)
from al_dgm.registry import nearest

POWER_STEP = 0.1  # length of the probe that finds the adversarial direction; the divergence is quadratic there

Prediction = Literal["classifier", "bayes", "both"]


@dataclass(frozen=True)
class Space:
    """What a model must know of the data.

    Attributes:
        features: D.
        classes: C.
        observation: how x is observed.
        centre: mean of x over the pool, all features together.
        spread: standard deviation of x over the pool, likewise.
    """

    features: int
    classes: int
    observation: Observation
    centre: float = 0.0
    spread: float = 1.0

    def network_input(self, x: Tensor) -> Tensor:
        """x standardised, as every network reads it; likelihoods are of x itself."""
        return (x - self.centre) / self.spread

    def network_label(self, y: Tensor) -> Tensor:
        """One-hot y times √C, so that like standardised x it has second moment 1 per entry.

        Unscaled, the label is the faintest of a decoder's inputs and the latent learns to carry the class itself.
        """
        return y * math.sqrt(self.classes)


@dataclass(frozen=True)
class Tempering:
    """Factors on the terms of a bound; it is a bound on the log-evidence only where both are 1.

    Attributes:
        likelihood: λ on log p(x | ·). Pixels are not independent given the latents, though the likelihood multiplies
            them as if they were; λ < 1 counts them as the fewer observations that they are worth.
        latents: on the KL of the latents (warm-up).
    """

    likelihood: float = 1.0
    latents: float = 1.0


@dataclass(frozen=True)
class UnlabelledSettings:
    """How the unlabelled objective is phased in and regularised; see `DeepGenerativeModel.unlabelled_terms`."""

    latents: float = 1.0
    responsibility: float = 1.0
    adversarial_radius: float = 0.0


class Model(nn.Module, ABC):
    """A classifier with log-probabilities; a generative one has bounds as well."""

    generative: bool = False

    @abstractmethod
    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(y | x, W) for the weights in use, latents marginalised over ``samples`` draws; [B, C]."""

    @abstractmethod
    def labelled_terms(self, x: Tensor, y: Tensor, noise: Noise, latents: float = 1.0) -> dict[str, Tensor]:
        """Per-example terms of the labelled objective, each [B]: ``classification`` = −log q(y|x), and ``bound``.

        ``latents`` is the warm-up factor on the KL of the latents.
        """

    def unlabelled_terms(self, x: Tensor, noise: Noise, settings: UnlabelledSettings) -> dict[str, Tensor]:  # noqa: ARG002
        """Per-example terms of the unlabelled objective, each [B]; a supervised model has none."""
        return {}


@dataclass(frozen=True)
class Enumeration:
    """One pass over x with y enumerated or given: see `al_dgm.objectives.bounds` for the two tensors."""

    bound: Tensor  # [B, S, C] or, for given labels, [B, S, 1]
    log_q: Tensor  # [B, S, C]


class DeepGenerativeModel(Model):
    """p(x, y) = ∫ p(x, y, latents), with a classifier q(y|·) as part of its inference model."""

    generative = True
    log_prior: Tensor

    def __init__(self, space: Space, prediction: Prediction, likelihood_weight: float) -> None:
        super().__init__()
        self.space = space
        self.prediction = prediction
        self.likelihood_weight = likelihood_weight
        # p(y) is uniform: balanced classes are the seeds' setting. Its logarithm is kept in every bound.
        self.register_buffer("log_prior", F.log_softmax(torch.zeros(space.classes), dim=0))

    @abstractmethod
    def enumerate(
        self,
        x: Tensor,
        y: Tensor,
        noise: Noise,
        samples: int,
        *,
        tempering: Tempering = Tempering(),
        closed_form: bool = True,
    ) -> Enumeration:
        """Bounds L(x, y) for one-hot ``y`` and the classifier's log q(y | ·) on the same latent samples.

        Args:
            x: [B, D].
            y: one-hot, [1, 1, C, C] to enumerate the classes or [B, 1, 1, C] for given labels.
            noise: source of the latent draws.
            samples: S.
            tempering: factors on the terms; by default none, which gives a bound.
            closed_form: take the KL of the latents in closed form; otherwise log q − log p of the draw, which makes
                ``bound`` a log importance weight: log p(x, y, latents) − log q(latents | x, y).
        """

    @abstractmethod
    def classify(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log q(y | a_s, x), or log q(y | x) with S = 1; [B, S, C]."""

    @abstractmethod
    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Latent means of x under its most probable class, for pictures; [B, Z]."""

    def class_bounds(
        self,
        x: Tensor,
        noise: Noise,
        samples: int,
        tempering: Tempering = Tempering(),
    ) -> Enumeration:
        """`enumerate` over all classes."""
        every_class = torch.eye(self.space.classes, dtype=x.dtype, device=x.device)[None, None]
        return self.enumerate(x, every_class, noise, samples, tempering=tempering)

    def log_weights(self, x: Tensor, y: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(x, y, z_s) − log q(z_s | x, y) for class indices y [B] and S draws; [B, S].

        Their `importance_weighted_bound` is a bound on log p(x, y); with S = 1 it is the ELBO.
        """
        one_hot = F.one_hot(y, self.space.classes).to(x.dtype)[:, None, None, :]
        return self.enumerate(x, one_hot, noise, samples, closed_form=False).bound[..., 0]

    def elbo(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """U(x) ≤ log p(x), the bound with y summed out; [B]."""
        terms = self.class_bounds(x, noise, samples)
        return unlabelled_bound(terms.bound, terms.log_q)

    def log_bayes(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(y|x) ∝ mean_s L_s(x, y), the model's own posterior as far as the bounds are tight; [B, C].

        Of Bernoulli data x is the grey value itself, not a draw: the likelihood is linear in x, so this is a bound on
        the expected log-evidence of the draws, by one q(z | x, y) for all of them.
        """
        terms = self.class_bounds(x, noise, samples, Tempering(self.likelihood_weight))
        return F.log_softmax(terms.bound.mean(1), dim=-1)

    @property
    def bayes_has_point_weights(self) -> bool:
        """Whether `log_bayes` is the same for every weight sample: only the classifier's weights are drawn."""
        return all(name.startswith("classifier.") for name in bayesian_layers(self))

    def log_predictive(self, x: Tensor, noise: Noise, samples: int, log_bayes: Tensor | None = None) -> Tensor:
        """log p(y | x), [B, C], by the way that ``prediction`` names.

        * ``classifier``: log mean_s q(y | a_s, x)
        * ``bayes``: `log_bayes`, which need not be computed again where it is given
        * ``both``: the normalised geometric mean of the two
        """
        if self.prediction == "classifier":
            return self._log_classifier(x, noise, samples)
        bayes = self.log_bayes(x, noise, samples) if log_bayes is None else log_bayes
        if self.prediction == "bayes":
            return bayes
        return F.log_softmax(0.5 * (self._log_classifier(x, noise, samples) + bayes), dim=-1)

    def _log_classifier(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        return log_mean_exp(self.classify(x, noise, samples), dim=1)

    def labelled_terms(self, x: Tensor, y: Tensor, noise: Noise, latents: float = 1.0) -> dict[str, Tensor]:
        """J(x, y) and E_{q(a|x)}[−log q(y | a, x)]: the expectation of the logarithm, not the other way round."""
        observed = self.space.observation.draw(x, noise)
        one_hot = F.one_hot(y, self.space.classes).to(x.dtype)[:, None, None, :]
        tempering = Tempering(self.likelihood_weight, latents)
        terms = self.enumerate(observed, one_hot, noise, samples=1, tempering=tempering)
        log_q = (terms.log_q * one_hot[:, 0]).sum(-1)
        return {"bound": terms.bound.mean(dim=(1, 2)), "classification": -log_q.mean(1)}

    def unlabelled_terms(self, x: Tensor, noise: Noise, settings: UnlabelledSettings) -> dict[str, Tensor]:
        """U(x) with y enumerated, the classifier's probabilities, and its adversarial divergence where asked for.

        Early in training the bounds know nothing of the classes, and their gradient pulls q(y|x) into whatever
        clusters a random decoder prefers. ``settings.responsibility`` ω scales that gradient: the value of U is that
        of ω = 1, while the classifier learns from the labels first and then takes responsibility for its classes.
        """
        observed = self.space.observation.draw(x, noise)
        tempering = Tempering(self.likelihood_weight, settings.latents)
        terms = self.class_bounds(observed, noise, samples=1, tempering=tempering)
        omega = settings.responsibility
        log_q = terms.log_q if omega == 1 else omega * terms.log_q + (1 - omega) * terms.log_q.detach()
        result = {"bound": unlabelled_bound(terms.bound, log_q), "q": log_mean_exp(terms.log_q, dim=1).exp()}
        if settings.adversarial_radius:
            result["adversarial"] = self._adversarial_divergence(observed, noise, settings.adversarial_radius)
        return result

    def _adversarial_divergence(self, x: Tensor, noise: Noise, radius: float) -> Tensor:
        """Virtual adversarial training (Miyato et al. 2018): KL(q(y|x) ‖ q(y|x + r)) at the worst r, [B].

        r has length ``radius`` in model space and the direction in which the divergence grows fastest, found by one
        power iteration. Weights are at their posterior mean: what is smoothed is the classifier, not its noise.
        """
        with mean_weights(self):
            common = CommonDraws(noise)
            clean = self.classify(x, common.again(), 1)[:, 0].detach()
            direction = F.normalize(noise.normal(x.shape), dim=-1).requires_grad_()
            nearby = self.classify(x + POWER_STEP * direction, common.again(), 1)[:, 0]
            (gradient,) = torch.autograd.grad(categorical_kl(clean, nearby).sum(), direction)
            worst = x + radius * F.normalize(gradient, dim=-1)
            return categorical_kl(clean, self.classify(worst, common.again(), 1)[:, 0])


class CommonDraws:
    """Repeats the first pass's draws in every later pass, so that two passes differ by their input alone."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise
        self._kept: list[Tensor] = []
        self._next = 0

    def again(self) -> CommonDraws:
        """Start over from the first draw."""
        self._next = 0
        return self

    def normal(self, shape: torch.Size) -> Tensor:
        """The kept draw, or a new one where none is kept yet."""
        return self._draw(self._noise.normal, shape)

    def uniform(self, shape: torch.Size) -> Tensor:
        """The kept draw, or a new one where none is kept yet."""
        return self._draw(self._noise.uniform, shape)

    def _draw(self, fresh: Callable[[torch.Size], Tensor], shape: torch.Size) -> Tensor:
        if self._next == len(self._kept):
            self._kept.append(fresh(shape))
        self._next += 1
        return self._kept[self._next - 1]


def sample_gaussian(mean: Tensor, log_variance: Tensor, noise: Noise, samples: int | None = None) -> Tensor:
    """mean + sd·ε; with ``samples``, S draws along dimension 1, which must have size 1 in ``mean``."""
    shape = list(mean.shape)
    if samples is not None:
        shape[1] = samples
    return mean + torch.exp(0.5 * log_variance) * noise.normal(torch.Size(shape))


def latent_kl(
    sample: Tensor, q: tuple[Tensor, Tensor], p: tuple[Tensor, Tensor] | None, *, closed_form: bool
) -> Tensor:
    """KL(q ‖ p) of diagonal Gaussians (mean, log-variance), or its one-sample estimate log q − log p at ``sample``.

    ``p`` None is N(0, I).
    """
    if closed_form:
        return kl_standard_normal(*q) if p is None else kl_normal(*q, *p)
    log_p = standard_normal_log_density(sample) if p is None else normal_log_density(sample, *p)
    return normal_log_density(sample, *q) - log_p


def is_bayesian(network: str, bayesian: str | list[str]) -> bool:
    """Whether the option ``bayesian`` (none, all, a network's name or a list of them) names ``network``."""
    named = [bayesian] if isinstance(bayesian, str) else bayesian
    return "all" in named or network in named


def check_networks(bayesian: str | list[str], networks: tuple[str, ...]) -> None:
    """Refuse a name in ``bayesian`` that is no network of the model.

    Raises:
        ConfigError: with the nearest name.
    """
    for name in [bayesian] if isinstance(bayesian, str) else bayesian:
        if name not in {"none", "all", *networks}:
            raise ConfigError(
                f"bayesian: unknown network '{name}'{nearest(name, networks)}; "
                f"expected none, all, or among: {', '.join(networks)}"
            )
