"""The objective of one training step: a model's per-example terms, weighted.

With N_l labelled and N_u unlabelled examples, N = N_l + N_u, and means over minibatches of each set,

    sum:   minimise  −(N_l/N) J̄ − (N_u/N) Ū + β C̄  + KL(W)/N      the literal sum over the data, per example
    mean:  minimise  −J̄ − Ū + α C̄ + KL(W)/N,  α = β N/N_l          each set's mean alike (Maaløe's released code)

where J is the labelled bound, U the unlabelled one, C = E_q(a|x)[−log q(y|a,x)] and KL(W) the divergence of the
weights, counted once and divided by the number of examples that the weights explain. In ``sum`` each labelled
term carries α as well: Σ_l α C / N = β C̄.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from al_dgm.models import Model
from al_dgm.nn.bayesian import kl_of_weights
from al_dgm.nn.noise import Noise


@dataclass(frozen=True)
class Weighting:
    """Factors of the objective's terms."""

    labelled: float
    unlabelled: float
    classification: float
    examples: int  # N

    @classmethod
    def of(cls, kind: str, labelled: int, unlabelled: int, classification_weight: float) -> Weighting:
        """The factors of ``sum`` or ``mean``; ``classification_weight`` is β."""
        n = labelled + unlabelled
        if kind == "sum":
            return cls(labelled / n, unlabelled / n, classification_weight, n)
        return cls(1.0, 1.0, classification_weight * n / labelled, n)


@dataclass(frozen=True)
class Minibatch:
    """One step's rows: x_l [B_l, D], y_l [B_l], x_u [B_u, D]."""

    x_labelled: Tensor
    y: Tensor
    x_unlabelled: Tensor


class Objective(nn.Module):
    """The objective as a module, so that data-parallel wrappers can wrap what is differentiated."""

    def __init__(self, model: Model, weighting: Weighting, temperature: float = 1.0) -> None:
        super().__init__()
        self.model = model
        self.weighting = weighting
        self.temperature = temperature

    def forward(
        self, batch: Minibatch, noise: Noise, latent_weight: float, weight_weight: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective in nats per example, a scalar, and its terms' means for the record.

        Args:
            batch: this worker's rows.
            noise: the step's noise.
            latent_weight: warm-up factor on the KL of latents.
            weight_weight: warm-up factor on the KL of weights.
        """
        w = self.weighting
        labelled = means(self.model.labelled_terms(batch.x_labelled, batch.y, noise, latent_weight))
        loss = w.classification * labelled["classification"]
        record = {"classification": labelled["classification"]}
        if "bound" in labelled:
            loss = loss - w.labelled * labelled["bound"]
            record["labelled_bound"] = labelled["bound"]
        if len(batch.x_unlabelled):
            unlabelled = means(self.model.unlabelled_terms(batch.x_unlabelled, noise, latent_weight))
            if "bound" in unlabelled:
                loss = loss - w.unlabelled * unlabelled["bound"]
                record["unlabelled_bound"] = unlabelled["bound"]
        kl = kl_of_weights(self.model)
        if kl:
            record["kl_weights"] = torch.stack(list(kl.values())).sum() / w.examples
            loss = loss + self.temperature * weight_weight * record["kl_weights"]
        return loss, {"objective": loss.detach(), **{name: value.detach() for name, value in record.items()}}


def means(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each term's mean over the minibatch."""
    return {name: values.mean() for name, values in terms.items()}
