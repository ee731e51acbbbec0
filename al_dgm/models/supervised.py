"""Supervised baselines: they see the labelled examples only, and give no bound."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.base import Minibatch, Model, Settings, Size, Space
from al_dgm.models.images import Channels, as_input
from al_dgm.nn.linear import Extent
from al_dgm.nn.mlp import MLP
from al_dgm.nn.noise import Noise


class Classifier(Model):
    """p(y | x, W) = softmax of a multi-layer perceptron; minimises −log p(y | x, W)."""

    def __init__(
        self, space: Space, hidden: Sequence[int], *, convolutions: Sequence[int] = (), bayesian: Extent
    ) -> None:
        super().__init__(space)
        self.classifier = MLP([as_input(space, convolutions)], hidden, space.classes, bayesian=bayesian)

    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:  # noqa: ARG002 - no latents
        """log p(y | x, W), [B, C]."""
        return F.log_softmax(self.classifier(self.space.network_input(x), noise=noise), dim=-1)

    def terms(self, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:  # noqa: ARG002 - nothing to phase in
        """−log p(y | x), [L]."""
        log_p = self.log_predictive(batch.x_labelled, batch.labelled_noise, samples=1)
        return {"classification": F.nll_loss(log_p, batch.y, reduction="none")}


def mlp(
    space: Space,
    hidden: list[Size] = [128],  # noqa: B006 - a schema's default, never mutated
    convolutions: Channels = [],  # noqa: B006
    bayesian: Extent = True,  # noqa: FBT002 - an option in params.yaml
) -> Classifier:
    """A multi-layer perceptron, Bayesian or not or in its last layer alone, that may read images by convolutions."""
    return Classifier(space, hidden, convolutions=convolutions, bayesian=bayesian)


def logistic(space: Space, bayesian: bool = False) -> Classifier:  # noqa: FBT001, FBT002 - an option in params.yaml
    """Multinomial logistic regression."""
    return Classifier(space, [], bayesian=bayesian)
