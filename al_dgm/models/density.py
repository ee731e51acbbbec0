"""What the unsupervised models share: bounds on log p(x), and a classifier that reads what they infer.

The generative model never sees y. A classifier of its latent means is trained beside it on the labelled examples, and
its gradient stops at the means: features first, a classifier on them, which is M1 of Kingma et al. 2014 (seed 002).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.errors import ConfigError
from al_dgm.models.base import Factor, GenerativeModel, Minibatch, Settings, Space, check_networks, is_bayesian
from al_dgm.models.images import as_input, as_output
from al_dgm.nn.batch_norm import weighted_rows
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import JoinedNoise, Noise, NoNoise
from al_dgm.nn.pictures import Pyramid
from al_dgm.objectives.bounds import importance_weighted_bound
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import sample_gaussian


@dataclass(frozen=True)
class Sizes:
    """Of a hierarchy of L layers of latents; see `VAE` for what each means."""

    hidden: list[int]
    latents: list[int]
    depth: int
    batch_norm: bool
    importance_samples: int
    monte_carlo_samples: int = 1
    convolutions: Sequence[int] = ()


@dataclass(frozen=True)
class Inference:
    """One pass over x.

    Attributes:
        bound: one-sample estimates of the bound on log p(x), [S, B].
        means: latent means of the first of the S draws, layer beside layer, [B, Z].
    """

    bound: Tensor
    means: Tensor


class DensityModel(GenerativeModel):
    """p(x) = ∫ p(x, z_1, …, z_L) dz, with p(y | means of z) from a classifier of its own.

    A subclass whose generative model is p(x | z_1) p(z_1 | z_2) … p(z_L) keeps its networks in that order in
    ``decoder``.
    """

    decoder: nn.ModuleList

    networks: ClassVar[tuple[str, ...]] = ("classifier", "encoder", "decoder")
    supervised = ("classifier",)

    def __init__(self, space: Space, sizes: Sizes, classifier_hidden: list[int], bayesian: str | list[str]) -> None:
        super().__init__(space)
        check_networks(bayesian, self.networks)
        if not sizes.latents or len(sizes.hidden) != len(sizes.latents):
            raise ConfigError(
                f"hidden: expected as many sizes as there are latents, {len(sizes.latents)}, got {len(sizes.hidden)}"
            )
        if sizes.importance_samples > 1 and is_bayesian("decoder", bayesian):
            # In training every draw of z has a draw of W beside it, and log E_q(W)[p(x|W)] − KL(W)/N is no bound.
            raise ConfigError(
                f"importance_samples: expected 1 where the decoder has Bayesian weights, got {sizes.importance_samples}"
            )
        self.sizes = sizes
        self.layers = tuple(sizes.latents)
        self.x = as_input(space, sizes.convolutions)
        self.importance_samples = sizes.importance_samples
        self._bayesian = bayesian
        self.classifier = MLP(
            [sum(sizes.latents)], classifier_hidden, space.classes, bayesian=is_bayesian("classifier", bayesian)
        )

    def network(self, name: str, inputs: Sequence[int | Pyramid], level: int, outputs: int) -> MLP:
        """One of ``networks`` at ``level``, whose output describes Gaussian latents."""
        return self._mlp(name, inputs, level, outputs, HEAD_INIT_SD)

    def decoder_of_x(self, inputs: list[int]) -> MLP:
        """The network of p(x | ·)."""
        return self._mlp("decoder", inputs, 0, as_output(self.space, self.sizes.convolutions), None)

    def _mlp(
        self,
        name: str,
        inputs: Sequence[int | Pyramid],
        level: int,
        outputs: int | Pyramid,
        head_init_sd: float | None,
    ) -> MLP:
        return MLP(
            inputs,
            [self.sizes.hidden[level]] * self.sizes.depth,
            outputs,
            bayesian=is_bayesian(name, self._bayesian),
            head_init_sd=head_init_sd,
            batch_norm=self.sizes.batch_norm,
        )

    @abstractmethod
    def infer(
        self, x: Tensor, noise: Noise, samples: int, *, latents: Factor = 1.0, closed_form: bool = True
    ) -> Inference:
        """Bounds on log p(x) for x [B, D].

        Args:
            x: as observed: binarised, for a Bernoulli model.
            noise: source of the latent draws.
            samples: S.
            latents: factor on the divergence of the latents (warm-up); with 1 it is a bound.
            closed_form: take divergences in closed form where that is a bound; otherwise all of log q − log p is of the
                draw, which makes the result a log importance weight.
        """

    def elbo(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """E_q[log p(x, z) − log q(z | x)], [B]."""
        return self.infer(x, noise, samples).bound.mean(0)

    def log_importance(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log p(x, z_s) − log q(z_s | x), [S, B]."""
        return self.infer(x, noise, samples, closed_form=False).bound

    def represent(self, x: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - nothing is drawn
        """Means of every layer's latents, each given the means of the layers before it, side by side, [B, Z]."""
        return self.infer(x, NoNoise(), 1).means

    def generate(self, noise: Noise, samples: int) -> Tensor:
        """Parameters of p(x | z_1) at draws of z_1, [S, outputs]."""
        output: Tensor = self.decoder[0](self.from_the_top(noise, samples), noise=noise)
        return output

    def from_the_top(self, noise: Noise, samples: int) -> Tensor:
        """z_1, with z_L ~ N(0, I) and z_l ~ p(z_l | z_{l+1}) down to it; [S, Z_1]."""
        _, *priors = self.decoder
        z = self.prior_sample(noise, samples, self.layers[-1])
        for prior in reversed(priors):
            z = sample_gaussian(*gaussian(prior(z, noise=noise)), noise)
        return z

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | z_1) at the mean of z_1, which is the first layer of `represent`; [B, outputs]."""
        output: Tensor = self.decoder[0](self.represent(x, noise)[:, : self.layers[0]], noise=noise)
        return output

    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:  # noqa: ARG002 - nothing is averaged
        """log p(y | means of z), [B, C]."""
        return self._log_classifier(self.represent(x, noise), noise)

    def terms(self, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:
        """Bounds on log p(x) of both sets and −log p(y | means).

        A bound is the mean of M = ``monte_carlo_samples`` estimates, each by K = ``importance_samples`` draws.

        Normalised layers take their statistics of the unlabelled examples, and of all where there is no other. The
        means that the classifier learns from are given draws of the layers before; it predicts from means given means.
        """
        unlabelled, _ = batch.sizes
        noise = JoinedNoise(batch.unlabelled_noise, batch.labelled_noise, batch.sizes)
        x = self.space.observation.draw(torch.cat([batch.x_unlabelled, batch.x_labelled]), noise)
        K, M = self.importance_samples, self.sizes.monte_carlo_samples
        with weighted_rows(self, batch.counted(x)):
            found = self.infer(x, noise, K * M, latents=settings.latents, closed_form=K == 1)
        bound = importance_weighted_bound(found.bound.unflatten(0, (K, M))).mean(0)
        log_p = self._log_classifier(found.means[unlabelled:].detach(), batch.labelled_noise)
        result = {"labelled_bound": bound[unlabelled:], "classification": F.nll_loss(log_p, batch.y, reduction="none")}
        return result | ({"unlabelled_bound": bound[:unlabelled]} if unlabelled else {})

    def _log_classifier(self, means: Tensor, noise: Noise) -> Tensor:
        return F.log_softmax(self.classifier(means, noise=noise), dim=-1)
