"""The members of an ensemble as one program: clipped, resumed, compiled, shared between workers, and in a round."""

import copy
import json
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from small_fit import CORRUPTED, NORMALISED, SPEC, STAGES, OnDisk, assert_same_weights, recipe, small_data, weights
from small_project import make_project
from team import Team

from al_dgm.config import load_params
from al_dgm.errors import TrainingError
from al_dgm.labelling.query import read_query
from al_dgm.learning import fit as fits
from al_dgm.learning.acquire import acquire_round
from al_dgm.learning.ensemble_fit import EnsembleFit, clip_each
from al_dgm.learning.fit import Checkpoints, Fit, Workers, fit
from al_dgm.learning.job import TrainingJob
from al_dgm.learning.model_files import SPEC as SPEC_FILE
from al_dgm.learning.model_files import load_model
from al_dgm.learning.rounds import train_round
from al_dgm.models.ensemble import Ensemble
from al_dgm.nn.noise import generator
from al_dgm.seeding import integer_seed

N = 3
ENSEMBLE = replace(SPEC, ensemble=N)


@pytest.fixture
def data():
    return small_data()


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(fits, "WINDOW", 5)


def gradients(running):
    """Of the objective at step 7, before anything is done to them."""
    loss, _ = running.objective_at(7)
    loss.backward()
    return {name: parameter.grad for name, parameter in running.model.named_parameters()}


def test_each_member_has_the_gradient_of_its_own_objective(data):
    """Neither divided by the number of members nor mixed; every weight [n, ...]."""
    ensemble = ENSEMBLE.build(0)
    found = gradients(EnsembleFit(ensemble, data, recipe(), 1, Workers()))
    for m, member in enumerate(ensemble.members):
        expected = gradients(Fit(member, data, recipe(), integer_seed(1, "member", m), Workers()))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name][m], value, rtol=1e-4, atol=1e-5)


def test_gradients_are_clipped_member_by_member():
    """One far above the norm, one below it, one without any gradient: as torch does it for each alone."""
    scales = torch.tensor([100.0, 0.01, 0.0]).view(-1, 1, 1)
    stacked = [torch.nn.Parameter(torch.zeros(N, *shape)) for shape in ((4, 2), (3, 1))]
    for seed, parameter in enumerate(stacked):
        parameter.grad = scales * torch.randn(parameter.shape, generator=generator(seed))
    alone = [[torch.nn.Parameter(torch.zeros(p.shape[1:])) for p in stacked] for _ in range(N)]
    for m, parameters in enumerate(alone):
        for own, together in zip(parameters, stacked, strict=True):
            own.grad = together.grad[m].clone()
        torch.nn.utils.clip_grad_norm_(parameters, 1.5)
    clip_each([*stacked, torch.nn.Parameter(torch.zeros(N))], 1.5)
    for index, parameter in enumerate(stacked):
        torch.testing.assert_close(parameter.grad, torch.stack([parameters[index].grad for parameters in alone]))


@pytest.mark.parametrize(
    "spec", [SPEC, NORMALISED, CORRUPTED, STAGES], ids=["m2", "normalised layers", "corrupted", "two stages"]
)
def test_an_ensemble_resumed_at_any_window_is_bitwise_the_undisturbed_one(data, spec):
    """Weights, averages, statistics and curve; whatever the fresh members' own weights were."""
    about, settings, kept = replace(spec, ensemble=2), recipe(15, unlabelled_batch=7), OnDisk()
    whole = about.build(0)
    history = fit(whole, data, settings, 1, checkpoints=Checkpoints(kept, seconds=0))
    for index in range(len(kept.states)):
        resumed = about.build(99)
        assert fit(resumed, data, settings, 1, checkpoints=Checkpoints(resume=kept.load(index))) == history
        assert_same_weights(weights(resumed), weights(whole))


