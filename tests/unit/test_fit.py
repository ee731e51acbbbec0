"""The training loop: resumed, shared between workers, averaged, stopped, and refused where it diverges."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_fit import CLUSTERS, NORMALISED, SPEC, STAGES, OnDisk, assert_same_weights, recipe, small_data, weights
from torch import nn

from al_dgm.errors import TrainingError
from al_dgm.learning import fit as fits
from al_dgm.learning.fit import Checkpoints, Fit, TrainingData, Workers, fit, phase
from al_dgm.learning.job import ModelSpec, TrainingJob
from al_dgm.learning.objective import Phase


@pytest.fixture
def data():
    return small_data()


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(fits, "WINDOW", 5)


# Warm-ups over, and nothing counts as improvement: the first window sets the mark, then three fail to beat it.
STOPS_EARLY = {
    "steps": 60,
    "patience": 3,
    "min_improvement": 1e6,
    "latent_warmup": 0.0,
    "weight_warmup": 0.0,
    "responsibility_start": 0.0,
    "responsibility_end": 0.0,
}


@pytest.mark.parametrize("options", [{}, STOPS_EARLY], ids=["all steps", "stopped early"])
def test_a_fit_resumed_at_any_window_is_bitwise_the_undisturbed_one(data, options):
    """Same weights, same averages, same curve, same end; whatever the fresh model's own weights were."""
    settings = recipe(**options, unlabelled_batch=7)  # passes end in the middle of a window
    whole, kept = SPEC.build(0), OnDisk()
    history = fit(whole, data, settings, 1, checkpoints=Checkpoints(kept, seconds=0))
    assert [row["step"] for row in history] == [5, 10, 15, 20]
    undisturbed = SPEC.build(0)
    assert fit(undisturbed, data, settings, 1) == history
    assert_same_weights(weights(undisturbed), weights(whole))
    for index in range(4):
        resumed = SPEC.build(99)
        again = fit(resumed, data, settings, 1, checkpoints=Checkpoints(resume=kept.load(index)))
        assert again == history
        assert_same_weights(weights(resumed), weights(whole))


def test_a_fit_in_two_stages_is_resumed_in_either(data):
    """Bitwise the undisturbed fit, whatever weights the fresh model had; M1's last gradients clip nothing of M2's."""
    settings, whole, kept = recipe(gradient_norm=0.1), STAGES.build(0), OnDisk()
    history = fit(whole, data, settings, 1, checkpoints=Checkpoints(kept, seconds=0))
    assert [row["step"] for row in history] == [5, 10, 15, 20]
    assert [kept.load(index)["progress"]["stage"] for index in range(4)] == [0, 0, 1, 1]
    assert ["q" in row or "imbalance" in row for row in history] == [False, False, True, True]
    for index in range(4):
        resumed = STAGES.build(99)
        assert fit(resumed, data, settings, 1, checkpoints=Checkpoints(resume=kept.load(index))) == history
        assert_same_weights(weights(resumed), weights(whole))


def test_the_second_stage_leaves_the_first_alone(data):
    """M1's weights are those of the end of its own stage."""
    model, kept = STAGES.build(0), OnDisk()
    fit(model, data, recipe(), 1, checkpoints=Checkpoints(kept, seconds=0))
    between = kept.load(2)["model"]
    of_m1 = {name for name in between if name.startswith("m1.")}
    assert of_m1
    assert_same_weights({name: between[name] for name in of_m1}, weights(model))
    assert any(not torch.equal(between[name], weights(model)[name]) for name in set(between) - of_m1)


def test_a_checkpoint_is_due_after_so_many_seconds(data, monkeypatch):
    """Nothing is saved before; an hour is longer than this fit."""
    kept = OnDisk()
    fit(SPEC.build(0), data, recipe(), 1, checkpoints=Checkpoints(kept, seconds=3600))
    assert kept.states == []
    clock = iter(range(0, 10_000, 2))
    monkeypatch.setattr(fits.time, "monotonic", lambda: next(clock))
    fit(SPEC.build(0), data, recipe(), 1, checkpoints=Checkpoints(kept, seconds=3))
    assert [kept.load(i)["progress"]["step"] for i in range(len(kept.states))] == [10, 20]


