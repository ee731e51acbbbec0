"""How well a model explains x that it was not trained on: bounds on log p(x) by many importance samples.

    ELBO ≤ L_K(x) = E[log (1/K) Σ_k w_k] ≤ log p(x),   w_k = p(x, z_k) / q(z_k | x)        (Burda et al. 2016)

The literature reports the mean of L_5000 over the test set. Of Bernoulli data that is binarised: anew in every step of
training, and once, by a fixed seed, for the test, so that every model is measured on the same x. Weights that carry a
distribution are at their mean. The samples stream: what is kept of them is log Σ w.

K samples of n of the N examples suffice for a close estimate, since the ELBO of all is cheap and what L_K gains over
it scatters far less than either: the mean of L_K is estimated by

    mean_N(ELBO) + mean_n(L_K − ELBO),    variance s²(L_K) / N + (1/n − 1/N) s²(L_K − ELBO)

with the n spread evenly over the N.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from al_dgm.models import DeepGenerativeModel, GenerativeModel
from al_dgm.models.ensemble import members_of
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.noise import BatchNoise, SampleNoise, generator
from al_dgm.progress import progress_bar
from al_dgm.seeding import integer_seed

EXAMPLES = 100  # at a time; their noise has a seed of its own, so another number would be another draw of it
ROWS = 5_000  # examples x samples x classes at a time, for the memory (FAME keeps 0.3 MB of each); changes no result
ELBO_SAMPLES = 100  # of a mean over examples too, which scatter far more


@dataclass(frozen=True)
class LogLikelihood:
    """Bounds on log p(x) in nats, float64.

    Attributes:
        elbo: the evidence lower bound, as the model defines it, of N examples.
        importance_weighted: L_K of n of them.
        weighted: which n, as indices.
        samples: K.
    """

    elbo: Tensor
    importance_weighted: Tensor
    weighted: Tensor
    samples: int

    def summary(self) -> dict[str, float]:
        """The means over the N examples, each with its standard error."""
        elbo, gain = self.elbo.mean().item(), self.importance_weighted - self.elbo[self.weighted]
        n, N = len(gain), len(self.elbo)
        left_out = (1 - n / N) * standard_error(gain) ** 2 if n < N else 0.0
        sampled = n / N * standard_error(self.importance_weighted) ** 2
        return {
            "elbo": elbo,
            "elbo_error": standard_error(self.elbo),
            "importance_weighted": elbo + gain.mean().item(),
            "importance_weighted_error": math.sqrt(sampled + left_out),
            "importance_samples": self.samples,
            "weighted_examples": n,
            "examples": N,
        }


def standard_error(values: Tensor) -> float:
    """Of the mean of independent values [N]; NaN of a single one."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def binarised_once(model: GenerativeModel, x: Tensor) -> Tensor:
    """x [N, D] as the model observes it: of data with noise one draw, always the same; other data as they are."""
    return model.space.observation.draw(x, BatchNoise(generator(integer_seed(0, "binarised test set"))))


@torch.no_grad()
def log_likelihood(
    model: GenerativeModel, x: Tensor, seed: int, samples: int, weighted: int | None = None, rows: int = ROWS
) -> LogLikelihood:
    """The bounds for x [N, D] in model space.

    Args:
        model: on the device to compute on.
        x: grey values, of Bernoulli data; on the CPU.
        seed: of the latent draws, which are independent for each example and each sample.
        samples: K.
        weighted: n, how many of the examples get K samples; None for all.
        rows: how much at a time.
    """
    device = next(model.parameters()).device
    classes = model.space.classes if isinstance(members_of(model)[0], DeepGenerativeModel) else 1
    at_a_time = max(1, rows // (EXAMPLES * classes))
    x, chosen = binarised_once(model, x), _spread(len(x), weighted)

    def of_parts(bound: Callable[[GenerativeModel, Tensor, int, int, int], Tensor], x: Tensor, samples: int) -> Tensor:
        found = []
        for number, part in enumerate(x.split(EXAMPLES)):
            found.append(bound(model, part.to(device), integer_seed(seed, "density", number), samples, at_a_time).cpu())
            bar.update(samples * len(part))
        return torch.cat(found)

    few = min(samples, ELBO_SAMPLES)
    with mean_weights(model), progress_bar(len(x) * few + len(chosen) * samples, "log-likelihood", delay=5.0) as bar:
        return LogLikelihood(
            of_parts(_elbo, x, few), of_parts(_importance_weighted, x[chosen], samples), chosen, samples
        )


def _spread(examples: int, wanted: int | None) -> Tensor:
    """So many indices, all where ``wanted`` is None or more than there are, at even distances."""
    count = examples if wanted is None else min(wanted, examples)
    return torch.arange(count) * examples // count


def _elbo(model: GenerativeModel, x: Tensor, seed: int, samples: int, at_a_time: int) -> Tensor:
    """Mean over the samples, [B]."""
    chunks = _chunks(samples, at_a_time)
    sums = [model.elbo(x, SampleNoise(seed, chunk, x.device), len(chunk)).double() * len(chunk) for chunk in chunks]
    return torch.stack(sums).sum(0) / samples


def _importance_weighted(model: GenerativeModel, x: Tensor, seed: int, samples: int, at_a_time: int) -> Tensor:
    """log Σ w − log K, [B]; Σ w accumulates as its logarithm."""
    total = x.new_full((len(x),), -math.inf, dtype=torch.float64)
    for chunk in _chunks(samples, at_a_time):
        weights = model.log_importance(x, SampleNoise(seed, chunk, x.device), len(chunk))
        total = torch.logaddexp(total, weights.double().logsumexp(0))
    return total - math.log(samples)


def _chunks(samples: int, at_a_time: int) -> Iterator[range]:
    return (range(first, min(first + at_a_time, samples)) for first in range(0, samples, at_a_time))
