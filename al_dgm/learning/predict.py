"""Predictive distributions and bounds of a trained model, by explicit weight samples that stream.

Weight sample k is drawn from the stream (seed, "weights", k) and shared by every example on every worker; latent
noise is common to all examples (`CommonNoise`), so what is predicted for one does not depend on its minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from al_dgm.acquisition import Moments
from al_dgm.config import PredictionParams
from al_dgm.models import DeepGenerativeModel, Model
from al_dgm.nn.bayesian import bayesian_layers, mean_weights, weight_sample
from al_dgm.nn.noise import CommonNoise, generator
from al_dgm.seeding import integer_seed


def weight_samples(model: Model, params: PredictionParams, seed: int) -> Iterator[int]:
    """Put the model's weights to sample k = 0, 1, …, one after the other; point weights make one sample of all."""
    for k in range(params.weight_samples if bayesian_layers(model) else 1):
        with weight_sample(model, generator(integer_seed(seed, "weights", k))):
            yield k


@torch.no_grad()
def log_predictive(model: Model, x: Tensor, params: PredictionParams, seed: int, *bayes: Tensor) -> Tensor:
    """log p(y | x, W) for the weights in use, [N, C], in minibatches; ``bayes`` is what `log_bayes` gave, if it did."""
    device = next(model.parameters()).device

    def predict(x: Tensor, *bayes: Tensor) -> Tensor:
        return model.log_predictive(x.to(device), _common_noise(seed, device), params.latent_samples, *bayes)

    return _in_minibatches(predict, params.batch_size, x, *bayes)


@torch.no_grad()
def log_bayes(model: Model, x: Tensor, params: PredictionParams, seed: int) -> tuple[Tensor, ...]:
    """The part of `log_predictive` that comes from the bounds, ([N, C],); () for a model that predicts without it."""
    if not isinstance(model, DeepGenerativeModel) or model.prediction == "classifier":
        return ()
    generative, device = model, next(model.parameters()).device

    def bayes(x: Tensor) -> Tensor:
        return generative.log_bayes(x.to(device), _common_noise(seed, device), params.latent_samples)

    return (_in_minibatches(bayes, params.batch_size, x),)


def predictive_moments(model: Model, x: Tensor, classes: int, params: PredictionParams, seed: int) -> Moments:
    """Sums over weight samples of p(y | x, W) and of its entropy, for x [N, D]."""
    moments, bayes = Moments.zeros(len(x), classes), None
    if isinstance(model, DeepGenerativeModel) and model.bayes_has_point_weights:
        with mean_weights(model):  # the bounds are most of the cost, and the same for every weight sample
            bayes = log_bayes(model, x, params, seed)
    for _ in weight_samples(model, params, seed):
        own = log_bayes(model, x, params, seed) if bayes is None else bayes
        moments.add(log_predictive(model, x, params, seed, *own))
    return moments


@torch.no_grad()
def expected_elbo(model: DeepGenerativeModel, x: Tensor, params: PredictionParams, seed: int) -> Tensor:
    """The bound U(x) in nats at the posterior mean of the weights, [N].

    x is drawn as in training (binarised, for a Bernoulli model), with thresholds common to all examples.
    """
    device = next(model.parameters()).device

    def elbo(x: Tensor) -> Tensor:
        noise = _common_noise(seed, device)
        return model.elbo(model.space.observation.draw(x.to(device), noise), noise, params.latent_samples)

    with mean_weights(model):
        return _in_minibatches(elbo, params.batch_size, x).cpu()


def _in_minibatches(function: Callable[..., Tensor], size: int, *tensors: Tensor) -> Tensor:
    """``function`` of ``size`` rows at a time of all ``tensors``."""
    return torch.cat([function(*parts) for parts in zip(*(tensor.split(size) for tensor in tensors), strict=True)])


def _common_noise(seed: int, device: torch.device) -> CommonNoise:
    return CommonNoise(generator(integer_seed(seed, "latents"), device))
