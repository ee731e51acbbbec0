"""Scores: one number per candidate, larger is better. Pure functions of the evidence that they declare.

Dimensions: N candidates, K weight samples, C classes; entropies in nats.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import Tensor

from al_dgm.acquisition.evidence import Evidence, Needs


class Score(Protocol):
    """An acquisition function's value.

    Attributes:
        needs: what has to be computed before it can be.
        nonnegative: whether no value can be below 0, as some selectors need.
    """

    needs: ClassVar[Needs]
    nonnegative: ClassVar[bool]

    def __call__(self, evidence: Evidence) -> Tensor:
        """[N], float64, larger is better."""
        ...


class Random:
    """Every candidate the same: the choice is the selector's tie-breaking, and no inference is run."""

    needs: ClassVar[Needs] = Needs.NOTHING
    nonnegative: ClassVar[bool] = True

    def __call__(self, evidence: Evidence) -> Tensor:
        """0, [N]."""
        return torch.zeros(evidence.examples, dtype=torch.float64)


class Entropy:
    """Predictive entropy H[(1/K) Σ_k p_k]: total uncertainty (Gordon & Hernández-Lobato, seed 000)."""

    needs: ClassVar[Needs] = Needs.MOMENTS
    nonnegative: ClassVar[bool] = True

    def __call__(self, evidence: Evidence) -> Tensor:
        """H[p̄] in [0, log C], [N]."""
        entropy: Tensor = torch.special.entr(evidence.require_moments().mean_p).sum(-1)
        return entropy


class Margin:
    """Minus the gap between the two most probable classes of the predictive distribution (Scheffer et al. 2001)."""

    needs: ClassVar[Needs] = Needs.MOMENTS
    nonnegative: ClassVar[bool] = False

    def __call__(self, evidence: Evidence) -> Tensor:
        """p̄₍₂₎ − p̄₍₁₎ in [−1, 0], [N]."""
        top = evidence.require_moments().mean_p.topk(2, dim=-1).values
        return top[:, 1] - top[:, 0]


class BALD:
    """Mutual information of label and weights, I[y; W | x] (Houlsby et al. 2011; Gal et al. 2017).

        BALD(x) = H[(1/K) Σ_k p_k] − (1/K) Σ_k H[p_k]    in [0, min(log C, log K)]

    Exactly 0 · log 0 = 0, so that a model without a distribution over weights scores 0 and not rounding noise.
    """

    needs: ClassVar[Needs] = Needs.DISAGREEMENT
    nonnegative: ClassVar[bool] = True

    def __call__(self, evidence: Evidence) -> Tensor:
        """I[y; W | x], [N]; a negative value within rounding is 0."""
        moments = evidence.require_moments()
        information: Tensor = torch.special.entr(moments.mean_p).sum(-1) - moments.mean_entropy
        return torch.where(information.abs() < ROUNDING, torch.zeros_like(information), information)


class ELBO:
    """Lowest expected ELBO first: the examples that the model explains worst (seed 003, condition monitoring).

    An outlier detector rather than a measure of what a label would teach; expect it below random on noisy pools.
    """

    needs: ClassVar[Needs] = Needs.BOUND
    nonnegative: ClassVar[bool] = False

    def __call__(self, evidence: Evidence) -> Tensor:
        """−U(x), [N]."""
        return -evidence.require_bound().to(torch.float64)


ROUNDING = 1e-12  # nats; float64 sums of some hundred probabilities err by less
