"""Of several fits the one with the best bounds is kept: which one that is, and what is never fitted twice."""

from dataclasses import replace

import pytest
import torch
from small_fit import (
    CLUSTERS,
    CORRUPTED,
    NORMALISED,
    SPEC,
    STAGES,
    OnDisk,
    assert_same_weights,
    recipe,
    small_data,
    weights,
)

from al_dgm.learning.fit import Checkpoints
from al_dgm.learning.job import ModelSpec, TrainingJob
from al_dgm.learning.restarts import best_fits, mean_bound
from al_dgm.models.base import Model, Space
from al_dgm.models.ensemble import Ensemble
from al_dgm.models.enumerating import Tempering
from al_dgm.models.observation import make_observation
from al_dgm.nn.noise import NoNoise
from al_dgm.objectives.bounds import unlabelled_bound
from al_dgm.seeding import integer_seed

CPU = torch.device("cpu")
SPECS = {"m2": SPEC, "clusters": CLUSTERS, "corrupted": CORRUPTED, "normalised": NORMALISED, "stages": STAGES}
SUPERVISED = ModelSpec("mlp", {"hidden": [6]}, 5, ("a", "b", "c"), {"kind": "binomial", "trials": 16}, 0.4, 0.4)


class Told(Model):
    """Its bounds are what is in x, and ``more`` on top."""

    generative = True

    def __init__(self, more):
        super().__init__(Space(5, 3, make_observation("gaussian"), 0.0, 1.0))
        self.more = more

    def log_predictive(self, x, noise, samples):
        """Not asked for."""
        raise NotImplementedError

    def terms(self, batch, settings):
        """The first number of a labelled example, the second of another."""
        bounds = {"labelled_bound": batch.x_labelled[:, 0], "unlabelled_bound": batch.x_unlabelled[:, 1]}
        return {name: values + self.more for name, values in bounds.items() if len(values)} | {"classification": 1e9}


def job(spec=SPEC, **options):
    return TrainingJob(spec, small_data(), recipe(**{"steps": 10} | options), seed=3)


def settled(model, data, settings):
    return mean_bound(model, data, settings, integer_seed(3, "restarts"))


@pytest.mark.parametrize(("unlabelled", "examples"), [(6, 40), (0, 10)])
def test_the_mean_bound_is_over_all_examples_alike(unlabelled, examples):
    """By hand, of 10 labelled and 30 unlabelled examples, or where those are not trained on."""
    data = small_data()
    settings = recipe(labelled_batch=2, unlabelled_batch=unlabelled)  # 5 steps are a pass over either
    expected = data.x_labelled[:, 0].sum() + (data.x_unlabelled[:, 1].sum() if unlabelled else 0)
    assert settled(Told(0.0), data, settings) == pytest.approx(expected.item() / examples, rel=1e-5)


def test_the_mean_bound_is_the_models_own():
    """Against J and U of every example by the model's other methods, where z is almost certain."""
    model = replace(SPEC, options={"hidden": [6], "latent": 2, "bayesian": "none"}).build(0).eval()
    with torch.no_grad():
        model.encoder.layers[-1].weight.zero_()
        model.encoder.layers[-1].bias.copy_(torch.tensor([0.3, -0.2, -10.0, -10.0]))  # mean and log-variance of z
    data, tempering = small_data(), Tempering(model.likelihood_weight)
    with torch.no_grad():
        of_labelled = model.class_bounds(data.x_labelled, NoNoise(), 1, tempering).bound[0]
        of_unlabelled = model.class_bounds(data.x_unlabelled, NoNoise(), 1, tempering)
    labelled = of_labelled.gather(1, data.y[:, None]).sum()
    unlabelled = unlabelled_bound(of_unlabelled.bound, of_unlabelled.log_q).sum()
    found = settled(model, data, recipe(labelled_batch=10, unlabelled_batch=30))
    assert found == pytest.approx((labelled + unlabelled).item() / 40, rel=1e-3)


def test_the_mean_bound_is_at_the_mean_weights():
    """However wide their distribution is."""
    model, data = SPEC.build(0).eval(), small_data()
    before = settled(model, data, recipe())
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("rho"):
                value.add_(5)
    assert settled(model, data, recipe()) == before


def test_the_best_ones_are_kept_in_their_order():
    data, settings = small_data(), recipe()
    fits = [Told(more) for more in (0.0, 3.0, 1.0, 2.0)]
    assert best_fits(fits, 1, data, settings, 0) is fits[1]
    kept = best_fits(fits, 3, data, settings, 0)
    assert isinstance(kept, Ensemble)
    assert list(kept.members) == [fits[1], fits[2], fits[3]]


@pytest.mark.parametrize("name", SPECS)
def test_a_job_keeps_the_fit_with_the_best_bound(name):
    """One of the members of an ensemble of as many, and a model of the job's own spec."""
    spec = SPECS[name]
    fitted, curve = replace(job(spec), spec=replace(spec, ensemble=3)).run(CPU)
    model, history = job(spec, restarts=2).run(CPU)
    assert history == curve
    assert not model.training
    data, settings = small_data(), job(spec).recipe
    bounds = [settled(member, data, settings) for member in fitted.members]
    assert len(set(bounds)) == 3
    assert settled(model, data, settings) == pytest.approx(max(bounds), abs=1e-5)
    spec.build(0).load_state_dict(model.state_dict())


def test_an_ensemble_keeps_the_best_of_its_restarts():
    spec = replace(SPEC, ensemble=2)
    four, _ = replace(job(), spec=replace(SPEC, ensemble=4)).run(CPU)
    kept, _ = job(spec, restarts=2).run(CPU)
    data, settings = small_data(), job().recipe
    bounds = sorted((settled(member, data, settings) for member in four.members), reverse=True)
    assert sorted((settled(member, data, settings) for member in kept.members), reverse=True) == bounds[:2]
    spec.build(0).load_state_dict(kept.state_dict())


def test_what_starts_from_given_weights_or_has_no_bounds_is_fitted_once():
    start = dict(SPEC.build(7).state_dict())
    for once in (job(SUPERVISED), replace(job(), start=start)):
        several = replace(once, recipe=once.recipe.model_copy(update={"restarts": 2}))
        assert_same_weights(weights(once.run(CPU)[0]), weights(several.run(CPU)[0]))


def test_a_killed_job_keeps_the_same_fit():
    """All restarts are in its checkpoint."""
    kept = OnDisk()
    whole, curve = job(restarts=2, steps=100).run(CPU, checkpoints=Checkpoints(kept, seconds=0))
    resumed, again = job(restarts=2, steps=100).run(CPU, checkpoints=Checkpoints(resume=kept.load(0)))
    assert again == curve
    assert_same_weights(weights(whole), weights(resumed))
