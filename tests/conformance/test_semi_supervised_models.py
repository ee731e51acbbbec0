"""What every model that enumerates y promises besides: its bounds, and what training may ask of them."""

import math

import pytest
import torch
from small_models import (
    PARAMS,
    SEMI_SUPERVISED,
    B,
    C,
    D,
    NoNoise,
    S,
    data,
    every_kind,
    every_semi_supervised,
    minibatch,
    noise,
    registered,
    represented,
    spec,
    stirred,
)
from torch.nn import functional as F

from al_dgm.learning.fit import TrainingData, fit
from al_dgm.models.base import Settings
from al_dgm.models.enumerating import Tempering
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.corrupted import Corruption, clean
from al_dgm.nn.noise import generator
from al_dgm.objectives.bounds import unlabelled_bound


@every_semi_supervised
@every_kind
def test_bounds_have_the_documented_shapes(name, kind):
    model, x = spec(name, kind).build(0), data(kind)
    terms = model.class_bounds(x, noise(), S)
    assert terms.bound.shape == (S, B, C)
    assert terms.log_q.shape in {(S, B, C), (1, B, C)}
    assert model.recognise(x, noise(), S).log_q.shape == terms.log_q.shape
    assert model.log_weights(x, torch.zeros(B, dtype=torch.int64), noise(), S).shape == (S, B)
    assert model.elbo(x, noise(), S).shape == (B,)
    assert model.represent(x, noise()).shape == (B, represented(name))


@every_semi_supervised
@every_kind
def test_one_latent_is_decoded_as_any_class(name, kind):
    """Equal noise stands for equal z, so that classes differ by y alone."""
    model = spec(name, kind).build(0)
    with mean_weights(model), torch.no_grad():
        as_class = torch.stack([model.generate(noise(), S, torch.full((S,), c)) for c in range(C)])
        decoded = model.decode(torch.ones(S).long(), noise().normal((S, model.latent)), NoNoise())
    assert decoded.shape == as_class[1].shape == (S, model.space.observation.outputs(D))
    if model.decodes_class:
        assert not torch.allclose(as_class[0], as_class[1])
    if registered(name) not in {"adgm", "sdgm", "m1m2", "cagem"}:  # which draw what stands between z and x
        torch.testing.assert_close(decoded, as_class[1])


@every_semi_supervised
def test_latent_means_are_those_of_the_most_probable_class(name):
    model, x, stream = spec(name).build(0), data(), generator(4)
    with mean_weights(model), torch.no_grad():
        for parameter in model.parameters():  # initial latents are so close to 0 that all classes are as probable
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=stream))
        best = model.log_classifier(x, NoNoise(), 1).argmax(-1)
        torch.testing.assert_close(model.encode(x, best, noise()), model.represent(x, noise()))
        assert not torch.allclose(model.encode(x, (best + 1) % C, noise()), model.represent(x, noise()))


@every_semi_supervised
def test_classes_are_generated_as_often_as_the_prior_says(name, monkeypatch):
    """Each of C within five standard errors of p(y), here not uniform."""
    model, count, seen = spec(name, bayesian="none").build(0), 3000, []
    model.log_prior.copy_(torch.tensor([0.6, 0.3, 0.1]).log())
    if hasattr(model, "label_decoder"):  # p(y | z_2), here of any z_2 the same
        with torch.no_grad():
            model.label_decoder.layers[-1].weight.zero_()
            model.label_decoder.layers[-1].bias.copy_(model.log_prior)
    monkeypatch.setattr(model, "decode", lambda y, z, _: seen.append(y))
    model.generate(noise(), count)
    share = torch.bincount(seen[0], minlength=C) / count
    p = model.log_prior.exp()
    assert ((share - p).abs() <= 5 * (p * (1 - p) / count).sqrt()).all()


