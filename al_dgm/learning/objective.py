"""The objective of one training step: a model's per-example terms, weighted.

With N_l labelled and N_u unlabelled examples, N = N_l + N_u, and means over minibatches of each set,

    sum:   minimise  −(N_l/N) J̄ − (N_u/N) Ū + β C̄  + T KL(W)/N    the literal sum over the data, per example
    mean:  minimise  −J̄ − Ū + α C̄ + T KL(W)/N,  α = β N/N_l        each set's mean alike (Maaløe's released code)

where J is the labelled bound, U the unlabelled one, C = E_q(a|x)[−log q(y|a,x)] and KL(W) the divergence of the
weights, counted once and divided by the number of examples that the weights explain, at temperature T: N, or N_l of the
networks that see labelled examples alone (`Model.supervised`). In ``sum`` each labelled term carries α as well:
Σ_l α C / N = β C̄. Three regularisers of q(y|x) on unlabelled x may be added:

    adversarial_weight · mean KL(q(y|x) ‖ q(y|x + r_adv))       the classifier is smooth where the data are
    balance_weight · KL(mean q(y|x) ‖ p(y))                     it uses every class as often as the prior says
    consistency_weight · mean KL(q_τ(y|x) ‖ q(y|x, noise))      it says the same under noise (``corruption`` of models),
                                                                or the same more surely: q_τ ∝ q(y|x)^(1/τ), where τ is
                                                                ``consistency_temperature``

The first and the last hold the classifier to what it says anyway, and are phased in (``smoothing_warmup``): before the
labels are learnt, what is smoothest and most consistent may be anything but the classes.

What the few labels say of a class at first must not be an accident of theirs either: in the sharper clusters of later
steps, a labelled example on the wrong side stays an exception of which the rest of its cluster learns nothing. So until
ω = 1 a label is `Feed`'s to spread: it comes with its own example or with one of its nearest unlabelled neighbours
(``label_neighbours``), as label spreading (Zhou et al., 2004) has neighbours share labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from al_dgm.config import TrainingParams
from al_dgm.models import Model
from al_dgm.models.base import Factor, Minibatch, Settings
from al_dgm.nn.bayesian import kl_of_weights

Examples = tuple[Factor, Factor]  # N_l, N_u


@dataclass(frozen=True)
class Weighting:
    """Factors of the objective's terms."""

    labelled: Factor
    unlabelled: Factor
    classification: Factor

    @classmethod
    def of(cls, kind: str, labelled: Factor, unlabelled: Factor, classification_weight: float) -> Weighting:
        """The factors of ``sum`` or ``mean``; ``classification_weight`` is β."""
        n = labelled + unlabelled
        if kind == "sum":
            return cls(labelled / n, unlabelled / n, classification_weight)
        return cls(1.0, 1.0, classification_weight * n / at_least_one(labelled))


@dataclass(frozen=True)
class Phase:
    """Where the warm-ups stand: factors in [0, 1].

    Attributes:
        latents: on the KL of the latents.
        weights: on the KL of the weights.
        responsibility: ω, see models.
        smoothing: on the adversarial and the consistency term.
    """

    latents: Factor = 1.0
    weights: Factor = 1.0
    responsibility: Factor = 1.0
    smoothing: Factor = 1.0


def at_least_one(examples: Factor) -> Factor:
    """To divide by, where there may be none."""
    return examples.clamp_min(1) if isinstance(examples, Tensor) else max(examples, 1)


def kl_per_example(model: Model, labelled: Factor, unlabelled: Factor) -> dict[str, Tensor]:
    """Layer name -> KL(q(W) ‖ p(W)) in nats, divided by the number of examples that its weights explain."""
    examples = dict.fromkeys(model.supervised, labelled)
    return {
        name: kl / at_least_one(examples.get(name.split(".")[0], labelled + unlabelled))
        for name, kl in kl_of_weights(model).items()
    }


def mean_of(values: Tensor) -> Tensor:
    """Mean over a set's examples; 0 of an empty one, so that its networks still take part, as workers require."""
    return values.mean() if len(values) else values.sum()


def own(values: Tensor) -> Tensor:
    """The mean over workers where there is one."""
    return values


class Objective(nn.Module):
    """The objective as a module, so that data-parallel wrappers can wrap what is differentiated.

    Args:
        model: whose terms are weighted.
        recipe: the ``training`` section of params.yaml.
        mean: differentiable mean over the workers; identity for one.
    """

    def __init__(self, model: Model, recipe: TrainingParams, mean: Callable[[Tensor], Tensor] = own) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self._mean = mean

    def forward(self, batch: Minibatch, phase: Phase, examples: Examples) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective in nats per example, a scalar, and its terms' means for the record.

        ``examples``, (N_l, N_u), is asked for anew in every step so that a compiled program may serve all rounds.
        """
        radius = self.recipe.adversarial_radius if self.recipe.adversarial_weight else 0.0
        temperature = self.recipe.consistency_temperature
        terms = self.model.terms(batch, Settings(phase.latents, phase.responsibility, radius, temperature))
        record = {name: mean_of(values) for name, values in terms.items() if name != "q"}
        if "q" in terms and self.recipe.balance_weight:
            record["imbalance"] = self._imbalance(terms["q"])
        kl = kl_per_example(self.model, *examples)
        if kl:
            record["kl_weights"] = torch.stack(list(kl.values())).sum()
        loss = self._weighted(record, phase, examples)
        shown = [name for name in record if name not in terms or len(terms[name])]
        return loss, {"objective": loss.detach(), **{name: record[name].detach() for name in shown}}

    def _weighted(self, record: dict[str, Tensor], phase: Phase, examples: Examples) -> Tensor:
        """Σ factor · term, over the terms that there are."""
        weighting = Weighting.of(self.recipe.weighting, *examples, self.recipe.classification_weight)
        factors = {
            "labelled_bound": -weighting.labelled,
            "unlabelled_bound": -weighting.unlabelled,
            "classification": weighting.classification,
            "adversarial": self.recipe.adversarial_weight * phase.smoothing,
            "consistency": self.recipe.consistency_weight * phase.smoothing,
            "imbalance": self.recipe.balance_weight,
            "kl_weights": self.recipe.temperature * phase.weights,
        }
        return torch.stack([factors[name] * value for name, value in record.items()]).sum()

    def _imbalance(self, q: Tensor) -> Tensor:
        """KL(mean q(y|x) ‖ uniform), of the minibatch of all workers."""
        used = self._mean(q.mean(0)).clamp_min(1e-30)  # at 0 the entropy has no derivative
        entropy: Tensor = torch.special.entr(used).sum()
        return math.log(len(used)) - entropy
