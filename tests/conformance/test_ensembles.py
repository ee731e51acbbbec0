"""What an ensemble of every model promises: members trained each for itself, and the predictions of their mixture."""

import math

import pytest
import torch
from small_models import (
    PARAMS,
    WEIGHTS,
    B,
    C,
    S,
    data,
    distributed,
    every_generative,
    every_kind,
    every_model,
    every_unsupervised,
    minibatch,
    noise,
    spec,
)

from al_dgm.learning.fit import TrainingData, fit
from al_dgm.learning.predict import Predictor
from al_dgm.models import GenerativeModel
from al_dgm.models.base import Settings
from al_dgm.models.ensemble import members_of
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.noise import CommonNoise, NoNoise, generator
from al_dgm.seeding import integer_seed

N = 3
# every regulariser of the recipe stays on, and the gradients are longer than the norm they are clipped to
RECIPE = PARAMS.training.model_copy(
    update={"steps": 6, "labelled_batch": 4, "unlabelled_batch": 7, "gradient_norm": 0.1, "patience": 0}
)


def training_data():
    """10 labelled and 20 unlabelled examples, in double precision."""
    x = data(rows=30).double()
    return TrainingData(x[:10], torch.arange(10) % C, x[10:])


def assert_members_are_fits_of_their_own(about, **options):
    """Each member's weights, statistics and training curve are those of a fit of that member alone."""
    ensemble = about.build(0).double()
    history = fit(ensemble, training_data(), RECIPE, 1, **options)
    curves = []
    for m, member in enumerate(ensemble.members):
        alone = about._member(integer_seed(0, "member", m)).double()
        curves.append(fit(alone, training_data(), RECIPE, integer_seed(1, "member", m)))
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(member.state_dict()[name], value, rtol=1e-8, atol=1e-8)
    for row, *alone in zip(history, *curves, strict=True):
        assert row == pytest.approx({name: sum(other[name] for other in alone) / N for name in row}, rel=1e-8)


@every_model
def test_a_member_is_the_fit_of_that_member_alone(name):
    """Initial weights, minibatches, noise, clipping and averaging are its own; in one program, to rounding."""
    assert_members_are_fits_of_their_own(spec(name, ensemble=N))


@every_unsupervised
def test_members_have_statistics_of_their_own_in_normalised_layers(name):
    """Of their minibatches in training, and of the population under their own weights in the end."""
    assert_members_are_fits_of_their_own(spec(name, bayesian="none", batch_norm=True, ensemble=N))


@every_model
def test_members_differ_in_all_their_random_numbers(name):
    """They start apart; and one that is given another's initial weights is still another fit."""
    first, second = (ensemble := spec(name, ensemble=2).build(0).double()).members
    assert differ(first, second)
    second.load_state_dict(first.state_dict())
    fit(ensemble, training_data(), RECIPE, 1)
    assert differ(first, second)


def differ(first, second):
    other = second.state_dict()
    return any(not torch.allclose(value, other[name]) for name, value in first.state_dict().items())


@every_model
@every_kind
def test_the_prediction_is_the_mean_of_the_members_on_common_draws(name, kind):
    """p(y|x) = mean_m p_m(y|x), never that of a model with mean weights; terms have a value per example."""
    ensemble, x = spec(name, kind, ensemble=N).build(0).eval(), data(kind)
    with mean_weights(ensemble):
        found = ensemble.log_predictive(x, CommonNoise(generator(4)), S)
        members = [member.log_predictive(x, CommonNoise(generator(4)), S).exp() for member in members_of(ensemble)]
    torch.testing.assert_close(found.exp(), torch.stack(members).mean(0))
    torch.testing.assert_close(found.logsumexp(-1), torch.zeros(B), atol=1e-5, rtol=0)
    terms = ensemble.terms(minibatch(x, torch.zeros(B).long(), x), Settings())
    assert terms["classification"].shape == (B,)


@every_generative
@every_kind
def test_the_bounds_are_of_the_mixture(name, kind):
    """ELBO: the mean of the members'; importance weights: their mean, whose expectation is mean_m p_m(x)."""
    ensemble, x = spec(name, kind, ensemble=N).build(0).eval(), data(kind)
    assert isinstance(ensemble, GenerativeModel)
    assert ensemble.generative
    with mean_weights(ensemble):
        elbo, weights = ensemble.elbo(x, noise(4), S), ensemble.log_importance(x, noise(5), S)
        elbos = torch.stack([member.elbo(x, noise(4), S) for member in members_of(ensemble)])
        log_w = torch.stack([member.log_importance(x, noise(5), S) for member in members_of(ensemble)])
        means = [member.represent(x, noise(6)) for member in members_of(ensemble)]
        torch.testing.assert_close(ensemble.represent(x, noise(6)), torch.cat(means, dim=-1))
    torch.testing.assert_close(elbo, elbos.mean(0))
    torch.testing.assert_close(weights, log_w.logsumexp(0) - math.log(N))
    predictor = Predictor(PARAMS.prediction, seed=3)
    alone = torch.stack([predictor.expected_elbo(member, x) for member in members_of(ensemble)])
    torch.testing.assert_close(predictor.expected_elbo(ensemble, x), alone.mean(0))


@every_generative
def test_what_is_generated_is_of_every_member_in_turn(name):
    """Draw s is member s mod n's; a reconstruction is the first one's."""
    ensemble, x = spec(name, ensemble=2).build(0).eval(), data()
    with mean_weights(ensemble), torch.no_grad():
        found = ensemble.generate(noise(4), 3)
        first, second = (member.generate(noise(4), 3) for member in members_of(ensemble))
        reconstructed = ensemble.reconstruct(x, NoNoise())
        torch.testing.assert_close(reconstructed, members_of(ensemble)[0].reconstruct(x, NoNoise()))
    torch.testing.assert_close(found, torch.stack([first[0], second[1], first[2]]))


@every_model
def test_weight_sample_k_is_one_of_member_k_mod_n(name):
    """Point weights: each member once. Distributions: so many samples that all members count alike."""
    point, spread = (spec(name, **distributed(name, how)).build(0).eval() for how in WEIGHTS if "ensemble" in how)
    predictor, x = Predictor(PARAMS.prediction.model_copy(update={"weight_samples": 4}), seed=3), data()
    assert list(predictor.weight_samples(point)) == members_of(point)
    alone = [predictor.moments(member, x, C).mean_p for member in members_of(point)]
    torch.testing.assert_close(predictor.moments(point, x, C).mean_p, torch.stack(alone).mean(0))
    assert list(predictor.weight_samples(spread)) == members_of(spread) * 2
    first, *_, again, _, _ = [predictor.log_predictive(member, x) for member in predictor.weight_samples(spread)]
    assert not torch.allclose(first, again)
