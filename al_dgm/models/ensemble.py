"""Deep ensembles: Lakshminarayanan, Pritzel & Blundell 2017, "Simple and scalable predictive uncertainty estimation".

n members of one architecture, each with initial weights, minibatches and noise of its own. As a distribution over
weights it is the mixture of what its members have, points or mean-field Gaussians:

    q(W) = (1/n) Σ_m q_m(W)          p(y | x) = (1/n) Σ_m p_m(y | x)          p(x) = (1/n) Σ_m p_m(x)

A weight sample is one of a single member (`al_dgm.learning.predict`). Weights of different members are never averaged:
their hidden units do not correspond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from al_dgm.models.base import GenerativeModel, Minibatch, Model, Settings
from al_dgm.nn.noise import CommonDraws, Noise
from al_dgm.objectives.bounds import log_mean_exp


class Ensemble(Model):
    """The mixture of ``members``, models of one class and size; `al_dgm.learning.ensemble_fit` trains them."""

    def __init__(self, members: Sequence[Model]) -> None:
        super().__init__(members[0].space)
        self.members = nn.ModuleList(members)

    def curriculum(self) -> list[tuple[Model, float]]:
        """The members' stages, each an ensemble of what they train in it."""
        stages = zip(*(member.curriculum() for member in members_of(self)), strict=True)
        return [(ensemble([part for part, _ in stage]), stage[0][1]) for stage in stages]

    def build_on(self, x: Tensor) -> None:
        """Each member on what it has trained itself."""
        for member in members_of(self):
            member.build_on(x)

    def log_predictive(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log (1/n) Σ_m p_m(y | x), [B, C]."""
        return log_mean_exp(self._each(noise, lambda member, own: member.log_predictive(x, own, samples)), dim=0)

    def terms(self, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:
        """Means over the members, should all of them see the same minibatch."""
        found = [member.terms(batch, settings) for member in members_of(self)]
        return {name: torch.stack([terms[name] for terms in found]).mean(0) for name in found[0]}

    def _each(self, noise: Noise, value: Callable[[Any, Noise], Tensor]) -> Tensor:
        """``value`` of every member, all on the same draws, [n, ...]."""
        common = CommonDraws(noise)
        return torch.stack([value(member, common.again()) for member in self.members])


class GenerativeEnsemble(Ensemble, GenerativeModel):
    """An ensemble of models of x."""

    def elbo(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """(1/n) Σ_m U_m(x) ≤ (1/n) Σ_m log p_m(x) ≤ log p(x), [B]."""
        return self._each(noise, lambda member, own: member.elbo(x, own, samples)).mean(0)

    def log_importance(self, x: Tensor, noise: Noise, samples: int) -> Tensor:
        """log (1/n) Σ_m w_ms, whose exponential has the expectation p(x), [S, B]."""
        return log_mean_exp(self._each(noise, lambda member, own: member.log_importance(x, own, samples)), dim=0)

    def represent(self, x: Tensor, noise: Noise) -> Tensor:
        """The members' latent means side by side, [B, n Z]: each has a space of its own."""
        return torch.cat(list(self._each(noise, lambda member, own: member.represent(x, own))), dim=-1)

    def generate(self, noise: Noise, samples: int) -> Tensor:
        """Parameters of p(x | ·), [S, outputs]: draw s is one of member s mod n, so that x is one of the mixture."""
        drawn = self._each(noise, lambda member, own: member.generate(own, samples))
        s = torch.arange(samples, device=drawn.device)
        return drawn[s % len(drawn), s]

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Those of the first member, [B, outputs]: parameters of different members have no mean that is one."""
        parameters: Tensor = members_of(self)[0].reconstruct(x, noise)
        return parameters


def ensemble(members: Sequence[Model]) -> Ensemble:
    """Of generative members a generative one."""
    return GenerativeEnsemble(members) if members[0].generative else Ensemble(members)


def members_of(model: Model) -> list[Any]:
    """The members of an ensemble; any other model is its own only one."""
    return list(model.members) if isinstance(model, Ensemble) else [model]
