"""q(z | x) = Σ_y q(y | x) q(z | x, y): Gaussians as a proposal of latents whose label is unknown."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import normal_log_density


@dataclass(frozen=True)
class Mixture:
    """M Gaussian components for each of B examples.

    Attributes:
        log_shares: log q(y | x), [B, M].
        mean: of q(z | x, y), [B, M, Z].
        log_variance: likewise.
    """

    log_shares: Tensor
    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Noise, samples: int) -> Tensor:
        """Z + 1 normals for each draw, of which the first chooses the component; [S, B, Z].

        One point of a sequence that fills the space (`CommonNoise`) then fills components and latents jointly.
        """
        examples, _, dimensions = self.mean.shape
        drawn = noise.normal(torch.Size([samples, examples, dimensions + 1])).expand(samples, examples, -1)
        chosen = inverse_cdf(self.log_shares, torch.special.ndtr(drawn[..., 0]))
        mean, log_variance = self.component(chosen)
        return mean + torch.exp(0.5 * log_variance) * drawn[..., 1:]

    def component(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of q(z | x, y) for positions y [S, B] among the components; [S, B, Z]."""
        index = y[..., None, None].expand(*y.shape, 1, self.mean.shape[-1])
        mean, log_variance = (
            of_all.expand(len(y), *of_all.shape).gather(2, index)[:, :, 0] for of_all in (self.mean, self.log_variance)
        )
        return mean, log_variance

    def log_density(self, z: Tensor) -> Tensor:
        """log Σ_y q(y | x) q(z | x, y) for z [S, B, Z]; [S, B]."""
        of_components = normal_log_density(z[:, :, None], self.mean, self.log_variance)
        return (self.log_shares + of_components).logsumexp(-1)


def inverse_cdf(log_p: Tensor, u: Tensor) -> Tensor:
    """The category at quantile u [...] of log-probabilities [..., M]; leading dimensions broadcast."""
    edges = log_p.exp().cumsum(-1)[..., :-1]
    return (u[..., None] > edges).sum(-1)
