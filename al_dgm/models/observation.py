"""Observation models p(x | ·): what a decoder's output means, chosen by the data set.

Each has the same anatomy: ``outputs(features)`` is how many numbers the decoder gives, ``draw`` what the model is
trained on, ``log_density`` its likelihood in nats summed over the features, ``mean`` the expected x, ``sample`` a draw.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from al_dgm.nn.noise import Noise
from al_dgm.objectives import densities
from al_dgm.objectives.latents import sample_gaussian


class Observation(Protocol):
    """p(x | parameters)."""

    def outputs(self, features: int) -> int:
        """How many decoder outputs describe ``features`` observed numbers."""
        ...

    def draw(self, x: Tensor, noise: Noise) -> Tensor:
        """The x of one training step, from the stored x; both [B, D]."""
        ...

    def log_density(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log p(x | parameters), summed over the features; leading dimensions broadcast."""
        ...

    def mean(self, parameters: Tensor) -> Tensor:
        """E[x | parameters], [..., D]."""
        ...

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        """x ~ p(x | parameters), [..., D]."""
        ...


class Bernoulli:
    """Grey values in [0, 1] as probabilities: binarised anew in every step (dynamic binarisation)."""

    def outputs(self, features: int) -> int:
        """One logit per feature."""
        return features

    def draw(self, x: Tensor, noise: Noise) -> Tensor:
        """x_d ~ Bernoulli(stored grey value)."""
        return (noise.uniform(x.shape) < x).to(x.dtype)

    def log_density(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Σ_d log Bernoulli(x_d; sigmoid(logit_d))."""
        return densities.binomial_log_density(x, parameters, trials=1)

    def mean(self, parameters: Tensor) -> Tensor:
        """sigmoid(logits)."""
        return torch.sigmoid(parameters)

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        """x_d ~ Bernoulli(sigmoid(logit_d))."""
        return self.draw(self.mean(parameters), noise)


class Binomial:
    """Grey values that are counts out of ``trials`` (scikit-learn's digits: black pixels of 4 × 4), as proportions."""

    def __init__(self, trials: int) -> None:
        self.trials = trials

    def outputs(self, features: int) -> int:
        """One logit per feature."""
        return features

    def draw(self, x: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - nothing to draw
        """x itself: the counts are the observation."""
        return x

    def log_density(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Σ_d log Binomial(trials x_d; trials, sigmoid(logit_d))."""
        return densities.binomial_log_density(x, parameters, self.trials)

    def mean(self, parameters: Tensor) -> Tensor:
        """sigmoid(logits)."""
        return torch.sigmoid(parameters)

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        """trials x_d ~ Binomial(trials, sigmoid(logit_d))."""
        shape = torch.Size([self.trials, *parameters.shape])
        uniform = noise.uniform(shape).expand(shape)
        return (uniform < torch.sigmoid(parameters)).to(parameters.dtype).mean(0)


class Gaussian:
    """Real values, standardised by the data preparation; mean and log-variance per feature."""

    def outputs(self, features: int) -> int:
        """Mean and log-variance per feature."""
        return 2 * features

    def draw(self, x: Tensor, noise: Noise) -> Tensor:  # noqa: ARG002 - nothing to draw
        """x itself."""
        return x

    def log_density(self, x: Tensor, parameters: Tensor) -> Tensor:
        """log N(x; mean, variance)."""
        return densities.normal_log_density(x, *densities.gaussian(parameters))

    def mean(self, parameters: Tensor) -> Tensor:
        """The mean."""
        return densities.gaussian(parameters)[0]

    def sample(self, parameters: Tensor, noise: Noise) -> Tensor:
        """N(mean, variance)."""
        return sample_gaussian(*densities.gaussian(parameters), noise)


class Quantised(Gaussian):
    """Real values that were rounded to whole steps, such as grey values of 8 bits: a Gaussian of x + u step.

    u is uniform on [−½, ½) and drawn anew in every step of training (Uria, Murray & Larochelle 2013). A density of the
    rounded values themselves grows without bound around each of them; of what they may have been it does not, and

        log P(x) ≥ E_u[log p(x + u step)] + D log step

    is a bound on the log-probability of the rounded values under the density (Theis, van den Oord & Bethge 2016).
    """

    def __init__(self, step: float) -> None:
        self.step = step

    def draw(self, x: Tensor, noise: Noise) -> Tensor:
        """Adds u step."""
        return x + self.step * (noise.uniform(x.shape) - 0.5)


def make_observation(kind: str, trials: int = 1, step: float = 0.0) -> Observation:
    """The observation model that dataset.json names; ``step`` is that of quantised values, in model space."""
    made: dict[str, Observation] = {
        "bernoulli": Bernoulli(),
        "binomial": Binomial(trials),
        "gaussian": Gaussian(),
        "quantised": Quantised(step),
    }
    return made[kind]
