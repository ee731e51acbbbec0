"""What a fit is known by, and what is refused before one starts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_project import PROJECT, make_project

from al_dgm.config import load_params
from al_dgm.data.half_moons import half_moons
from al_dgm.data.prepared import load_pool, prepare
from al_dgm.data.raw import Observation
from al_dgm.distributed import train as distributed
from al_dgm.errors import ConfigError
from al_dgm.learning import rounds, training
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.fit import TrainingData
from al_dgm.learning.job import ModelSpec, TrainingJob

PARAMS = load_params(PROJECT / "params.yaml")


def job():
    """A fit of logistic regression."""
    spec = ModelSpec("logistic", {}, 2, ("a", "b"), {"kind": "gaussian", "trials": 1}, centre=0.0, spread=1.0)
    data = TrainingData(torch.arange(8.0).view(4, 2), torch.tensor([0, 1, 0, 1]), torch.ones(3, 2))
    return TrainingJob(spec, data, PARAMS.training, seed=1)


def moved(tensor):
    """The same tensor with one number changed."""
    other = tensor.clone()
    other.view(-1)[-1] += 1
    return other


def test_the_digest_names_all_that_decides_the_result(monkeypatch):
    """Data, labels, model, recipe, seed, start and code each change it; the label before the progress bar does not."""
    one, data = job(), job().data
    others = [
        replace(one, seed=2),
        replace(one, recipe=one.recipe.model_copy(update={"steps": 7})),
        replace(one, spec=replace(one.spec, options={"bayesian": True})),
        replace(one, spec=replace(one.spec, ensemble=2)),
        replace(one, start=dict(one.spec.build(0).state_dict())),
        *(
            replace(one, data=replace(data, **{name: moved(getattr(data, name))}))
            for name in ("x_labelled", "y", "x_unlabelled")
        ),
    ]
    digests = {one.digest(), *(other.digest() for other in others)}
    assert len(digests) == 1 + len(others)
    assert replace(job(), label="another").digest() == one.digest()
    monkeypatch.setattr("al_dgm.learning.job._code", lambda: {"learning/fit.py": "another version"})
    assert one.digest() not in digests


def test_a_model_knows_the_shape_of_its_data(tmp_path):
    """From dataset.json through to what the networks are built for."""
    info = prepare(replace(half_moons(0, examples=60, holdout=20), shape=(1, 2)), tmp_path, shard_size=50, seed=0)
    spec = rounds.model_spec(PARAMS.model, info)
    assert (spec.features, spec.shape) == (2, (1, 2))
    assert spec.build(0).space.shape == (1, 2)


def test_quantised_data_are_drawn_by_their_own_step(tmp_path):
    """One whole number is one standard deviation's part of model space."""
    moons = half_moons(0, examples=60, holdout=20)
    whole = {"features": np.round(50 * moons.features), "observation": Observation(kind="quantised"), "shape": (1, 2)}
    info = prepare(replace(moons, **whole), tmp_path, shard_size=50, seed=0)
    model = rounds.model_spec(PARAMS.model, info).build(0)
    x = np.unique(load_pool(tmp_path).x[:, 0])
    assert model.space.observation.step == pytest.approx(np.diff(x).min(), rel=1e-4)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    """Before torch fails on it somewhere inside."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"compute\.gpu: expected a GPU"):
        set_up_torch(PARAMS.compute.model_copy(update={"gpu": True}))
    elsewhere = PARAMS.compute.model_copy(update={"gpu": True, "workers": 2})
    assert set_up_torch(elsewhere) == torch.device("cpu")  # the workers have it, and this process only measures


def test_more_workers_than_this_machine_has_are_refused(monkeypatch, caplog):
    """Ray would wait for ever; a cluster that is named may still grow, so there it only says what it waits for."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    distributed._check_room({"CPU": 3.0}, 3, "CPU", here=True)
    assert not caplog.messages
    with pytest.raises(ConfigError, match=r"compute\.workers: .* CPUs, 2, got 3"):
        distributed._check_room({"CPU": 2.0}, 3, "CPU", here=True)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    distributed._check_room({"CPU": 2.0}, 3, "CPU", here=True)
    assert "waiting for the cluster to grow" in caplog.text


def test_a_checkpoint_is_kept_until_the_round_is_written_and_belongs_to_its_data(tmp_path, monkeypatch):
    """A failure while measuring loses no fit; other features under the same ids and labels are another fit."""
    project = make_project(tmp_path / "project")
    params, layout = load_params(project.folder / "params.yaml"), project.layout
    keys = []

    def train(job, compute, key, storage):
        """Instead of training: a checkpoint, and the model as it starts."""
        keys.append(key)
        (storage / key).mkdir(parents=True, exist_ok=True)
        return job.spec.build(0).eval(), [{"step": 1.0, "objective": 1.0}]

    with monkeypatch.context() as patch:
        patch.setattr(training, "evaluate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rounds.train_round(params, layout, 1, train)
    assert (layout.checkpoints / keys[0]).is_dir()
    rounds.train_round(params, layout, 1, train)
    assert keys[1] == keys[0]
    assert not (layout.checkpoints / keys[0]).exists()

    raw = half_moons(0, examples=60, holdout=20)
    prepare(replace(raw, features=raw.features + 1), layout.prepared, shard_size=50, seed=0)
    rounds.train_round(params, layout, 1, train)
    assert keys[2] != keys[1]