def test_the_seed_decides_the_fit(data):
    first, again, other = (SPEC.build(0) for _ in range(3))
    histories = [fit(model, data, recipe(), seed) for model, seed in ((first, 1), (again, 1), (other, 2))]
    assert histories[0] == histories[1] != histories[2]
    assert_same_weights(weights(first), weights(again))


def test_the_average_is_the_running_one_and_ends_in_the_model(data):
    """θ̄ ← d θ̄ + (1 − d) θ with d = min(decay, (1 + t)/(10 + t)); the model predicts with θ̄."""
    settings = recipe(weight_average=0.6)
    model = SPEC.build(0)
    running = Fit(model, data, settings, 1, Workers())
    expected = weights(model)
    for t in range(20):
        running.step()
        decay = min(0.6, (1 + t) / (10 + t))
        expected = {name: decay * expected[name] + (1 - decay) * value for name, value in weights(model).items()}
    last = weights(model)
    running.finish()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)
    assert any(not torch.allclose(last[name], expected[name]) for name in last)


def test_without_averaging_the_last_weights_stay(data):
    model = SPEC.build(0)
    running = Fit(model, data, recipe(weight_average=0.0), 1, Workers())
    running.step()
    last = weights(model)
    running.finish()
    assert_same_weights(weights(model), last)


def test_normalised_layers_end_with_the_statistics_of_the_training_set(data):
    """Of its unlabelled examples: mean and variance of the first hidden layer under the averaged weights, by numpy."""
    model = NORMALISED.build(0)
    settings = recipe(labelled_batch=10, unlabelled_batch=30)  # one minibatch is all of it
    fit(model, data, settings, 1)
    x = model.space.network_input(data.x_unlabelled)
    encoder = model.encoder[0]
    h = (x @ encoder.layers[0].weight + encoder.layers[0].bias).detach().numpy()
    found = encoder.norms[0]
    np.testing.assert_allclose(found.mean.numpy(), h.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.variance.numpy(), h.var(0), rtol=1e-4, atol=1e-5)


def test_rows_that_see_labels_are_normalised_by_the_statistics_of_those_that_do_not(data):
    """CaGeM: mean and variance of the first hidden layer are those of the unlabelled examples."""
    model = CLUSTERS.build(0)
    fit(model, data, recipe(labelled_batch=10, unlabelled_batch=30), 1)
    h = model.space.network_input(data.x_unlabelled) @ model.auxiliary.layers[0].weight + model.auxiliary.layers[0].bias
    torch.testing.assert_close(model.auxiliary.norms[0].mean, h.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.auxiliary.norms[0].variance, h.var(0, correction=0), rtol=1e-4, atol=1e-5)


def test_statistics_of_several_minibatches_are_those_of_their_rows(data):
    """Three equal minibatches: the mean of the variances and the variance of the means add up."""
    whole, parts = NORMALISED.build(0), NORMALISED.build(0)
    nobody = replace(data, x_labelled=data.x_labelled[:0], y=data.y[:0])
    Fit(whole, nobody, recipe(unlabelled_batch=30), 1, Workers()).finish()
    Fit(parts, nobody, recipe(unlabelled_batch=10), 1, Workers()).finish()
    torch.testing.assert_close(parts.encoder[0].norms[0].variance, whole.encoder[0].norms[0].variance)


@pytest.mark.parametrize(
    ("part", "terms"),
    [("x_labelled", "labelled_bound|classification"), ("x_unlabelled", "unlabelled_bound")],
)
def test_a_term_that_is_not_finite_ends_the_fit_and_is_named(data, part, terms):
    """The message names the term that broke, rather than the objective that it broke, and the step."""
    broken = replace(data, **{part: torch.full_like(getattr(data, part), math.nan)})
    with pytest.raises(TrainingError, match=rf"^training: ({terms}) is nan at step 0; expected a finite number"):
        fit(SPEC.build(0), broken, recipe(label_neighbours=0), 1)


class Spy(nn.Module):
    """Records the phase of every call of the objective."""

    def __init__(self, objective, phases):
        super().__init__()
        self.objective, self.phases = objective, phases

    def forward(self, batch, at, examples):
        """The objective itself."""
        self.phases.append(at)
        return self.objective(batch, at, examples)


