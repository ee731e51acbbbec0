"""Restarts: of several fits of one model, the one whose bounds are best is kept.

With few labels a fit may give a cluster another class's name, and be certain of it; without a holdout nobody would
know. But such a model mostly explains the examples less well, by the part of the objective that is a bound on the
log-evidence,

    (1/N) [Σ_l J(x, y) + Σ_u U(x)],   N = N_l + N_u,

tempered by the model's ``likelihood_weight``, as in training. So restarts are here what they are to EM and to k-means;
`docs/results.md` has how often they choose well.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from al_dgm.config import TrainingParams
from al_dgm.learning.batches import Feed, TrainingData, nearest
from al_dgm.learning.running import explained
from al_dgm.models import Model
from al_dgm.models.base import Settings
from al_dgm.models.ensemble import ensemble
from al_dgm.nn.bayesian import mean_weights


def best_fits(fits: Sequence[Model], keep: int, data: TrainingData, recipe: TrainingParams, seed: int) -> Model:
    """The ``keep`` ones with the best bounds, in their order: as an ensemble, or a single one by itself."""
    bounds = torch.tensor([mean_bound(model, data, recipe, seed) for model in fits])
    kept = [fits[m] for m in sorted(bounds.topk(keep).indices.tolist())]
    return kept[0] if keep == 1 else ensemble(kept)


@torch.no_grad()
def mean_bound(model: Model, data: TrainingData, recipe: TrainingParams, seed: int) -> float:
    """The mean bound of the training set in nats per example, by one pass over it at the mean weights.

    Equal seeds give equal minibatches and noise, so that fits differ in nothing else.
    """
    sizes = explained(model, data, recipe)
    none = nearest(data.x_labelled, data.x_unlabelled, 0)
    feed = Feed(data, sizes, recipe, seed, (0, 1), none)
    sums = dict.fromkeys(("labelled_bound", "unlabelled_bound"), 0.0)
    with mean_weights(model):
        for step in range(feed.steps_in_a_pass):
            terms = model.terms(feed.minibatch(step), Settings())
            for name in sums:
                sums[name] += terms[name].double().mean().item() if name in terms and len(terms[name]) else 0.0
    of_labelled, of_unlabelled = (value / feed.steps_in_a_pass for value in sums.values())
    return (sizes[0] * of_labelled + sizes[1] * of_unlabelled) / sum(sizes)
