"""What training, prediction and acquisition may ask of a model.

Dimensions: S latent samples, B examples, R (example, class) pairs, C classes, D features. Nats everywhere; ``x`` is in
model space (dataset.json's scale applied). A model's weights are used as `al_dgm.nn.bayesian` switches them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from al_dgm.errors import ConfigError
from al_dgm.models.observation import Observation
from al_dgm.nn.linear import Extent
from al_dgm.nn.noise import Noise
from al_dgm.nn.pairs import Label, Pairs
from al_dgm.registry import nearest

Size = Annotated[int, Field(gt=0)]  # an option that counts something
Factor = float | Tensor  # of a term; a tensor where a compiled step must not be compiled again for another value


@dataclass(frozen=True)
class Space:
    """What a model must know of the data.

    Attributes:
        features: D.
        classes: C.
        observation: how x is observed.
        centre: mean of x over the pool, all features together.
        spread: standard deviation of x over the pool, likewise.
        shape: of one example; of an image (height, width), or that with the channels first or last. () is a row, (D,).
    """

    features: int
    classes: int
    observation: Observation
    centre: float = 0.0
    spread: float = 1.0
    shape: tuple[int, ...] = ()

    def network_input(self, x: Tensor) -> Tensor:
        """x standardised, as every network reads it; likelihoods are of x itself."""
        return (x - self.centre) / self.spread

    def network_label(self, pairs: Pairs) -> Label:
        """One-hot y times √C, so that like standardised x it has second moment 1 per entry.

        Unscaled, the label is the faintest of a decoder's inputs and the latent learns to carry the class itself.
        """
        return Label(math.sqrt(self.classes), pairs)


@dataclass(frozen=True)
class Minibatch:
    """One step's rows, x_l [L, D], y_l [L] class indices, x_u [U, D], and the noise of each set."""

    x_labelled: Tensor
    y: Tensor
    x_unlabelled: Tensor
    labelled_noise: Noise
    unlabelled_noise: Noise

    @property
    def sizes(self) -> tuple[int, int]:
        """(U, L)."""
        return len(self.x_unlabelled), len(self.x_labelled)

    def counted(self, x: Tensor) -> Tensor:
        """1 for each row of both sets, x [U + L, D], by which layers normalise and 0 for the others.

        Those are the unlabelled ones, or all where there are none: the labelled ones are few and come again and again.
        """
        unlabelled, _ = self.sizes
        return (torch.arange(len(x), device=x.device) < (unlabelled or len(x))).to(x.dtype)


@dataclass(frozen=True)
class Settings:
    """How the objective is phased in and regularised.

    Attributes:
        latents: warm-up factor on the KL of the latents.
        responsibility: ω, see `DeepGenerativeModel.terms`.
        adversarial_radius: see `al_dgm.models.adversarial`; 0 for none.
        consistency_temperature: τ, see `DeepGenerativeModel.regularised`.
    """

    latents: Factor = 1.0
    responsibility: Factor = 1.0
    adversarial_radius: float = 0.0
    consistency_temperature: float = 1.0


class Model(nn.Module, ABC):
    """A classifier with log-probabilities; a generative one has bounds as well.

    Attributes:
        generative: whether it has.
        supervised: names of the networks that labelled examples alone train, where others see all examples.
    """

    generative: bool = False
    supervised: tuple[str, ...] = ()

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space

    def curriculum(self) -> list[tuple[Model, float]]:
        """The models that are trained one after the other, each with its share of the steps; the last is this one."""
        return [(self, 1.0)]

    def build_on(self, x: Tensor) -> None:
        """Take up what was trained before this one's turn in the curriculum; ``x`` is the training set, [N, D]."""

    @abstractmethod
    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(y | x, W) for the weights in use, latents marginalised over ``samples`` draws; [B, C]."""

    @abstractmethod
    def terms(self, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:
        """Terms of the objective by name, one value for each example of the set that they are taken over.

        Every model gives ``classification`` = −log q(y|x), [L]; a generative one ``labelled_bound`` [L] and
        ``unlabelled_bound`` [U]; one whose classifier learns from unlabelled examples its probabilities ``q`` [U, C],
        and ``adversarial`` and ``consistency`` [U] where asked for.
        """


class GenerativeModel(Model):
    """A model of x, with latent variables and bounds on log p(x).

    Attributes:
        layers: sizes of the layers of latents that `represent` puts side by side; empty where there is but one.
        sees_pixels: whether p(x_i | ·) depends on those pixels of x that come before, beside the latents.
    """

    generative = True
    layers: tuple[int, ...] = ()
    sees_pixels: bool = False

    @property
    def classes_in_bounds(self) -> int:
        """How many classes of each example bounds are taken of: M; 1 of a model that does not sum over y."""
        return 1

    @abstractmethod
    def elbo(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """The evidence lower bound on log p(x), averaged over ``samples`` draws; [B]."""

    @abstractmethod
    def log_importance(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log w_s with E[w_s] = p(x), for S independent draws of the latents; [S, B].

        Their `importance_weighted_bound` tightens towards log p(x) as S grows.
        """

    @abstractmethod
    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """Latent means of x, for pictures and as features; [B, Z]."""

    @abstractmethod
    def generate(self, noise: Noise, samples: int) -> Tensor:
        """Parameters of p(x | ·) at ``samples`` independent draws of all that stands above x; [S, outputs].

        With a draw of `Observation.sample` on top they are draws from p(x).
        """

    @abstractmethod
    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | ·) at the latent means of x; [B, outputs]."""

    def prior_sample(self, noise: Noise, samples: int, size: int) -> Tensor:
        """z ~ N(0, I), [S, size]."""
        zero = next(self.parameters()).new_zeros(samples, size)
        return zero + noise.normal(zero.shape)


def is_bayesian(network: str, bayesian: str | list[str]) -> Extent:
    """Which layers of ``network`` the option ``bayesian`` names.

    It is none, all, a network's name, or a list of names; ``<network>.last`` is the network's output layer alone.
    """
    named = [bayesian] if isinstance(bayesian, str) else bayesian
    if "all" in named or network in named:
        return True
    return "last" if f"{network}.last" in named else False


def check_networks(bayesian: str | list[str], networks: tuple[str, ...]) -> None:
    """Refuse a name in ``bayesian`` that is no network of the model, and none or all beside other names.

    Raises:
        ConfigError: with the nearest name, or with all that were given.
    """
    known = ["none", "all", *networks, *(f"{network}.last" for network in networks)]
    named = [bayesian] if isinstance(bayesian, str) else bayesian
    for name in named:
        if name not in known:
            raise ConfigError(
                f"bayesian: unknown network '{name}'{nearest(name, known)}; expected none, all, or among: "
                f"{', '.join(networks)}; or the last layer alone of one, as {networks[0]}.last"
            )
        if name in {"none", "all"} and len(named) > 1:
            raise ConfigError(f"bayesian: expected '{name}' by itself, got {', '.join(named)}")