@pytest.mark.parametrize(
    "name", [n for n in SEMI_SUPERVISED if registered(n) != "cagem"]
)  # whose labels enter no bound
@every_kind
def test_enumerated_and_given_labels_have_the_same_bound(name, kind):
    """L(x, y) of the enumeration is, class by class and row by row, J(x, y) of the labelled objective."""
    model, x = spec(name, kind, likelihood_weight=1.0).build(0), data(kind)
    with mean_weights(model):
        observed = model.space.observation.draw(x, NoNoise())
        enumerated = model.class_bounds(observed, NoNoise(), 1)
        for c in range(C):
            terms = model.terms(minibatch(x, torch.full((B,), c), x, NoNoise()), Settings())
            torch.testing.assert_close(terms["labelled_bound"], enumerated.bound[0, :, c], rtol=1e-5, atol=1e-4)
            torch.testing.assert_close(terms["classification"], -enumerated.log_q[0, :, c], rtol=1e-5, atol=1e-5)
        expected = unlabelled_bound(enumerated.bound, enumerated.log_q)
        torch.testing.assert_close(terms["unlabelled_bound"], expected, rtol=1e-5, atol=1e-4)


@every_semi_supervised
def test_training_tempers_its_bounds_as_it_is_told(name):
    """λ on the likelihood and the warm-up on the divergence, of an enumerated and of a given label."""
    model, x, y = stirred(spec(name, bayesian="none", likelihood_weight=0.3).build(0)), data(), torch.arange(B) % C
    found = model.terms(minibatch(x, y, x, NoNoise()), Settings(latents=0.6))
    bounds = model.class_bounds(x, NoNoise(), 1, Tempering(0.3, 0.6))
    expected = unlabelled_bound(bounds.bound, bounds.log_q)
    torch.testing.assert_close(found["unlabelled_bound"], expected, rtol=1e-5, atol=1e-4)
    given = expected if registered(name) == "cagem" else bounds.bound[0, torch.arange(B), y]
    torch.testing.assert_close(found["labelled_bound"], given, rtol=1e-5, atol=1e-4)


@every_semi_supervised
def test_tempered_bounds_predict(name):
    """p(y|x) ∝ exp mean_s L_s(x, y) with λ on the likelihood."""
    model, x = stirred(spec(name, bayesian="none", likelihood_weight=0.3).build(0)), data()
    tempered, whole = (model.class_bounds(x, NoNoise(), 1, Tempering(w)).bound[0].log_softmax(-1) for w in (0.3, 1.0))
    torch.testing.assert_close(model.log_bayes(x, NoNoise(), 1), tempered)
    assert not torch.allclose(tempered, whole)


@every_semi_supervised
@every_kind
def test_the_unlabelled_bound_follows_the_sum_rule(name, kind):
    """U(x) <= log Σ_y exp L(x, y), with equality where q(y|x) ∝ exp L(x, y)."""
    model, x = spec(name, kind).build(0), data(kind)
    terms = model.class_bounds(x, noise(), S)
    best = terms.bound.logsumexp(-1).mean(0)
    assert (unlabelled_bound(terms.bound, terms.log_q) <= best + 1e-4).all()
    torch.testing.assert_close(unlabelled_bound(terms.bound, terms.bound.log_softmax(-1)), best)


@every_semi_supervised
def test_tempering_scales_the_likelihood_and_the_divergence_but_not_the_prior(name):
    """λ log p(x|·) + log p(y|·) − w KL: what is left at λ = 0, w = 0 is the label's term alone, here −log C."""
    model, x = spec(name, bayesian="none").build(0), data()
    with torch.no_grad():
        model.encoder.layers[-1].bias.fill_(0.5)  # away from the prior, where there is no divergence to scale
        if hasattr(model, "predictor"):  # p(y|x,z) where others have p(y)
            model.predictor.layers[-1].weight.zero_()
        if hasattr(model, "label_decoder"):  # p(y | z_2) likewise
            model.label_decoder.layers[-1].weight.zero_()
    values = {}
    for likelihood in (0.0, 0.5, 1.0):
        for latents in (0.0, 0.5, 1.0):
            values[likelihood, latents] = model.class_bounds(x, noise(), S, Tempering(likelihood, latents)).bound
    torch.testing.assert_close(values[0, 0], torch.full((S, B, C), -math.log(C)))
    reconstruction, divergence = values[1, 0] - values[0, 0], values[0, 0] - values[0, 1]
    assert reconstruction.max() < 0 < divergence.mean()  # of an auxiliary variable single draws may be negative
    torch.testing.assert_close(values[0.5, 0.5], values[0, 0] + 0.5 * reconstruction - 0.5 * divergence)
    torch.testing.assert_close(values[1, 1], values[0, 0] + reconstruction - divergence)


