"""Claim: with an auxiliary variable a Gaussian posterior reaches both modes of a potential, without it only one.

Thesis Eqs. 4.18 and 4.19, figure 4.4 (seed 003), with the signs and indices of Rezende & Mohamed 2015:

    p(z) = e^(−U(z)) / Z,   U(z) = ½ ((‖z‖ − 2) / 0.4)² − log(e^(−½ ((z₁ − 2) / 0.6)²) + e^(−½ ((z₁ + 2) / 0.6)²))

    plain:      log Z ≥ E[−U(z) − log q(z)],                               q(z) Gaussian
    auxiliary:  log Z ≥ E[−U(z) + log p(a|z) − log q(z|a) − log q(a)],     q(a) = N(0, 1), the rest by networks

Each is fitted from several seeds, with U in full from the start, and with U/2 growing to U over the first half of the
steps. Rows: {posterior, phased_in, both_modes, smaller_share, gap, gap_sd, divergence, n}: in how many of n fits each
half-plane z₁ ≷ 0 holds at least a tenth of q(z); the smaller half-plane's mean share; log Z minus the bound and
KL(q(z) ‖ p(z)), in nats, means over fits. log Z, shares and divergence are integrals over grids of z and a. Draws
docs/img/potential.png, of the first seed's phased-in fits.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from common import ROOT, mean_and_sd, parser, report
from torch import Tensor, nn
from toy_figures import density_maps

from al_dgm.errors import one_line_errors
from al_dgm.learning.figures import save
from al_dgm.nn.mlp import MLP
from al_dgm.nn.noise import BatchNoise, NoNoise, generator
from al_dgm.objectives.densities import gaussian, normal_log_density, standard_normal_log_density
from al_dgm.objectives.latents import sample_gaussian
from al_dgm.objectives.schedules import cosine, ramp

STEPS, DRAWS, LEARNING_RATE = 2000, 256, 1e-2
EDGE, CELLS = 4.0, 160  # of the grid that integrates over z
NODES = torch.linspace(-5, 5, 2001)[:, None]  # of the one that integrates over a
START_LOG_VARIANCE, START_SPREAD = -2.0, 3.0  # narrow Gaussians, whose means reach both modes


def potential(z: Tensor) -> Tensor:
    """U(z) for z [..., 2]; [...]."""
    ring = 0.5 * ((z.norm(dim=-1) - 2) / 0.4).square()
    modes = [-0.5 * ((z[..., 0] - centre) / 0.6).square() for centre in (-2, 2)]
    values: Tensor = ring - torch.logaddexp(*modes)
    return values


class Posterior(nn.Module, ABC):
    """A distribution that approximates p(z)."""

    @abstractmethod
    def bound(self, noise: BatchNoise, draws: int, strength: float) -> Tensor:
        """One-sample estimates of the bound for ``strength`` · U, [S]."""

    @abstractmethod
    def log_density(self, z: Tensor) -> Tensor:
        """log q(z) for z [N, 2]; [N]."""


class Plain(Posterior):
    """q(z) = N(μ, diag σ²)."""

    def __init__(self) -> None:
        super().__init__()
        start = [START_SPREAD * torch.randn(2), torch.full((2,), START_LOG_VARIANCE)]
        self.parameters_of_q = nn.Parameter(torch.cat(start))

    def bound(self, noise: BatchNoise, draws: int, strength: float) -> Tensor:
        """−U(z) − log q(z)."""
        q = gaussian(self.parameters_of_q)
        z = sample_gaussian(q[0].expand(draws, 1, 2), q[1], noise)[:, 0]
        return -strength * potential(z) - normal_log_density(z, *q)

    def log_density(self, z: Tensor) -> Tensor:
        """log N(z; μ, diag σ²)."""
        return normal_log_density(z, *gaussian(self.parameters_of_q))


class Auxiliary(Posterior):
    """q(z) = ∫ q(z | a) q(a) da with one number a, and p(a | z)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = MLP([1], [50, 50], 4), MLP([2], [50, 50], 2)
        head: Any = self.encoder.layers[-1]
        with torch.no_grad():
            head.weight[:, :2] *= START_SPREAD
            head.bias[2:] = START_LOG_VARIANCE

    def bound(self, noise: BatchNoise, draws: int, strength: float) -> Tensor:
        """−U(z) + log p(a | z) − log q(z | a) − log q(a)."""
        a = noise.normal(torch.Size([draws, 1, 1]))
        q = gaussian(self.encoder(a, noise=noise))
        z = sample_gaussian(*q, noise)
        log_p_a = normal_log_density(a, *gaussian(self.decoder(z, noise=noise)))
        log_q = standard_normal_log_density(a) + normal_log_density(z, *q)
        return (-strength * potential(z) + log_p_a - log_q)[:, 0]

    def log_density(self, z: Tensor) -> Tensor:
        """log ∫ q(z | a) q(a) da over a grid of a."""
        mean, log_variance = gaussian(self.encoder(NODES, noise=NoNoise()))
        log_share = standard_normal_log_density(NODES).log_softmax(0)
        parts = [(log_share + normal_log_density(p[:, None], mean, log_variance)).logsumexp(-1) for p in z.split(500)]
        return torch.cat(parts)


