"""Predictive distributions and bounds of a trained model, by explicit weight samples that stream.

Weight sample k is drawn from the stream (seed, "weights", k) and shared by every example on every worker; latent
noise is common to all examples (`CommonNoise`), so what is predicted for one does not depend on its minibatch. Of an
ensemble of n it is a sample of member k mod n; so BALD, which asks how far the samples differ, needs to know nothing of
where they come from: mean-field weights, of all layers or of the last, or members.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from al_dgm.acquisition import Moments
from al_dgm.config import PredictionParams
from al_dgm.models import DeepGenerativeModel, GenerativeModel, Model
from al_dgm.models.ensemble import members_of
from al_dgm.nn.bayesian import bayesian_layers, mean_weights, weight_sample
from al_dgm.nn.noise import CommonNoise, generator
from al_dgm.progress import progress_bar
from al_dgm.seeding import integer_seed

# Numbers of a decoder's output at a time on a CPU, 8 MiB: several such tensors fit into what malloc keeps; see
# `al_dgm.learning.device.use_freed_memory_again`.
DECODED = 2**21


@dataclass(frozen=True)
class Predictor:
    """How to predict, and by which random numbers.

    Attributes:
        params: how many samples.
        seed: of the samples.
        batch: examples at a time; changes memory and speed, and no result.
        label: of the progress bar, which appears where predicting takes long.
    """

    params: PredictionParams
    seed: int
    batch: int = 100
    label: str = "predicting"

    @torch.no_grad()
    def moments(self, model: Model, x: Tensor, classes: int) -> Moments:
        """Sums over weight samples of p(y | x, W) and of its entropy, for x [N, D]."""
        return Moments.concatenated([self._moments(model, part, classes) for part in self._minibatches(model, x)])

    @torch.no_grad()
    def expected_elbo(self, model: GenerativeModel, x: Tensor) -> Tensor:
        """The bound U(x) in nats at the posterior mean of the weights, for x [N, D]; [N].

        Of an ensemble it is the mean of its members' bounds. x is drawn as in training (binarised, for a Bernoulli
        model), with thresholds common to all examples.
        """

        def elbo(x: Tensor) -> Tensor:
            noise = self._noise(x)
            return model.elbo(model.space.observation.draw(x, noise), noise, self.params.latent_samples).cpu()

        with mean_weights(model):
            return torch.cat([elbo(few) for part in self._minibatches(model, x) for few in self._split(model, part)])

    def weight_samples(self, model: Model) -> Iterator[Model]:
        """The model with its weights put to sample k = 0, 1, …, one after the other; of an ensemble, member k mod n.

        Point weights make one sample of all, or n. Members count alike: K is rounded up to a multiple of n.
        """
        members = members_of(model)
        rounds = math.ceil(self.params.weight_samples / len(members)) if bayesian_layers(model) else 1
        for k, member in enumerate(members * rounds):
            with weight_sample(member, generator(integer_seed(self.seed, "weights", k))):
                yield member

    def log_predictive(self, model: Model, x: Tensor, *groundwork: Tensor) -> Tensor:
        """log p(y | x, W) of one minibatch for the weights in use, [B, C]; ``groundwork`` is what `groundwork` gave."""
        return model.log_predictive(x, self._noise(x), self.params.latent_samples, *groundwork)

    def groundwork(self, model: Model, x: Tensor) -> tuple[Tensor, ...]:
        """The part of `log_predictive` that weight samples may have in common; () for a model that does without it."""
        if not isinstance(model, DeepGenerativeModel):
            return ()
        found: list[tuple[Tensor, ...]] = [
            model.groundwork(few, self._noise(x), self.params.latent_samples) for few in self._split(model, x)
        ]
        return tuple(torch.cat(values) for values in zip(*found, strict=True))

    def _split(self, model: GenerativeModel, x: Tensor) -> tuple[Tensor, ...]:
        """A minibatch by as many examples as are decoded at a time; weight samples are worth the whole of it."""
        if x.device.type != "cpu":
            return (x,)
        numbers = self.params.latent_samples * members_of(model)[0].classes_in_bounds * x.shape[1]
        parts: tuple[Tensor, ...] = x.split(max(1, DECODED // numbers))
        return parts

    def _moments(self, model: Model, x: Tensor, classes: int) -> Moments:
        """`moments` of one minibatch."""
        moments = Moments.zeros(len(x), classes)
        shared = {member: self._shared(member, x) for member in members_of(model)}
        for member in self.weight_samples(model):
            common = shared[member]
            own = self.groundwork(member, x) if common is None else common
            moments.add(self.log_predictive(member, x, *own))
        return moments

    def _shared(self, model: Model, x: Tensor) -> tuple[Tensor, ...] | None:
        """`groundwork`, most of the cost, where it is the same for every weight sample."""
        if not isinstance(model, DeepGenerativeModel) or not model.groundwork_has_point_weights:
            return None
        with mean_weights(model):
            return self.groundwork(model, x)

    def _minibatches(self, model: Model, x: Tensor) -> Iterator[Tensor]:
        """x by minibatches, on the model's device.

        Enumerating y makes S C rows of each example; a CPU is fastest while those of a minibatch fit its cache.
        """
        device = next(model.parameters()).device
        with progress_bar(len(x), self.label, delay=5.0) as bar:
            for part in x.split(self.batch):
                yield part.to(device)
                bar.update(len(part))

    def _noise(self, x: Tensor) -> CommonNoise:
        return CommonNoise(generator(integer_seed(self.seed, "latents"), x.device))