@every_semi_supervised
def test_responsibility_scales_the_pull_of_the_bound_on_the_classifier_but_not_its_value(name):
    """ω multiplies the gradient of U by q(y|x); at 0 the classifier is left alone."""
    model, x, y = spec(name, bayesian="none").build(0), data(), torch.arange(B) % C
    gradients, values = {}, {}
    for omega in (0.0, 0.25, 1.0):
        bound = model.terms(minibatch(x, y, x), Settings(responsibility=omega))["unlabelled_bound"]
        values[omega] = bound.detach()
        gradients[omega] = torch.autograd.grad(bound.sum(), model.classifier.layers[-1].weight)[0]
    torch.testing.assert_close(values[0.25], values[1.0])
    assert gradients[0.0].abs().max() == 0
    torch.testing.assert_close(gradients[0.25], 0.25 * gradients[1.0], rtol=1e-4, atol=1e-5)


@every_semi_supervised
def test_the_adversarial_divergence_exceeds_that_of_a_random_direction(name):
    """Non-negative, and larger on average than at random perturbations of the same length."""
    model, x = spec(name, bayesian="none").build(0), data(rows=64)
    radius = 0.5
    with mean_weights(model):
        settings = Settings(adversarial_radius=radius)
        worst = model.terms(minibatch(x[:B], torch.arange(B) % C, x), settings)["adversarial"]
        direction = F.normalize(torch.randn(x.shape, generator=generator(3)), dim=-1)
        clean, moved = (model.log_classifier(v, noise(9), 1) for v in (x, x + radius * direction))
    random = (clean.exp() * (clean - moved)).sum(-1)
    assert worst.min() > -1e-6
    assert worst.mean() > 1.5 * random.mean()


@every_semi_supervised
@every_kind
def test_a_sum_over_some_classes_is_a_bound_at_a_cost_of_those_classes(name, kind):
    """U over the m most probable classes, summed in plain loops from the exact enumeration's own terms."""
    exact, some, x = spec(name, kind).build(0), spec(name, kind, enumeration=2).build(0), data(kind)
    with mean_weights(exact), mean_weights(some):
        every, few = (model.class_bounds(x, NoNoise(), S) for model in (exact, some))
    assert few.bound.shape == (S, B, 2)
    torch.testing.assert_close(few.classifier, every.classifier)
    best = every.classifier.mean(0).topk(2).indices.expand(S, B, 2)
    assert torch.equal(few.pairs.candidates, best[0])
    torch.testing.assert_close(few.bound, every.bound.gather(-1, best), rtol=1e-5, atol=1e-4)
    whole = every.bound.logsumexp(-1).mean(0)
    assert (unlabelled_bound(few.bound, few.log_q) <= whole + 1e-4).all()


@every_semi_supervised
def test_in_training_every_class_is_tried_by_and_by(name):
    """A quarter of the candidates is drawn from the others; none of them stands twice."""
    model = spec(name, enumeration=4, classes=9).build(0)
    log_q = torch.linspace(3, 0, 9).log_softmax(-1).expand(1, B, 9)
    chosen = torch.stack([model._candidates(log_q, noise(seed)) for seed in range(100)])
    assert chosen.shape == (100, B, 4)
    assert all(len(set(row.tolist())) == 4 for row in chosen.flatten(0, 1))
    assert (chosen[..., :3] == torch.arange(3)).all()
    assert set(chosen[..., 3].unique().tolist()) == set(range(3, 9))
    assert spec(name, enumeration=9, classes=9).build(0)._candidates(log_q) is None


@every_semi_supervised
def test_training_over_some_classes_reaches_every_parameter(name):
    model = spec(name, enumeration=2).build(0)
    for part, _ in model.curriculum():
        terms = part.terms(minibatch(data(), torch.arange(B) % C, data(seed=1)), Settings())
        sum(value.sum() for value in terms.values()).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in model.parameters())


