"""What every model of x promises besides: bounds on log p(x) that tighten, and latent means."""

import math

import pytest
import torch
from small_models import (
    B,
    D,
    NoNoise,
    S,
    data,
    every_generative,
    every_kind,
    every_normalised,
    every_unsupervised,
    minibatch,
    noise,
    of_images,
    represented,
    spec,
    stirred,
)

from al_dgm.errors import ConfigError
from al_dgm.models.base import Settings
from al_dgm.nn.batch_norm import batch_norms, population_statistics
from al_dgm.nn.bayesian import mean_weights
from al_dgm.objectives.bounds import importance_weighted_bound

DRAWS = 4000


def away_from_the_prior(name, kind):
    """A model whose posteriors are neither the prior nor exact, so that no bound is tight by accident."""
    model = spec(name, kind, bayesian="none").build(0)
    stream = torch.Generator().manual_seed(0)
    distance = 0.1 if of_images(name) else 0.3  # of more layers, which multiply it
    with torch.no_grad():
        for network, parameter in model.named_parameters():
            if network.split(".")[0] in {"encoder", "auxiliary", "auxiliary_decoder"}:
                parameter.add_(distance * torch.randn(parameter.shape, generator=stream))
    return model


@every_generative
@every_kind
def test_bounds_on_the_evidence_have_a_value_per_example(name, kind):
    model, x = spec(name, kind).build(0), data(kind)
    assert model.elbo(x, noise(), S).shape == (B,)
    assert model.log_importance(x, noise(), S).shape == (S, B)
    assert model.represent(x, noise()).shape == (B, represented(name))


@every_generative
@every_kind
def test_the_elbo_is_the_mean_log_importance_weight_or_below_it(name, kind):
    """A log-weight is an estimate of the ELBO; with y summed out of the weight itself, of a tighter bound."""
    model, x = away_from_the_prior(name, kind), model_data(name, kind)
    with torch.no_grad():
        elbo, weights = model.elbo(x, noise(0), DRAWS), model.log_importance(x, noise(1), DRAWS)
    error = math.sqrt(2) * weights.std(0) / math.sqrt(DRAWS)
    below = elbo - weights.mean(0)
    if hasattr(model, "enumeration"):
        assert (below <= 5 * error).all()
    else:
        assert (below.abs() <= 5 * error).all()


@every_generative
@every_kind
def test_importance_weighting_tightens_in_expectation(name, kind):
    """E L_1 <= E L_5 <= E L_50, paired on the same draws, each within five standard errors."""
    model, x = away_from_the_prior(name, kind), model_data(name, kind)
    with torch.no_grad():
        weights = model.log_importance(x, noise(2), DRAWS)
    for fewer, more in ((1, 5), (5, 50)):
        tight = importance_weighted_bound(weights.view(more, -1, B))
        loose = importance_weighted_bound(weights.view(fewer, -1, tight.shape[0], B)).mean(0)
        gain = tight - loose
        assert (gain.mean(0) >= -5 * gain.std(0) / math.sqrt(len(gain))).all()
        assert gain.mean() > 0


def model_data(name, kind):
    """x as the model observes it."""
    x = data(kind)
    return (x > 0.5).float() if kind == "bernoulli" else x


@every_generative
@every_kind
def test_what_is_generated_and_reconstructed_describes_x(name, kind):
    """As many parameters as p(x | ·) has, whose means x could be; the same noise gives the same, a mean none at all."""
    model, x = spec(name, kind).build(0), data(kind)
    observation = model.space.observation
    with mean_weights(model), torch.no_grad():
        generated, again, other = (model.generate(noise(seed), S) for seed in (0, 0, 1))
        reconstructed = model.reconstruct(x, noise())
        torch.testing.assert_close(model.reconstruct(x, NoNoise()), reconstructed)
    assert generated.shape == (S, observation.outputs(D))
    assert reconstructed.shape == (B, observation.outputs(D))
    assert torch.equal(generated, again)
    assert not torch.allclose(generated, other)
    for means in (observation.mean(generated), observation.mean(reconstructed)):
        assert means.isfinite().all()
        assert kind == "gaussian" or (0 <= means.min() <= means.max() <= 1)


@every_generative
@pytest.mark.parametrize("sizes", [(B, B), (0, B), (B, 0)], ids=["both sets", "no labels", "all labelled"])
def test_options_that_change_the_networks_work_together(name, sizes):
    """All that a model has of them at once, whatever there is to train on; no layer keeps anything of a minibatch."""
    options = {"batch_norm": True, "corruption": [0.5, 0.3], "enumeration": 2, "importance_samples": 2}
    options["bayesian"] = ["classifier", "encoder"]
    model, x, (labelled, unlabelled) = spec(name, **options).build(0), data(), sizes
    before = {key: value.clone() for key, value in model.state_dict().items()}
    terms = model.terms(minibatch(x[:labelled], torch.arange(labelled) % 3, x[:unlabelled]), Settings())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    rows = {"classification": labelled, "labelled_bound": labelled}
    for term, values in terms.items():
        assert len(values) == rows.get(term, unlabelled)
        assert values.isfinite().all()
    torch.stack([values.sum() for values in terms.values()]).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_generative
def test_every_latent_unit_belongs_to_a_layer(name):
    model = spec(name).build(0)
    means = model.represent(data(), noise())
    assert sum(model.layers or means.shape[1:]) == means.shape[1]


