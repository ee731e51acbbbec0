"""The bounds of M2 and SDGM against Pyro's TraceEnum_ELBO: an independent implementation around the same networks.

`benchmarks/in_pyro.py` states the models in Pyro's words; enumeration over y, the sum over its values and the entropy
are Pyro's. Where both use the same draws of the latents, values and gradients agree to rounding.
"""

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from al_dgm.models import MODELS, Space
from al_dgm.models.observation import make_observation
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.nn.pairs import Pairs
from al_dgm.objectives.bounds import unlabelled_bound

pyro = pytest.importorskip("pyro")

B, C, D, Z, A, TRIALS = 5, 3, 6, 2, 4, 16
KINDS = pytest.mark.parametrize("kind", ["bernoulli", "binomial", "gaussian"])
MODEL_NAMES = pytest.mark.parametrize("name", ["m2", "sdgm"])


@pytest.fixture(scope="module")
def in_pyro():
    """The models in Pyro's words, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        module = importlib.import_module("in_pyro")
        yield {"m2": module.InPyro, "sdgm": module.SDGMInPyro}


class Given:
    """The noise that a model asks for: these numbers, one after the other."""

    def __init__(self, *eps):
        self.eps = list(eps)

    def normal(self, shape):
        """The next ε."""
        eps = self.eps.pop(0)
        assert tuple(shape) == tuple(eps.shape)
        return eps


def small_model(name, kind):
    """A random model with point weights, its variance heads away from the initial 1."""
    torch.manual_seed(0)
    space = Space(D, C, make_observation(kind, TRIALS), centre=0.3, spread=0.8)
    options = {"auxiliary": A} if name == "sdgm" else {}
    model = MODELS[name](space, hidden=[7], latent=Z, bayesian="none", likelihood_weight=1.0, **options).double()
    with torch.no_grad():
        for network in ("encoder", "auxiliary", "auxiliary_decoder"):
            for parameter in model.get_submodule(network).layers[-1].parameters() if hasattr(model, network) else ():
                parameter.normal_(std=0.7)
    return model


def data(kind):
    stream = generator(4)
    if kind == "gaussian":
        return torch.randn(B, D, generator=stream).double()
    trials = TRIALS if kind == "binomial" else 1
    return torch.randint(0, trials + 1, (B, D), generator=stream).double() / trials


def draws(*shape, seed):
    return torch.randn(*shape, generator=generator(seed)).double()


def gradients(bound, model):
    named = dict(model.named_parameters())
    found = torch.autograd.grad(bound, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(named[name]) if g is None else g for name, g in zip(named, found, strict=True)}


def assert_same(ours, theirs, model):
    """Equal values and equal gradients in every parameter."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    expected = gradients(theirs, model)
    for name, gradient in gradients(ours, model).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-6, msg=f"gradient of {name}")


@KINDS
@MODEL_NAMES
def test_the_unlabelled_bound_with_shared_draws_is_pyros_enumeration(name, kind, in_pyro):
    """Σ_y q(y|·) [log p(x, y, latents_y) − log q(latents_y|·) − log q(y|·)] on the same draws."""
    model, x = small_model(name, kind), data(kind)
    a, z = [draws(B, A, seed=9)] if name == "sdgm" else [], draws(C, B, Z, seed=5)
    theirs = in_pyro[name](model, kind, TRIALS, [*a, z]).bound(x)
    ours_z = z.permute(1, 0, 2).reshape(1, B * C, Z)  # the classes of one example side by side
    noise = Given(*(eps[None] for eps in a), ours_z)
    seen = model.recognise(x, noise, 1)
    pairs = Pairs(B, torch.empty(0, dtype=torch.int64), None, C)
    bound, _ = pairs.split(model.bounds(x, seen, pairs, noise, 1, closed_form=False))
    assert_same(unlabelled_bound(bound, seen.log_q).sum(), theirs, model)


@KINDS
@MODEL_NAMES
def test_the_labelled_bound_with_shared_draws_is_pyros(name, kind, in_pyro):
    """log p(x, y, latents) − log q(latents|x, y) with y observed: log p(y) included."""
    model, x, y = small_model(name, kind), data(kind), torch.arange(B) % C
    a, z = [draws(B, A, seed=9)] if name == "sdgm" else [], draws(B, Z, seed=6)
    theirs = in_pyro[name](model, kind, TRIALS, [*a, z]).bound(x, F.one_hot(y, C).double())
    ours = model.log_weights(x, y, Given(*(eps[None] for eps in [*a, z])), 1).sum()
    assert_same(ours, theirs, model)


def test_the_closed_form_bound_is_pyros_in_expectation(in_pyro):
    """`elbo`, with its closed-form KL, against Pyro with draws of its own: within five standard errors."""
    model, x, copies = small_model("m2", "binomial"), data("binomial"), 6000
    with torch.no_grad():
        ours = model.elbo(x, BatchNoise(generator(7)), copies)
        pyro.set_rng_seed(8)
        theirs = in_pyro["m2"](model, "binomial", TRIALS)
        for b in range(B):
            found = torch.stack([theirs.bound(x[b : b + 1].expand(copies // 20, D)) for _ in range(20)])
            found /= copies // 20
            error = found.std().item() / math.sqrt(len(found))  # ours has no larger variance: at most √2 of this
            assert ours[b].item() == pytest.approx(found.mean().item(), abs=5 * math.sqrt(2) * error)
