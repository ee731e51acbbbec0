"""What an acquisition function may look at, and what it must declare that it needs.

Weight samples stream: for each draw W_k from q(W), add log p(y | x, W_k) of a minibatch of the pool and forget
it. Memory is O(N C) whatever the number of samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor


class Needs(Enum):
    """What has to be computed before a score can be; `NOTHING` runs no inference at all.

    `DISAGREEMENT` is the moments, of weight samples that differ: a model whose samples all predict alike is refused.
    """

    NOTHING = "nothing"
    MOMENTS = "moments"
    DISAGREEMENT = "disagreement"
    BOUND = "bound"


@dataclass
class Moments:
    """Sums over K weight samples, in float64.

    Attributes:
        sum_p: Σ_k p(y | x, W_k), [N, C].
        sum_entropy: Σ_k H[p(y | x, W_k)] in nats, [N].
        samples: K.
    """

    sum_p: Tensor
    sum_entropy: Tensor
    samples: int = 0

    @classmethod
    def zeros(cls, examples: int, classes: int) -> Moments:
        """No samples yet."""
        double = torch.float64
        return cls(torch.zeros(examples, classes, dtype=double), torch.zeros(examples, dtype=double))

    @classmethod
    def concatenated(cls, parts: Sequence[Moments]) -> Moments:
        """The moments of all examples from those of their minibatches, over equally many samples."""
        sum_p, sum_entropy = (torch.cat([getattr(part, name) for part in parts]) for name in ("sum_p", "sum_entropy"))
        return cls(sum_p, sum_entropy, parts[0].samples)

    def add(self, log_p: Tensor) -> None:
        """Add one weight sample's log-probabilities, [N, C]."""
        p = log_p.detach().to("cpu", torch.float64).exp()
        p /= p.sum(-1, keepdim=True)  # float32 log-probabilities sum to one only up to 1e-7
        self.sum_p += p
        self.sum_entropy += torch.special.entr(p).sum(-1)
        self.samples += 1

    @property
    def mean_p(self) -> Tensor:
        """The predictive distribution p(y | x) = (1/K) Σ_k p(y | x, W_k), [N, C]."""
        return self.sum_p / self.samples

    @property
    def mean_entropy(self) -> Tensor:
        """(1/K) Σ_k H[p(y | x, W_k)], [N]."""
        return self.sum_entropy / self.samples


@dataclass
class Evidence:
    """What was computed for N candidates: as much of it as the score declared, the rest None."""

    examples: int
    moments: Moments | None = None
    bound: Tensor | None = None  # expected ELBO in nats, [N]

    def require_moments(self) -> Moments:
        """The moments, which a score that declares `Needs.MOMENTS` always finds."""
        if self.moments is None:
            raise RuntimeError("the score needs moments but declared neither Needs.MOMENTS nor Needs.DISAGREEMENT")
        return self.moments

    def require_bound(self) -> Tensor:
        """The expected ELBO, which a score that declares `Needs.BOUND` always finds."""
        if self.bound is None:
            raise RuntimeError("the score needs the bound but did not declare Needs.BOUND")
        return self.bound