def test_warm_ups_advance_once_a_step_and_no_more(data):
    """One phase a step, that of `phase`, also in a fit that is resumed and watched."""
    phases, kept = [], OnDisk()
    workers = Workers(wrap=lambda objective: Spy(objective, phases))
    settings = recipe(latent_warmup=0.5, weight_warmup=0.25, patience=40)
    fit(SPEC.build(0), data, settings, 1, workers=workers, checkpoints=Checkpoints(kept, seconds=0))
    assert phases == [phase(settings, t) for t in range(20)]
    phases.clear()
    fit(SPEC.build(0), data, settings, 1, workers=workers, checkpoints=Checkpoints(resume=kept.load(1)))
    assert phases == [phase(settings, t) for t in range(10, 20)]


def test_warm_ups_rise_from_their_first_step_to_one():
    warmups = {"latent_warmup": 0.5, "weight_warmup": 0.0, "smoothing_warmup": 0.25}
    settings = recipe(100, **warmups, responsibility_start=0.2, responsibility_end=0.4)
    phases = [phase(settings, t) for t in range(100)]
    assert phases[0] == Phase(latents=0.02, weights=1.0, responsibility=0.0, smoothing=0.04)
    assert phases[30].responsibility == pytest.approx(0.5)
    assert phases[48].latents < phases[49].latents == 1
    assert phases[-1] == Phase()


def test_labels_are_spread_until_the_bounds_are_responsible(data):
    """The same rows in the same order as without; from the end of the warm-up on, the same examples too."""
    settings = recipe(20, responsibility_start=0.2, responsibility_end=0.5)
    recipes = [settings.model_copy(update={"label_neighbours": k}) for k in (0, 3)]
    pair = [Fit(SPEC.build(0), data, own, 1, Workers()) for own in recipes]
    for step in range(20):
        alone, spread = (running._minibatch(step) for running in pair)
        assert torch.equal(spread.y, alone.y)
        assert torch.equal(spread.x_unlabelled, alone.x_unlabelled)
        assert torch.equal(spread.x_labelled, alone.x_labelled) == (step >= 10)


def test_labels_are_spread_where_unlabelled_examples_are_trained_on_alone(data):
    """Of a supervised model, and of a recipe without them, the fit is that without neighbours."""
    supervised = replace(SPEC, name="mlp", options={"hidden": [6]})
    for spec, more in ((supervised, {}), (SPEC, {"unlabelled_batch": 0})):
        curves = [fit(spec.build(0), data, recipe(10, label_neighbours=k, **more), 1) for k in (0, 3)]
        assert curves[0] == curves[1]


def test_a_fit_that_no_longer_improves_stops_after_its_patience(data):
    """One window sets the mark and `patience` windows fail to beat it, none of them during the warm-ups."""
    still = {"learning_rate": 1e-12, "final_learning_rate": 0.0, "min_improvement": 1e6, "patience": 3}
    ended = {"latent_warmup": 0.0, "weight_warmup": 0.0, "responsibility_start": 0.0, "responsibility_end": 0.2}
    history = fit(SPEC.build(0), data, recipe(100, **still, **ended), 1)
    assert [row["step"] for row in history] == list(range(5, 40, 5))  # ω is 1 from step 20, then 3 windows
    assert len(fit(SPEC.build(0), data, recipe(100, **{**still, "patience": 0}, **ended), 1)) == 20


def test_steps_that_an_early_stop_skipped_are_not_counted(data):
    """Of two stages that stop early each, the curve goes on where the first one ended."""
    history = fit(STAGES.build(0), data, recipe(**STOPS_EARLY), 1)
    assert [row["step"] for row in history] == list(range(5, 45, 5))


def test_improvement_is_over_the_best_window_so_far(data):
    """Not over the last one: an objective that swings back has not improved."""
    running = Fit(SPEC.build(0), data, recipe(**{**STOPS_EARLY, "min_improvement": 0.5}), 1, Workers())
    stale = []
    for objective in (10.0, 8.0, 9.0, 8.2, 7.6, 7.0):
        running._watch(objective)
        stale.append(running.progress.stale_windows)
    assert stale == [0, 0, 1, 2, 3, 0]


def test_a_fit_that_improves_goes_on(data):
    quick = {"learning_rate": 0.02, "patience": 2, "min_improvement": 0.0, "responsibility_end": 0.0}
    ended = {"latent_warmup": 0.0, "weight_warmup": 0.0, "responsibility_start": 0.0}
    assert len(fit(SPEC.build(0), data, recipe(30, **quick, **ended), 1)) >= 5


