"""M2's bounds against Pyro's TraceEnum_ELBO: an independent implementation around the same networks.

The model and guide below state M2 in Pyro's words; enumeration over y, the sum over its values and the entropy are
Pyro's. Where both use the same draws of z, values and gradients agree to rounding.
"""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from al_dgm.models import Space
from al_dgm.models.m2 import M2
from al_dgm.models.observation import make_observation
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.nn.pairs import Pairs
from al_dgm.objectives.bounds import unlabelled_bound

pyro = pytest.importorskip("pyro")
dist = pytest.importorskip("pyro.distributions")
infer = pytest.importorskip("pyro.infer")

B, C, D, Z, TRIALS = 5, 3, 6, 2, 16


class FixedNormal(dist.Normal):
    """N(loc, scale²) whose draw is loc + scale · ε for a given ε, so that both sides see the same z."""

    def __init__(self, loc, scale, eps):
        super().__init__(loc, scale)
        self.eps = eps

    def expand(self, batch_shape, _instance=None):
        """The same, with ε as it is."""
        return FixedNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.eps)

    def rsample(self, sample_shape=()):
        """loc + scale · ε, once."""
        assert not sample_shape
        return self.loc + self.scale * self.eps


class Given:
    """The noise that a model asks for: these numbers."""

    def __init__(self, eps: Tensor):
        self.eps = eps

    def normal(self, shape):
        """ε."""
        assert tuple(shape) == tuple(self.eps.shape)
        return self.eps


def m2(kind: str) -> M2:
    """A random M2 with point weights, its variance head away from the initial 1."""
    torch.manual_seed(0)
    space = Space(D, C, make_observation(kind, TRIALS), centre=0.3, spread=0.8)
    model = M2(space, hidden=[7], latent=Z, bayesian="none", likelihood_weight=1.0).double()
    with torch.no_grad():
        for parameter in model.encoder.layers[-1].parameters():
            parameter.normal_(std=0.7)
    return model


def data(kind: str) -> Tensor:
    stream = generator(4)
    if kind == "gaussian":
        return torch.randn(B, D, generator=stream).double()
    trials = TRIALS if kind == "binomial" else 1
    return torch.randint(0, trials + 1, (B, D), generator=stream).double() / trials


def likelihood(kind: str, parameters: Tensor):
    """p(x | y, z) as Pyro has it; counts for a binomial."""
    if kind == "gaussian":
        mean, log_variance = parameters.chunk(2, -1)
        return dist.Normal(mean, (0.5 * log_variance).exp()).to_event(1)
    if kind == "binomial":
        return dist.Binomial(TRIALS, logits=parameters, validate_args=False).to_event(1)
    return dist.Bernoulli(logits=parameters).to_event(1)


class InPyro:
    """M2 as a Pyro model and guide. Enumerated y comes as [C, 1, C], given labels as [B, C]."""

    def __init__(self, m2: M2, kind: str, eps: Tensor | None = None):
        self.m2, self.kind, self.eps = m2, kind, eps

    def model(self, x: Tensor, y: Tensor | None = None):
        """p(y) p(z) p(x | y, z)."""
        with pyro.plate("examples", len(x)):
            prior = dist.OneHotCategorical(probs=torch.full((C,), 1 / C, dtype=x.dtype))
            y = pyro.sample("y", prior, obs=y)
            zero = torch.zeros(len(x), Z, dtype=x.dtype)
            z = pyro.sample("z", dist.Normal(zero, 1.0).to_event(1))
            parameters = self.m2.decoder(math.sqrt(C) * y, z, noise=None)
            observed = TRIALS * x if self.kind == "binomial" else x
            pyro.sample("x", likelihood(self.kind, parameters), obs=observed)

    def guide(self, x: Tensor, y: Tensor | None = None):
        """q(y | x) q(z | x, y), or the latter alone for given labels."""
        u = (x - self.m2.space.centre) / self.m2.space.spread
        with pyro.plate("examples", len(x)):
            if y is None:
                q_y = dist.OneHotCategorical(logits=self.m2.classifier(u, noise=None))
                y = pyro.sample("y", q_y, infer={"enumerate": "parallel"})
            mean, log_variance = self.m2.encoder(u, math.sqrt(C) * y, noise=None).chunk(2, -1)
            scale = (0.5 * log_variance).exp()
            q_z = dist.Normal(mean, scale) if self.eps is None else FixedNormal(mean, scale, self.eps)
            pyro.sample("z", q_z.to_event(1))

    def bound(self, *args: Tensor) -> Tensor:
        """The estimate of the ELBO, summed over the examples."""
        elbo = infer.TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
        if torch.is_grad_enabled():
            return -elbo.differentiable_loss(self.model, self.guide, *args)
        return -torch.tensor(elbo.loss(self.model, self.guide, *args))


def gradients(bound: Tensor, model: nn.Module) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    found = torch.autograd.grad(bound, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(named[name]) if g is None else g for name, g in zip(named, found, strict=True)}


def assert_same(ours: Tensor, theirs: Tensor, model: nn.Module) -> None:
    """Equal values and equal gradients in every parameter."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    expected = gradients(theirs, model)
    for name, gradient in gradients(ours, model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-6, msg=f"gradient of {name}")


@pytest.mark.parametrize("kind", ["bernoulli", "binomial", "gaussian"])
def test_the_unlabelled_bound_with_shared_draws_is_pyros_enumeration(kind):
    """Σ_y q(y|x) [log p(x, y, z_y) − log q(z_y|x, y) − log q(y|x)] on the same z_y."""
    model, x = m2(kind), data(kind)
    eps = torch.randn(C, B, Z, generator=generator(5)).double()
    theirs = InPyro(model, kind, eps).bound(x)
    noise = Given(eps.permute(1, 0, 2).reshape(1, B * C, Z))  # the classes of one example side by side
    seen = model.recognise(x, noise, 1)
    pairs = Pairs(B, torch.empty(0, dtype=torch.int64), None, C)
    bound, _ = pairs.split(model.bounds(x, seen, pairs, noise, 1, closed_form=False))
    assert_same(unlabelled_bound(bound, seen.log_q).sum(), theirs, model)


@pytest.mark.parametrize("kind", ["bernoulli", "binomial", "gaussian"])
def test_the_labelled_bound_with_shared_draws_is_pyros(kind):
    """log p(x, y, z) − log q(z|x, y) with y observed: log p(y) included."""
    model, x = m2(kind), data(kind)
    y = torch.arange(B) % C
    eps = torch.randn(B, Z, generator=generator(6)).double()
    theirs = InPyro(model, kind, eps).bound(x, F.one_hot(y, C).double())
    ours = model.log_weights(x, y, Given(eps[None]), 1).sum()
    assert_same(ours, theirs, model)


def test_the_closed_form_bound_is_pyros_in_expectation():
    """`elbo`, with its closed-form KL, against Pyro with draws of its own: within five standard errors."""
    model, x, copies = m2("binomial"), data("binomial"), 6000
    with torch.no_grad():
        ours = model.elbo(x, BatchNoise(generator(7)), copies)
        pyro.set_rng_seed(8)
        in_pyro = InPyro(copy.deepcopy(model), "binomial")
        for b in range(B):
            draws = torch.stack([in_pyro.bound(x[b : b + 1].expand(copies // 20, D)) for _ in range(20)])
            draws /= copies // 20
            error = draws.std().item() / math.sqrt(len(draws))  # ours has no larger variance: at most √2 of this
            assert ours[b].item() == pytest.approx(draws.mean().item(), abs=5 * math.sqrt(2) * error)