def test_a_compiled_ensemble_is_one_program(data, monkeypatch):
    """No graph break and no second compilation; the curve is the plain ensemble's to rounding.

    Captured as always, but run without generated code, which takes a minute to compile.
    """
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    fitted, curves = [ENSEMBLE.build(0) for _ in range(2)], []
    for ensemble, compile_step in zip(fitted, (False, True), strict=True):
        with torch._dynamo.config.patch(error_on_recompile=True):
            curves.append(fit(ensemble, data, recipe(10), 1, compile_step=compile_step))
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    for plain, compiled in zip(*curves, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("spec", [SPEC, NORMALISED], ids=["m2", "normalised layers"])
def test_two_workers_train_the_ensemble_that_one_trains(data, spec):
    """Gradients and statistics are averaged over the halves of every member's minibatch."""
    about, settings = replace(spec, ensemble=2), recipe(5)
    alone = about.build(0)
    (expected,) = fit(alone, data, settings, 1)
    (first, (curve,)), (second, (other_curve,)) = Team(2).fit(data, settings, about)
    assert curve == other_curve == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert_same_weights(weights(first), weights(second))
    for name, value in alone.state_dict().items():
        # A normalised layer takes its bias off again: its gradient is rounding, which Adam makes steps of.
        if spec is SPEC or not name.endswith(("layers.0.bias", "norms.0.mean")):
            torch.testing.assert_close(first.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_a_member_that_diverges_ends_the_fit_of_all(data):
    ensemble = ENSEMBLE.build(0)
    with torch.no_grad():
        ensemble.members[1].decoder.layers[0].bias.fill_(math.nan)
    with pytest.raises(
        TrainingError, match=r"^training: (un)?labelled_bound is nan at step 0; expected a finite number"
    ):
        fit(ensemble, data, recipe(), 1)


def test_rounded_products_end_with_the_fit_and_members_predict(data):
    ensemble = ENSEMBLE.build(0)
    fit(ensemble, data, recipe(5, precision="bfloat16"), 1)
    assert not any(module.training for module in ensemble.modules())
    assert all(module.matmul is None for module in ensemble.modules() if hasattr(module, "matmul"))


def test_a_job_of_an_ensemble_starts_from_the_weights_it_is_given(data):
    job = TrainingJob(ENSEMBLE, data, recipe(5), seed=3)
    model, _ = job.run(torch.device("cpu"))
    start = copy.deepcopy(model.state_dict())
    warm, _ = replace(job, start=start, recipe=recipe(5, learning_rate=1e-12)).run(torch.device("cpu"))
    for name, value in warm.state_dict().items():
        torch.testing.assert_close(value, start[name], rtol=0, atol=1e-6)


def test_a_round_trains_an_ensemble_of_point_weights_and_asks_by_bald(tmp_path):
    """From params.yaml to the query: members on disk, information in the scores, bounds and no KL in the metrics."""
    project = make_project(tmp_path / "project")
    project.set_all({"model.ensemble": 2, "model.m2.bayesian": "none", "acquisition.name": "bald"})
    params, layout = load_params(project.folder / "params.yaml"), project.layout
    train_round(params, layout, 1, lambda job, *_: job.run(torch.device("cpu")))
    model, spec, _ = load_model(layout.round(1) / "model")
    assert isinstance(model, Ensemble)
    assert (spec.ensemble, len(model.members)) == (2, 2)
    metrics = json.loads((layout.round(1) / "metrics.json").read_text())
    assert math.isfinite(metrics["bound"])
    assert (metrics["kl_weights"], metrics["kl_weights_per_layer"]) == (0, {})
    acquire_round(params, layout, 1)
    query = read_query(layout.round(1) / "query.parquet")
    assert query.scores[0] > 1e-6
    assert min(query.scores) >= 0


def test_the_divergence_of_an_ensemble_is_the_mean_of_its_members(tmp_path):
    """So that it is one of the same size as that of a single model, layer by layer."""
    project = make_project(tmp_path / "project")
    project.set("model.ensemble", 2)
    params, layout = load_params(project.folder / "params.yaml"), project.layout
    train_round(params, layout, 1, lambda job, *_: job.run(torch.device("cpu")))
    model, _, _ = load_model(layout.round(1) / "model")
    metrics = json.loads((layout.round(1) / "metrics.json").read_text())
    layers = metrics["kl_weights_per_layer"]
    assert set(layers) == {"classifier.layers.0", "classifier.layers.1"}
    expected = sum(member.classifier.layers[0].kl().item() for member in model.members) / 2 / 60
    assert layers["classifier.layers.0"] == pytest.approx(expected, rel=1e-5)


def test_a_model_file_from_before_ensembles_is_one_model(tmp_path):
    project = make_project(tmp_path / "project")
    params, layout = load_params(project.folder / "params.yaml"), project.layout
    train_round(params, layout, 1, lambda job, *_: (job.spec.build(0).eval(), [{"step": 1, "objective": 1.0}]))
    path = layout.round(1) / "model" / SPEC_FILE
    content = json.loads(path.read_text())
    assert content.pop("ensemble") == 1
    path.write_text(json.dumps(content))
    assert not isinstance(load_model(layout.round(1) / "model")[0], Ensemble)