def test_gradients_are_clipped_to_the_norm(data, monkeypatch):
    seen = []
    original = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, n: seen.append(n) or original(p, n))
    running = Fit(SPEC.build(0), data, recipe(gradient_norm=1e-3), 1, Workers())
    running.step()
    total = math.sqrt(sum(p.grad.square().sum().item() for p in running.model.parameters()))
    assert seen == [1e-3]
    assert total == pytest.approx(1e-3, rel=1e-2)


def test_the_learning_rate_stays_or_falls_along_half_a_cosine(data):
    def rates(final):
        running = Fit(SPEC.build(0), data, recipe(learning_rate=0.01, final_learning_rate=final), 1, Workers())
        for _ in range(20):
            running.step()
            yield running.optimiser.param_groups[0]["lr"]

    assert set(rates(None)) == {0.01}
    falling = list(rates(0.002))
    assert (falling[0], falling[10]) == (pytest.approx(0.01), pytest.approx(0.006))
    assert falling == sorted(falling, reverse=True)


def test_the_optimiser_holds_every_parameter_with_torch_conventions(data):
    """Nobody's auxiliary network is forgotten; betas are decay rates (0.9, 0.999), not 1 minus them."""
    model = ModelSpec(**{**vars(SPEC), "name": "sdgm", "options": {"hidden": [6], "bayesian": "all"}}).build(0)
    running = Fit(model, data, recipe(), 1, Workers())
    (group,) = running.optimiser.param_groups
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters()}
    assert group["betas"] == (0.9, 0.999)
    assert group["weight_decay"] == 0


def test_training_lowers_the_objective_and_leaves_the_model_in_evaluation_mode(data):
    ended = {"latent_warmup": 0.0, "weight_warmup": 0.0, "responsibility_start": 0.0, "responsibility_end": 0.0}
    model = SPEC.build(0)
    history = fit(model, data, recipe(150, learning_rate=0.01, **ended), 1)
    assert history[-1]["objective"] < history[0]["objective"] - 1
    assert not model.training


def test_a_model_without_unlabelled_examples_trains_on_the_labelled_ones(data):
    alone = replace(data, x_unlabelled=data.x_unlabelled[:0])
    history = fit(SPEC.build(0), alone, recipe(5), 1)
    assert "unlabelled_bound" not in history[0]


@pytest.mark.parametrize("spec", [SPEC, NORMALISED, CLUSTERS], ids=["m2", "vae", "cagem"])
def test_a_model_without_labels_is_a_model_of_x(data, spec):
    """Nothing is classified, and the bound rises."""
    nobody = replace(data, x_labelled=data.x_labelled[:0], y=data.y[:0])
    history = fit(spec.build(0), nobody, recipe(60, learning_rate=0.03), 1)
    assert not {"labelled_bound", "classification"} & set(history[0])
    assert history[-1]["unlabelled_bound"] > history[0]["unlabelled_bound"] + 0.3


def test_values_that_never_vary_have_no_density_without_bound():
    """E[log p(x + u step)] + D log step bounds a log-probability: it is below 0. Without the noise it is soon above."""
    bounds, step, same = {}, 0.5, torch.zeros(40, 5)
    for kind in ("gaussian", "quantised"):
        options = {"hidden": [6], "latents": [2], "bayesian": "none"}
        model = replace(SPEC, name="vae", options=options, observation={"kind": kind, "step": step}).build(0)
        data = TrainingData(same[:10], torch.arange(10) % 3, same[10:])
        history = fit(model, data, recipe(300, learning_rate=0.03, final_learning_rate=0.0), seed=0)
        bounds[kind] = history[-1]["unlabelled_bound"] + 5 * math.log(step)
    assert -1 < bounds["quantised"] < 0 < bounds["gaussian"]


def test_a_job_starts_fresh_from_its_seed_or_from_the_weights_it_is_given(data):
    job = TrainingJob(SPEC, data, recipe(5), seed=3)
    device = torch.device("cpu")
    (model, history), (again, history_again) = job.run(device), job.run(device)
    assert history == history_again
    assert_same_weights(weights(model), weights(again))
    start = copy.deepcopy(model.state_dict())
    warm, warm_history = replace(job, start=start, recipe=recipe(5, learning_rate=1e-12)).run(device)
    assert warm_history != history
    for name, value in warm.state_dict().items():
        torch.testing.assert_close(value, start[name], rtol=0, atol=1e-6)
