"""Bounds on log p(x) that stream: exact sums, independent draws, and the same x for every model."""

import math
from dataclasses import replace

import pytest
import torch

from al_dgm.learning import density
from al_dgm.learning.density import LogLikelihood, binarised_once, log_likelihood
from al_dgm.learning.job import ModelSpec
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.noise import SampleNoise, generator
from al_dgm.objectives.bounds import importance_weighted_bound
from al_dgm.seeding import integer_seed

COUNTS = {"kind": "binomial", "trials": 16}
SPEC = ModelSpec("vae", {"hidden": [6], "latents": [2]}, 5, ("a", "b", "c"), COUNTS, 0.4, 0.4)
MODELS = {
    "vae": SPEC,
    "lvae": replace(SPEC, name="lvae", options={"hidden": [6, 5], "latents": [3, 2]}),
    "m2": replace(SPEC, name="m2", options={"hidden": [6], "latent": 2, "bayesian": "all"}),
    "sdgm": replace(SPEC, name="sdgm", options={"hidden": [6], "latent": 2, "auxiliary": 2}),
}


def model_of(name, kind="binomial"):
    """A model whose posterior is not its prior."""
    model = replace(MODELS[name], observation={"kind": kind, "trials": 16}).build(0)
    stream = generator(1)
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=stream))
    return model


def x_of(rows):
    return torch.randint(0, 17, (rows, 5), generator=generator(2)) / 16


