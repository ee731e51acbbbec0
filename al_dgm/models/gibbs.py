"""Gibbs sampling of (y, z) given x, for models in which z alone explains x and both explain y.

    y ~ p(y | x, z, W)                                   exactly
    z ~ q(z | x, y), accepted or not                     an independence Metropolis-Hastings step whose target is
                                                         p(z | x, y, W) ∝ p(z) p(x | z) p(y | x, z, W)

Without the second step's acceptance (the released code of seed 000 has none) the chain's stationary distribution is
not the model's posterior: pseudo-Gibbs, whose error is that of q(z | x, y) (cf. Mattei & Frellsen 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from al_dgm.models.mixture import Mixture, inverse_cdf
from al_dgm.nn.noise import Noise
from al_dgm.objectives.densities import normal_log_density
from al_dgm.objectives.latents import sample_gaussian


@dataclass(frozen=True)
class State:
    """Where S chains of each example stand.

    Attributes:
        z: [S, B, Z].
        log_joint: log p(z) p(x | z), [S, B].
        log_label: log p(y | x, z, W), [S, B, C].
    """

    z: Tensor
    log_joint: Tensor
    log_label: Tensor

    def log_weight(self, y: Tensor, q: tuple[Tensor, Tensor]) -> Tensor:
        """log p(z) p(x | z) p(y | x, z, W) − log q(z | x, y) for y [S, B]; [S, B]."""
        log_p = self.log_joint + self.log_label.gather(-1, y[..., None])[..., 0]
        return log_p - normal_log_density(self.z, *q)

    def moved(self, accepted: Tensor, to: State) -> State:
        """``to`` where ``accepted`` [S, B], this elsewhere."""
        wide = accepted[..., None]
        return State(
            torch.where(wide, to.z, self.z),
            torch.where(accepted, to.log_joint, self.log_joint),
            torch.where(wide, to.log_label, self.log_label),
        )


def gibbs(evaluate: Callable[[Tensor], State], proposal: Mixture, noise: Noise, chains: int, sweeps: int) -> Tensor:
    """log of the mean of p(y | x, z_t, W) over the second half of the sweeps, chain by chain; [S, B, C].

    Averaged is the conditional distribution and not its draw (Rao-Blackwell); the first half is burn-in.

    Args:
        evaluate: the state at given z [S, B, Z].
        proposal: q(z | x, y) of all C classes, whose shares start the chains.
        noise: source of the draws.
        chains: S.
        sweeps: how many, at least 2.
    """
    state, kept = evaluate(proposal.sample(noise, chains)), sweeps - sweeps // 2
    log_sum = torch.full_like(state.log_label, -math.inf)
    for number in range(sweeps):
        state = sweep(state, evaluate, proposal, noise)
        if number >= sweeps - kept:
            log_sum = torch.logaddexp(log_sum, state.log_label)
    return log_sum - math.log(kept)


def sweep(state: State, evaluate: Callable[[Tensor], State], proposal: Mixture, noise: Noise) -> State:
    """Draw y, then z."""
    shape = torch.Size([*state.log_joint.shape, 1])
    y = inverse_cdf(state.log_label, noise.uniform(shape)[..., 0])
    q = proposal.component(y)
    proposed = evaluate(sample_gaussian(*q, noise))
    gain = proposed.log_weight(y, q) - state.log_weight(y, q)
    return state.moved(noise.uniform(shape)[..., 0].log() < gain, proposed)