@every_unsupervised
def test_the_warm_up_scales_the_divergence_of_the_latents(name):
    """log p(x|z) − w KL: at 0 the reconstruction alone, and linear in between."""
    model, x = away_from_the_prior(name, "binomial"), data()
    values = {w: model.infer(x, noise(), S, latents=w).bound for w in (0.0, 0.5, 1.0)}
    torch.testing.assert_close(values[0.5], 0.5 * (values[0.0] + values[1.0]))
    assert (values[0.0] - values[1.0]).mean() > 0


@every_unsupervised
def test_the_classifier_leaves_the_features_alone(name):
    """Its gradient stops at the latent means, and theirs does not come from labels."""
    model, x = spec(name, bayesian="none").build(0), data()
    terms = model.terms(minibatch(x, torch.zeros(B).long(), x), Settings())
    terms["classification"].sum().backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {"classifier"}


@every_unsupervised
def test_layers_are_normalised_by_unlabelled_examples_and_by_labelled_ones_where_there_are_no_others(name):
    """A labelled example comes in many more minibatches than another, and would be most of what is normal."""
    model, x, y = stirred(spec(name, bayesian="none", batch_norm=True).build(0)), data(), torch.zeros(B).long()
    found, others = (
        model.terms(minibatch(labelled, y, x), Settings())["unlabelled_bound"] for labelled in (x, x.flip(0) ** 2)
    )
    torch.testing.assert_close(found, others)
    alone = model.terms(minibatch(x, y, x[:0]), Settings())["labelled_bound"]
    other = model.terms(minibatch(torch.cat([x[:1], x[1:] ** 2]), y, x[:0]), Settings())["labelled_bound"]
    assert not torch.isclose(alone[0], other[0], rtol=1e-4)


@every_unsupervised
def test_training_by_importance_samples_trains_their_bound(name):
    """K = 3 gives log-mean-exp of three log-weights for each example."""
    one, three = (spec(name, bayesian="none", importance_samples=k).build(0) for k in (1, 3))
    x = data()
    assert one.terms(minibatch(x[:0], torch.zeros(0).long(), x), Settings())["unlabelled_bound"].shape == (B,)
    found = three.terms(minibatch(x[:0], torch.zeros(0).long(), x), Settings())["unlabelled_bound"]
    torch.testing.assert_close(found, importance_weighted_bound(three.log_importance(x, noise(1), 3)))


@every_unsupervised
def test_the_warm_up_reaches_what_is_trained(name):
    """`Settings.latents` is the factor on the divergence."""
    model, x = away_from_the_prior(name, "binomial"), data()
    for latents in (0.0, 0.6):
        terms = model.terms(minibatch(x[:0], torch.zeros(0).long(), x), Settings(latents=latents))
        expected = model.infer(x, noise(1), 1, latents=latents).bound[0]
        torch.testing.assert_close(terms["unlabelled_bound"], expected)


@every_unsupervised
@pytest.mark.parametrize("bayesian", ["all", "decoder", ["encoder", "decoder.last"]])
def test_importance_samples_with_weights_of_their_own_are_refused(name, bayesian):
    """log E_q(W)[p(x|W)] − KL(W)/N may exceed the evidence of the data."""
    with pytest.raises(ConfigError, match=r"importance_samples: expected 1 where the decoder has Bayesian .*, got 2$"):
        spec(name, bayesian=bayesian, importance_samples=2).build(0)
    assert spec(name, bayesian=bayesian, monte_carlo_samples=2).build(0)


@every_unsupervised
@pytest.mark.parametrize("importance", [1, 3])
def test_monte_carlo_samples_are_averaged_over(name, importance):
    """The mean of four estimates of the bound, each by draws of its own; of one estimate it is the estimate."""
    x, none = data(), torch.zeros(0).long()
    options = {"bayesian": "none", "importance_samples": importance}
    model = spec(name, **options, monte_carlo_samples=4).build(0)
    found = model.terms(minibatch(x[:0], none, x), Settings())["unlabelled_bound"]
    draws = model.infer(x, noise(1), 4 * importance, closed_form=importance == 1).bound
    expected = torch.stack([importance_weighted_bound(draws[m::4]) for m in range(4)]).mean(0)
    torch.testing.assert_close(found, expected)


@every_normalised
def test_normalised_layers_use_the_minibatch_in_training_and_the_population_afterwards(name):
    """The statistics of a single minibatch that was all of the data are those of the minibatch."""
    model, x = spec(name, bayesian="none", batch_norm=True).build(0).train(), data(rows=20)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with mean_weights(model), torch.no_grad():
        trained = model.elbo(x, noise(), 1)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        unsettled = model.eval().elbo(x, noise(), 1)
        with population_statistics(model.train()):
            model.elbo(x, noise(), 1)
        settled = model.eval().elbo(x, noise(), 1)
    assert len(batch_norms(model)) >= 4
    torch.testing.assert_close(settled, trained, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(unsettled, trained, atol=1e-2)


@every_unsupervised
def test_sizes_that_are_not_of_the_same_layers_are_refused(name):
    with pytest.raises(ConfigError, match=r"hidden: expected as many sizes as there are latents, 2, got 1"):
        spec(name, hidden=[8]).build(0)