@pytest.mark.parametrize("name", MODELS)
def test_how_much_is_computed_at_a_time_changes_nothing(name, monkeypatch):
    """Neither the bound nor the ELBO, for chunks that do and do not divide the number of samples."""
    monkeypatch.setattr(density, "EXAMPLES", 4)
    model, x = model_of(name), x_of(10)
    whole = log_likelihood(model, x, 0, samples=11, rows=10**6)
    for rows in (1, 4 * 3 * 2, 4 * 3 * 5):
        parts = log_likelihood(model, x, 0, samples=11, rows=rows)
        torch.testing.assert_close(parts.importance_weighted, whole.importance_weighted, atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(parts.elbo, whole.elbo, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_the_streamed_sum_is_the_bound_of_all_weights_together(name, monkeypatch):
    """L_K of the log-weights, which are drawn one sample at a time here; the weights are at their mean."""
    monkeypatch.setattr(density, "EXAMPLES", 4)
    model, x = model_of(name), x_of(6)
    found = log_likelihood(model, x, 3, samples=7, rows=30)
    expected = []
    with mean_weights(model), torch.no_grad():
        for number, part in enumerate(x.split(4)):
            seed = integer_seed(3, "density", number)
            weights = [model.log_importance(part, SampleNoise(seed, range(s, s + 1)), 1) for s in range(7)]
            expected.append(importance_weighted_bound(torch.cat(weights).double()))
    torch.testing.assert_close(found.importance_weighted, torch.cat(expected), atol=1e-5, rtol=1e-6)


def test_draws_are_independent_between_examples_and_samples(monkeypatch):
    """The same x ten times: no two estimates are equal, whether in one chunk or in two; another seed, other draws."""
    monkeypatch.setattr(density, "EXAMPLES", 4)
    model, x = model_of("vae"), x_of(1).expand(10, 5)
    one, other = (log_likelihood(model, x, seed, samples=1).importance_weighted for seed in (0, 1))
    assert len(set(torch.cat([one, other]).tolist())) == 20
    normal = SampleNoise(5, range(3)).normal(torch.Size([3, 2, 4]))
    assert len(set(normal.flatten().tolist())) == 24
    torch.testing.assert_close(normal[1:], SampleNoise(5, range(1, 3)).normal(torch.Size([2, 2, 4])))


def test_more_samples_tighten_the_bound_on_the_same_first_draws():
    """ELBO ≤ L_10 ≤ L_500 on average, well beyond the paired standard error."""
    model, x = model_of("vae"), x_of(240)
    few, many = (log_likelihood(model, x, 0, samples=K) for K in (10, 500))
    for looser, tighter in ((few.elbo, few.importance_weighted), (few.importance_weighted, many.importance_weighted)):
        gain = tighter - looser
        assert gain.mean() > 5 * gain.std() / math.sqrt(240)


def test_far_apart_weights_neither_overflow_nor_vanish(monkeypatch):
    """Log-weights of ±1e4: the largest decides, whichever chunk it is in."""

    class Weights:
        space = model_of("vae").space

        def parameters(self):
            """One, for the device."""
            return iter([torch.zeros(1)])

        def modules(self):
            """No layer."""
            return iter(())

        named_modules = modules

        def elbo(self, x, noise, samples):
            """Nothing of interest."""
            return torch.zeros(len(x))

        def log_importance(self, x, noise, samples):
            """−1e4, but for the third sample."""
            assert samples == 1
            self.asked = getattr(self, "asked", 0) + 1
            return torch.full((1, len(x)), 1e4 if self.asked == 3 else -1e4)

    found = log_likelihood(Weights(), x_of(2), 0, samples=5, rows=1)
    torch.testing.assert_close(found.importance_weighted, torch.full((2,), 1e4 - math.log(5)).double())


def test_the_error_is_that_of_a_mean_over_the_examples():
    values = torch.tensor([1.0, 2.0, 4.0, 9.0]).double()
    found = LogLikelihood(values, values + 1, torch.arange(4), 7).summary()
    assert found["elbo"] == 4
    assert found["elbo_error"] == found["importance_weighted_error"] == pytest.approx(math.sqrt(38 / 3) / 2)
    assert found["importance_weighted"] == 5
    assert (found["importance_samples"], found["weighted_examples"], found["examples"]) == (7, 4, 4)


def test_a_part_of_the_examples_estimates_the_mean_of_all():
    """Exactly where L_K gains the same everywhere; on a model within the error that leaving examples out adds.

    That is less than half of the error of a mean over the part alone.
    """
    elbo = torch.tensor([1.0, 2.0, 4.0, 9.0]).double()
    part = LogLikelihood(elbo, elbo[::2] + 1, torch.tensor([0, 2]), 7).summary()
    assert part["importance_weighted"] == 5
    assert part["importance_weighted_error"] == pytest.approx(math.sqrt(4.5 / 4))
    model, x = model_of("vae"), x_of(400)
    whole, some = (log_likelihood(model, x, 0, samples=200, weighted=n).summary() for n in (None, 100))
    alone = log_likelihood(model, x[::4], 0, samples=200).summary()["importance_weighted_error"]
    assert some["weighted_examples"] == 100
    added = math.sqrt(some["importance_weighted_error"] ** 2 - 0.25 * alone**2)
    assert abs(some["importance_weighted"] - whole["importance_weighted"]) < 4 * added < 2 * alone


@pytest.mark.parametrize(("wanted", "chosen"), [(None, 10), (3, 3), (10, 10), (12, 10)])
def test_the_examples_of_a_part_are_spread_over_all(wanted, chosen):
    found = log_likelihood(model_of("vae"), x_of(10), 0, samples=2, weighted=wanted).weighted
    assert len(set(found.tolist())) == chosen
    assert found.diff().max() - found.diff().min() <= 1


def test_bernoulli_data_are_binarised_once_for_every_model_and_seed():
    """Other data are the observation as they are."""
    x = x_of(200)
    one, other = (binarised_once(model_of(name, "bernoulli"), x) for name in ("vae", "m2"))
    assert torch.equal(one, other)
    assert set(one.unique().tolist()) == {0.0, 1.0}
    assert one.mean().item() == pytest.approx(x.mean().item(), abs=5 * 0.5 / math.sqrt(x.numel()))
    assert binarised_once(model_of("vae"), x) is x


def test_the_bound_is_of_the_binarised_data(monkeypatch):
    """Not of the grey values, whose density would be another number."""
    model, x = model_of("vae", "bernoulli"), x_of(3)
    found = log_likelihood(model, x, 0, samples=4)
    again = log_likelihood(model, binarised_once(model, x), 0, samples=4)
    assert torch.equal(found.importance_weighted, again.importance_weighted)
    monkeypatch.setattr(density, "binarised_once", lambda _, x: x)
    assert not torch.equal(found.importance_weighted, log_likelihood(model, x, 0, samples=4).importance_weighted)