CORRUPTED = {"corruption": [0.5, 0.3], "bayesian": "none"}


@every_semi_supervised
@pytest.mark.parametrize("power", [1, 2])
def test_a_corrupted_classifier_learns_what_it_says_undisturbed(name, power):
    """KL(q(y|x)^power ‖ q(y|x, noise)) of each unlabelled example: the first of a pass without noise, and constant."""
    model, x, y = spec(name, **CORRUPTED).build(0).train(), data(), torch.arange(B) % C
    terms = model.terms(minibatch(x, y, x), Settings(consistency_temperature=1 / power))
    with clean(model), torch.no_grad():
        target = model.log_classifier(model.space.observation.draw(x, noise(1)), NoNoise(), 1)
    target = (target.exp() ** power / (target.exp() ** power).sum(-1, keepdim=True)).log()
    expected = (target.exp() * (target - terms["q"].log())).sum(-1)
    torch.testing.assert_close(terms["consistency"], expected)
    assert (terms["consistency"] > 0).all()
    scale = model.classifier.top.scale
    gradients = [torch.autograd.grad(v.sum(), scale, retain_graph=True) for v in (terms["consistency"], expected)]
    torch.testing.assert_close(*gradients)


@every_semi_supervised
def test_a_sharper_target_makes_a_corrupted_classifier_surer(name):
    """Where there is no noise to be consistent under, consistency is indifferent at τ = 1 and for growing γ below."""
    model, x = spec(name, **CORRUPTED).build(0).train(), data()
    model.classifier.corruption = Corruption(0.0, 0.0)
    for norm in (*model.classifier.norms, model.classifier.top):
        norm.sd = 0.0
    gradients = []
    for temperature in (1.0, 0.5):
        batch = minibatch(x[:0], torch.zeros(0).long(), x, NoNoise())
        consistency = model.terms(batch, Settings(consistency_temperature=temperature))["consistency"]
        (gradient,) = torch.autograd.grad(consistency.sum(), model.classifier.top.scale)
        gradients.append(gradient)
    assert gradients[0].abs().max() < 1e-4
    assert (gradients[1] < -1e-2).all()


@every_semi_supervised
def test_a_corrupted_classifier_sees_the_two_sets_apart(name):
    """What it says of one set does not depend on the other."""
    model, x, y = spec(name, **CORRUPTED).build(0).train(), data(), torch.arange(B) % C
    terms, others = (model.terms(minibatch(x, y, u), Settings()) for u in (x, 1 - x))
    again = model.terms(minibatch(1 - x, y, x), Settings())
    if registered(name) != "cagem":  # whose second classifier sees draws that are normalised by the unlabelled
        torch.testing.assert_close(terms["classification"], others["classification"])
    torch.testing.assert_close(terms["q"], again["q"])
    assert not torch.allclose(terms["q"], others["q"])


@every_semi_supervised
def test_a_corrupted_classifier_predicts_an_example_by_itself(name):
    """After its fit, without noise, and whatever else is in the minibatch."""
    model, x, y = spec(name, **CORRUPTED).build(0), data(rows=32), torch.arange(32) % C
    recipe = PARAMS.training.model_copy(update={"steps": 3, "consistency_weight": 1.0})
    history = fit(model, TrainingData(x, y, data(rows=48, seed=1)), recipe, 0)
    assert history[-1]["consistency"] > 0  # the first stage of two may be another model
    whole = model.log_classifier(x, NoNoise(), 1)
    torch.testing.assert_close(model.log_classifier(x[:2], NoNoise(), 1), whole[:2])


@every_semi_supervised
def test_the_adversarial_divergence_is_of_the_undisturbed_classifier(name):
    """The same however much the classifier is disturbed otherwise."""
    x = data()
    models = [spec(name, bayesian="none", corruption=sds).build(0).train() for sds in ([0.5, 0.3], [0.0, 0.0])]
    divergences = [model.adversarial(x, noise(9), 0.5) for model in models]
    assert divergences[0].mean() > 0
    torch.testing.assert_close(*divergences)
