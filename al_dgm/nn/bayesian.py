"""What concerns the weight distribution of a whole model: its KL, and how the weights are used.

with weight_sample(model, generator):      # one function drawn from q(W), the same for every example
    log_p = model.log_predictive(x, ...)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from al_dgm.nn.linear import BayesianLinear
from al_dgm.nn.temporary import temporarily


def bayesian_layers(model: nn.Module) -> dict[str, BayesianLinear]:
    """Name -> layer, in the model's own order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BayesianLinear)}


def kl_of_weights(model: nn.Module) -> dict[str, Tensor]:
    """Layer name -> KL(q(W) ‖ p(W)) in nats, summed over the layer. Empty when no layer is Bayesian."""
    return {name: layer.kl() for name, layer in bayesian_layers(model).items()}


@contextmanager
def weight_sample(model: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """Inside, every Bayesian layer uses one explicit draw from q(W): a function, shared by all examples."""
    layers = bayesian_layers(model).values()
    for layer in layers:
        layer.draw(generator)
    with temporarily(layers, mode="sampled"):
        try:
            yield
        finally:
            for layer in layers:
                layer.release()


def mean_weights(model: nn.Module) -> AbstractContextManager[None]:
    """Inside, every Bayesian layer uses its posterior mean."""
    return temporarily(bayesian_layers(model).values(), mode="mean")
