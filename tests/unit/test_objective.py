"""The objective's weighting, on a model whose terms are known numbers."""

import math
from pathlib import Path

import pytest
import torch

from al_dgm.config import load_params
from al_dgm.learning.objective import Objective, Phase, Weighting
from al_dgm.models.base import Minibatch, Model, Settings, Space
from al_dgm.models.observation import make_observation
from al_dgm.nn.bayesian import kl_of_weights
from al_dgm.nn.linear import BayesianLinear
from al_dgm.nn.noise import BatchNoise, generator

RECIPE = load_params(Path(__file__).parents[2] / "params.yaml").training
PLAIN = {"adversarial_weight": 0.0, "balance_weight": 0.0, "temperature": 1.0, "classification_weight": 0.5}
J, U, CE, ADVERSARIAL = -7.0, -11.0, 2.0, 0.25
Q = torch.tensor([0.5, 0.25, 0.25])


class Known(Model):
    """Terms that are known numbers, and two Bayesian layers for their divergence."""

    generative = True

    def __init__(self, *, bayesian=True):
        super().__init__(Space(3, 3, make_observation("gaussian")))
        torch.manual_seed(0)
        layer = BayesianLinear if bayesian else torch.nn.Linear
        self.first, self.second = (layer([3], 2), layer([2], 2)) if bayesian else (layer(3, 2), layer(2, 2))
        self.asked = []

    def log_predictive(self, x, noise, samples):
        """Not asked for."""
        raise AssertionError

    def terms(self, batch, settings):
        """J and C, U, q and the adversarial divergence, per example."""
        self.asked.append(settings)
        unlabelled, labelled = batch.sizes
        found = {"labelled_bound": torch.full((labelled,), J), "classification": torch.full((labelled,), CE)}
        if unlabelled:
            found |= {"unlabelled_bound": torch.full((unlabelled,), U), "q": Q.expand(unlabelled, 3)}
            found |= {"adversarial": torch.full((unlabelled,), ADVERSARIAL)} if settings.adversarial_radius else {}
        return found


class Supervised(Known):
    """A model without bounds."""

    generative = False

    def terms(self, batch, settings):
        """C alone."""
        return {"classification": torch.full((len(batch.x_labelled),), CE)}


def minibatch(labelled=4, unlabelled=6):
    noise = [BatchNoise(generator(seed)) for seed in range(2)]
    return Minibatch(torch.zeros(labelled, 3), torch.zeros(labelled).long(), torch.zeros(unlabelled, 3), *noise)


def value(model, batch, n=(20, 80), phase=Phase(), **options):  # noqa: B008
    recipe = RECIPE.model_copy(update=PLAIN | options)
    loss, terms = Objective(model, recipe)(batch, phase, n)
    assert terms["objective"] == loss
    return loss.item(), {name: term.item() for name, term in terms.items()}


def kl(model):
    return sum(value.item() for value in kl_of_weights(model).values())


def test_sum_is_the_literal_sum_over_the_data_per_example():
    """N · objective = −Σ_l J − Σ_u U + Σ_l α C + KL(W), with α = β N / N_l; N_l = 20, N_u = 80, β = 0.5."""
    model, alpha = Known(), 0.5 * 100 / 20
    expected = (-20 * J - 80 * U + 20 * alpha * CE + kl(model)) / 100
    assert value(model, minibatch(), weighting="sum")[0] == pytest.approx(expected)


def test_mean_weights_the_two_sets_alike():
    """−J̄ − Ū + α C̄ + KL(W)/N with the same α."""
    model, alpha = Known(), 0.5 * 100 / 20
    expected = -J - U + alpha * CE + kl(model) / 100
    assert value(model, minibatch(), weighting="mean")[0] == pytest.approx(expected)


def test_the_factors_are_those_of_the_docstring():
    assert Weighting.of("sum", 20, 80, 0.5) == Weighting(0.2, 0.8, 0.5)
    assert Weighting.of("mean", 20, 80, 0.5) == Weighting(1.0, 1.0, 2.5)
    assert Weighting.of("sum", 5, 0, 1.0) == Weighting(1.0, 0.0, 1.0)


def test_weights_that_labels_alone_train_explain_labelled_examples_alone():
    """Their KL is divided by N_l, where that of the others is by N; 0 labels divide by nothing."""
    model = Known()
    first, second = (value.item() for value in kl_of_weights(model).values())
    model.supervised = ("second",)
    assert value(model, minibatch())[1]["kl_weights"] == pytest.approx(first / 100 + second / 20)
    assert value(model, minibatch(0, 6), n=(0, 80))[1]["kl_weights"] == pytest.approx(first / 80 + second)


@pytest.mark.parametrize("weighting", ["sum", "mean"])
def test_without_labels_the_unlabelled_bound_is_left(weighting):
    """−Ū + KL(W)/N, and no term of labelled examples on record; as functions of the weights they are still there."""
    model = Known()
    loss, terms = value(model, minibatch(0, 6), n=(0, 80), weighting=weighting)
    assert loss == pytest.approx(-U + kl(model) / 80)
    assert set(terms) == {"objective", "unlabelled_bound", "kl_weights"}
    logits = torch.zeros(0, 3, requires_grad=True)
    model.terms = lambda *_: {"classification": logits.sum(-1)}
    Objective(model, RECIPE)(minibatch(0, 6), Phase(), (0, 80))[0].backward()
    assert logits.grad is not None