POSTERIORS: dict[str, type[Posterior]] = {"plain": Plain, "auxiliary": Auxiliary}


def grid() -> Tensor:
    """Centres of the cells, [CELLS², 2], row by row of z₂."""
    centres = (torch.arange(CELLS) + 0.5) * 2 * EDGE / CELLS - EDGE
    return torch.cartesian_prod(centres, centres).flip(-1)


LOG_CELL = 2 * math.log(2 * EDGE / CELLS)


def log_partition() -> float:
    """log Z."""
    return float((-potential(grid())).logsumexp(0) + LOG_CELL)


def fitted(name: str, seed: int, *, phased_in: bool) -> Posterior:
    """Adam on the bound."""
    torch.manual_seed(seed)
    model, noise = POSTERIORS[name](), BatchNoise(generator(seed))
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for step in range(STEPS):
        optimiser.param_groups[0]["lr"] = cosine(step, STEPS, LEARNING_RATE, 0.0)
        optimiser.zero_grad()
        strength = 0.5 + 0.5 * ramp(step, 0, STEPS / 2) if phased_in else 1.0
        (-model.bound(noise, DRAWS, strength).mean()).backward()
        optimiser.step()
    return model.requires_grad_(False)  # noqa: FBT003 - torch's own signature


def measured(model: Posterior) -> dict[str, float]:
    """The smaller share, the bound's gap and the divergence."""
    z, log_z = grid(), log_partition()
    log_q = model.log_density(z)
    q = (log_q + LOG_CELL).exp()
    right = float(q[z[:, 0] > 0].sum() / q.sum())
    return {
        "smaller_share": min(right, 1 - right),
        "gap": log_z - float(model.bound(BatchNoise(generator(1)), 200_000, 1.0).mean()),
        "divergence": float((q * (log_q + potential(z) + log_z)).sum()),
    }


def make_row(name: str, fits: Sequence[dict[str, float]], *, phased_in: bool) -> dict[str, Any]:
    """The row of one posterior, over its seeds."""
    gap, gap_sd = mean_and_sd([fit["gap"] for fit in fits])
    return {
        "posterior": name,
        "phased_in": phased_in,
        "both_modes": sum(fit["smaller_share"] >= 0.1 for fit in fits),
        "smaller_share": mean_and_sd([fit["smaller_share"] for fit in fits])[0],
        "gap": gap,
        "gap_sd": gap_sd,
        "divergence": mean_and_sd([fit["divergence"] for fit in fits])[0],
        "n": len(fits),
    }


def main() -> None:
    """Fit, integrate, draw."""
    options = parser(__doc__)
    options.add_argument("--seeds", type=int, default=10, help="fits of each (default: %(default)s)")
    given = options.parse_args()
    rows, densities = [], {"p(z)": (-potential(grid()) - log_partition()).exp()}
    for name, phased_in in itertools.product(POSTERIORS, (False, True)):
        models = [fitted(name, seed, phased_in=phased_in) for seed in range(given.seeds)]
        rows.append(make_row(name, [measured(model) for model in models], phased_in=phased_in))
        if phased_in:
            densities[f"q(z), {name}"] = models[0].log_density(grid()).exp()
    maps = {title: values.view(CELLS, CELLS).numpy() for title, values in densities.items()}
    save(density_maps(maps, EDGE), ROOT / "docs" / "img" / "potential.png")
    report("potential", rows, given.results, log_partition=log_partition())


if __name__ == "__main__":
    with one_line_errors():
        main()
