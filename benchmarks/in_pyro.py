"""M2 and SDGM as Pyro models and guides, over the very networks of this package's models.

Enumerated y comes as [C, 1, C], given labels as [B, C]; `TraceEnum_ELBO` sums y out. Given ``eps``, the draws of z (and
of a) are mean + sd · ε, so that both sides can be compared on the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import infer
from torch import Tensor
from torch.nn import functional as F

from al_dgm.models import DeepGenerativeModel
from al_dgm.nn.mlp import MLP


class FixedNormal(dist.Normal):  # type: ignore[misc]  # Pyro has no types
    """N(loc, scale²) whose draw is loc + scale · ε for a given ε, so that both sides see the same z."""

    def __init__(self, loc: Tensor, scale: Tensor, eps: Tensor) -> None:
        super().__init__(loc, scale)
        self.eps = eps

    def expand(self, batch_shape: Any, _instance: Any = None) -> FixedNormal:
        """The same, with ε as it is."""
        return FixedNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.eps)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """loc + scale · ε, once."""
        if sample_shape:
            raise ValueError(f"one draw only, got {sample_shape}")
        z: Tensor = self.loc + self.scale * self.eps
        return z


def normal(parameters: Tensor, eps: Tensor | None = None) -> Any:
    """The Gaussian that a network's output describes."""
    mean, log_variance = parameters.chunk(2, -1)
    scale = (0.5 * log_variance).exp()
    return (dist.Normal(mean, scale) if eps is None else FixedNormal(mean, scale, eps)).to_event(1)


Apply = Callable[..., Tensor]  # (network, *inputs) -> output


def split(network: MLP, *inputs: Tensor) -> Tensor:
    """As this package does it: every input is multiplied before it is broadcast against the others."""
    output: Tensor = network(*inputs, noise=None)
    return output


def concatenated(network: MLP, *inputs: Tensor) -> Tensor:
    """As Pyro's own examples do it (`ConcatModule`): the inputs are broadcast, concatenated, and then multiplied."""
    leading = torch.broadcast_shapes(*(x.shape[:-1] for x in inputs))
    h = torch.cat([x.expand(*leading, x.shape[-1]) for x in inputs], dim=-1)
    layers: list[Any] = list(network.layers)
    for layer in layers[:-1]:
        h = F.relu(F.linear(h, layer.weight.t(), layer.bias))
    return F.linear(h, layers[-1].weight.t(), layers[-1].bias)


class InPyro:
    """p(x, y, latents) and q(y, latents | x) of M2; the bound as Pyro estimates it.

    Args:
        ours: the model whose networks are used.
        kind: of the observation.
        trials: of a binomial one.
        eps: draws of the latents, in the order in which the guide samples them.
        apply: how a network is applied to its inputs.
    """

    def __init__(
        self,
        ours: DeepGenerativeModel,
        kind: str,
        trials: int = 1,
        eps: Sequence[Tensor] = (),
        apply: Apply = split,
    ) -> None:
        self.ours, self.kind, self.trials, self.apply = ours, kind, trials, apply
        self.eps = list(eps)
        self.classes = ours.space.classes

    def bound(self, *args: Tensor) -> Tensor:
        """The estimate of the ELBO, summed over the examples."""
        elbo = infer.TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
        if torch.is_grad_enabled():
            loss: Tensor = elbo.differentiable_loss(self.model, self.guide, *args)
            return -loss
        return -torch.tensor(elbo.loss(self.model, self.guide, *args))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(y) p(z) p(x | y, z)."""
        with pyro.plate("examples", len(x)):
            label = self._label(y, x)
            z = self._latent("z", len(x), self.ours.encoder, x)
            self._observe(self._network("decoder", label, z), x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(y | x) q(z | x, y), or the latter alone for given labels."""
        u = self.ours.space.network_input(x)
        with pyro.plate("examples", len(x)):
            label = self._inferred(self._network("classifier", u), y)
            pyro.sample("z", normal(self._network("encoder", u, label), *self.eps[:1]))

    def _network(self, name: str, *inputs: Tensor) -> Tensor:
        """A network's output."""
        return self.apply(self.ours.get_submodule(name), *inputs)

    def _label(self, y: Tensor | None, x: Tensor) -> Tensor:
        """√C · y, with y from its uniform prior."""
        prior = dist.OneHotCategorical(probs=x.new_full((self.classes,), 1 / self.classes))
        label: Tensor = math.sqrt(self.classes) * pyro.sample("y", prior, obs=y)
        return label

    def _inferred(self, logits: Tensor, y: Tensor | None) -> Tensor:
        """√C · y, with y enumerated under q(y | ·) where it is not given."""
        if y is None:
            y = pyro.sample("y", dist.OneHotCategorical(logits=logits), infer={"enumerate": "parallel"})
        return math.sqrt(self.classes) * y

    def _latent(self, name: str, rows: int, network: Any, x: Tensor) -> Tensor:
        """A standard normal variable of the size that ``network`` infers."""
        zero = x.new_zeros(rows, len(network.layers[-1].bias) // 2)
        drawn: Tensor = pyro.sample(name, dist.Normal(zero, 1.0).to_event(1))
        return drawn

    def _observe(self, parameters: Tensor, x: Tensor) -> None:
        """p(x | parameters); counts for a binomial."""
        if self.kind == "gaussian":
            likelihood = normal(parameters)
        elif self.kind == "binomial":
            likelihood = dist.Binomial(self.trials, logits=parameters, validate_args=False).to_event(1)
        else:
            likelihood = dist.Bernoulli(logits=parameters, validate_args=False).to_event(1)
        pyro.sample("x", likelihood, obs=self.trials * x if self.kind == "binomial" else x)


class SDGMInPyro(InPyro):
    """The same of SDGM, with draws of a and z."""

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        """p(y) p(z) p(a | y, z) p(x | a, y, z)."""
        with pyro.plate("examples", len(x)):
            label = self._label(y, x)
            z = self._latent("z", len(x), self.ours.encoder, x)
            a = pyro.sample("a", normal(self._network("auxiliary_decoder", label, z)))
            self._observe(self._network("decoder", a, label, z), x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        """q(a | x) q(y | a, x) q(z | a, y, x)."""
        u = self.ours.space.network_input(x)
        with pyro.plate("examples", len(x)):
            a = pyro.sample("a", normal(self._network("auxiliary", u), *self.eps[:1]))
            label = self._inferred(self._network("classifier", u, a), y)
            pyro.sample("z", normal(self._network("encoder", u, a, label), *self.eps[1:2]))
