"""What training, prediction and acquisition may ask of a model.

Dimensions: B examples, S latent samples, C classes, D features. Nats everywhere; ``x`` is in model space
(dataset.json's scale applied). A model's weights are used as `al_dgm.nn.bayesian` switches them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.errors import ConfigError
from al_dgm.models.observation import Observation
from al_dgm.nn.noise import Noise
from al_dgm.objectives.bounds import log_mean_exp, unlabelled_bound
from al_dgm.objectives.densities import (
    kl_normal,
    kl_standard_normal,
    normal_log_density,
    standard_normal_log_density,
)
from al_dgm.registry import nearest

Prediction = Literal["classifier", "bayes", "both"]


@dataclass(frozen=True)
class Space:
    """What a model must know of the data: D features, C classes, and how x is observed."""

    features: int
    classes: int
    observation: Observation


class Model(nn.Module, ABC):
    """A classifier with log-probabilities; a generative one has bounds as well."""

    generative: bool = False

    @abstractmethod
    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(y | x, W) for the weights in use, latents marginalised over ``samples`` draws; [B, C]."""

    @abstractmethod
    def labelled_terms(self, x: Tensor, y: Tensor, noise: Noise, latent_weight: float) -> dict[str, Tensor]:
        """Per-example terms of the labelled objective, each [B]: ``classification`` = −log q(y|x), and ``bound``."""

    def unlabelled_terms(self, x: Tensor, noise: Noise, latent_weight: float) -> dict[str, Tensor]:  # noqa: ARG002
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

    def __init__(self, space: Space, prediction: Prediction) -> None:
        super().__init__()
        self.space = space
        self.prediction = prediction
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
        latent_weight: float = 1.0,
        closed_form: bool = True,
    ) -> Enumeration:
        """Bounds L(x, y) for one-hot ``y`` and the classifier's log q(y | ·) on the same latent samples.

        Args:
            x: [B, D].
            y: one-hot, [1, 1, C, C] to enumerate the classes or [B, 1, 1, C] for given labels.
            noise: source of the latent draws.
            samples: S.
            latent_weight: factor on the KL of the latents (warm-up); 1 gives a bound.
            closed_form: take the KL of the latents in closed form; otherwise log q − log p of the draw, which makes
                ``bound`` a log importance weight: log p(x, y, latents) − log q(latents | x, y).
        """

    @abstractmethod
    def classify(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log q(y | a_s, x), or log q(y | x) with S = 1; [B, S, C]."""

    @abstractmethod
    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Latent means of x under its most probable class, for pictures; [B, Z]."""

    def class_bounds(self, x: Tensor, noise: Noise, samples: int, latent_weight: float = 1.0) -> Enumeration:
        """`enumerate` over all classes."""
        every_class = torch.eye(self.space.classes, dtype=x.dtype, device=x.device)[None, None]
        return self.enumerate(x, every_class, noise, samples, latent_weight=latent_weight)

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

    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(y | x), [B, C], by the way that ``prediction`` names.

        * ``classifier``: log mean_s q(y | a_s, x)
        * ``bayes``: p(y|x) ∝ mean_s exp L_s(x, y), the model's own posterior
        * ``both``: the normalised geometric mean of the two
        """
        if self.prediction == "classifier":
            return log_mean_exp(self.classify(x, noise, samples), dim=1)
        terms = self.class_bounds(x, noise, samples)
        classifier = log_mean_exp(terms.log_q, dim=1)
        bayes = F.log_softmax(log_mean_exp(terms.bound, dim=1), dim=-1)
        return bayes if self.prediction == "bayes" else F.log_softmax(0.5 * (classifier + bayes), dim=-1)

    def labelled_terms(self, x: Tensor, y: Tensor, noise: Noise, latent_weight: float) -> dict[str, Tensor]:
        """J(x, y) and E_{q(a|x)}[−log q(y | a, x)]: the expectation of the logarithm, not the other way round."""
        observed = self.space.observation.draw(x, noise)
        one_hot = F.one_hot(y, self.space.classes).to(x.dtype)[:, None, None, :]
        terms = self.enumerate(observed, one_hot, noise, samples=1, latent_weight=latent_weight)
        log_q = (terms.log_q * one_hot[:, 0]).sum(-1)
        return {"bound": terms.bound.mean(dim=(1, 2)), "classification": -log_q.mean(1)}

    def unlabelled_terms(self, x: Tensor, noise: Noise, latent_weight: float) -> dict[str, Tensor]:
        """U(x), with y enumerated."""
        observed = self.space.observation.draw(x, noise)
        terms = self.class_bounds(observed, noise, samples=1, latent_weight=latent_weight)
        return {"bound": unlabelled_bound(terms.bound, terms.log_q)}


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