@pytest.mark.parametrize("weighting", ["sum", "mean"])
@pytest.mark.parametrize("sizes", [(1, 1), (4, 6), (20, 64)])
def test_neither_weight_nor_divergence_depends_on_the_minibatch(weighting, sizes):
    """The CE factor knows N and N_l, not the batches; KL(W) is divided by N, not by a batch."""
    model = Known()
    expected = value(model, minibatch(), weighting=weighting)[0]
    assert value(model, minibatch(*sizes), weighting=weighting)[0] == pytest.approx(expected, rel=1e-6)


def test_the_divergence_of_the_weights_is_counted_once_whatever_is_in_the_minibatch():
    """The same KL(W)/N with and without unlabelled rows; summed over layers, scaled by warm-up and temperature."""
    model = Known()
    per_example = kl(model) / 100
    for batch in (minibatch(), minibatch(4, 0)):
        with_kl, terms = value(model, batch)
        without, _ = value(model, batch, phase=Phase(weights=0.0))
        assert terms["kl_weights"] == pytest.approx(per_example)
        assert with_kl - without == pytest.approx(per_example, rel=1e-4)
    assert value(model, minibatch(), temperature=0.1)[0] == pytest.approx(
        value(model, minibatch(), phase=Phase(weights=0.1))[0]
    )
    assert "kl_weights" not in value(Known(bayesian=False), minibatch())[1]


def test_the_gradient_of_the_divergence_reaches_the_weights_once():
    """d objective / dρ = T w / N · d KL / dρ, nothing else here depending on ρ."""
    model = Known()
    Objective(model, RECIPE.model_copy(update=PLAIN))(minibatch(), Phase(weights=0.5), (20, 80))[0].backward()
    (expected,) = torch.autograd.grad(model.first.kl(), model.first.rho)
    torch.testing.assert_close(model.first.rho.grad, 0.5 * expected / 100)


def test_no_classification_weight_leaves_the_bounds():
    assert value(Known(bayesian=False), minibatch(), classification_weight=0.0)[0] == pytest.approx(0.2 * 7 + 0.8 * 11)


def test_the_terms_are_recorded_unweighted():
    terms = value(Known(), minibatch(), adversarial_weight=3.0, balance_weight=2.0)[1]
    assert terms["labelled_bound"] == J
    assert terms["unlabelled_bound"] == U
    assert terms["classification"] == CE
    assert terms["adversarial"] == ADVERSARIAL
    assert terms["imbalance"] == pytest.approx(math.log(3) - 1.5 * math.log(2))  # KL(Q ‖ uniform)


def test_the_regularisers_are_added_with_their_weights():
    plain, _ = value(Known(), minibatch())
    both, terms = value(Known(), minibatch(), adversarial_weight=3.0, balance_weight=2.0)
    assert both - plain == pytest.approx(3 * ADVERSARIAL + 2 * terms["imbalance"], rel=1e-5)


@pytest.mark.parametrize("name", ["adversarial", "consistency"])
def test_what_holds_the_classifier_to_itself_is_phased_in(name):
    model, weight = Known(), 3.0
    plain = model.terms
    model.terms = lambda batch, settings: plain(batch, settings) | {name: torch.full((6,), 0.7)}
    values = [
        value(model, minibatch(), phase=Phase(smoothing=s), **{f"{name}_weight": weight})[0] for s in (0.0, 0.5, 1.0)
    ]
    assert values[1] - values[0] == pytest.approx(0.5 * weight * 0.7, rel=1e-5)
    assert values[2] - values[0] == pytest.approx(weight * 0.7, rel=1e-5)


def test_a_class_that_is_never_predicted_gives_a_finite_imbalance():
    """Mean probability exactly 0: value and gradient stay finite."""
    logits = torch.tensor([[0.0, -400.0, 0.0]], requires_grad=True)
    model = Known()
    model.terms = lambda batch, _: {
        "classification": torch.zeros(len(batch.y)), "q": logits.softmax(-1).expand(len(batch.x_unlabelled), 3)
    }  # fmt: skip
    recipe = RECIPE.model_copy(update=PLAIN | {"balance_weight": 1.0})
    loss, terms = Objective(model, recipe)(minibatch(), Phase(), (20, 80))
    loss.backward()
    assert terms["imbalance"].item() == pytest.approx(math.log(3) - math.log(2), abs=1e-6)
    assert logits.grad.isfinite().all()


def test_the_phase_and_the_recipe_reach_the_model():
    """Warm-up factors go to the terms that they scale, and what regularises is as the recipe says."""
    model = Known()
    phase, recipe = Phase(latents=0.3, weights=0.4, responsibility=0.6), {"consistency_temperature": 0.7}
    value(model, minibatch(), phase=phase, adversarial_weight=1.0, **recipe)
    assert model.asked == [Settings(0.3, 0.6, RECIPE.adversarial_radius, 0.7)]


def test_a_supervised_model_minimises_its_cross_entropy_and_divergence_alone():
    model = Supervised()
    loss, terms = value(model, minibatch())
    assert loss == pytest.approx(0.5 * CE + kl(model) / 100)
    assert set(terms) == {"objective", "classification", "kl_weights"}
