"""A model trained outside the loop: the same code on labels that the user names, and what it may start from."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest
import torch
from small_project import make_project

from al_dgm.config import load_params
from al_dgm.data.prepared import Scale, load_holdout, load_info, load_truth
from al_dgm.errors import AlDgmError, ConfigError, DataError
from al_dgm.labelling.ledger import consensus, empty, read_ledger, write_ledger
from al_dgm.learning.alone import draw_alone, evaluate_alone, known_labels, load_alone, train_alone
from al_dgm.learning.model_files import labelled_ids, load_model, save_model
from al_dgm.learning.rounds import train_round


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("alone") / "project")


@pytest.fixture
def params(project):
    """Of a loop over half moons."""
    return load_params(project.folder / "params.yaml", ["training.steps=20"])


class Trainer:
    """Trains in this process, and remembers what it was asked for."""

    def __init__(self):
        self.jobs, self.keys = [], []

    def __call__(self, job, compute, key, storage):
        """As `al_dgm.distributed.train.train`."""
        self.jobs.append(job)
        self.keys.append(key)
        return job.run(torch.device("cpu"))


def test_on_the_same_labels_it_is_the_first_rounds_model(project, params, tmp_path):
    """The same job, hence the same weights, metrics and predictions, all in one folder."""
    trainer, out = Trainer(), tmp_path / "alone"
    train_round(params, project.layout, 1, trainer)
    ledger = project.layout.round(0) / "labels.parquet"
    found = train_alone(params, project.layout, str(ledger), out, None, trainer)
    assert trainer.jobs[0].digest() == trainer.jobs[1].digest()
    assert trainer.keys[0] != trainer.keys[1]  # of checkpoints: neither takes the other's away
    assert load_model(out)[2] == load_model(project.layout.round(1) / "model")[2]
    measured = json.loads((out / "metrics.json").read_text())
    assert measured == found
    assert {"round": 1, **measured} == json.loads((project.layout.round(1) / "metrics.json").read_text())
    assert {path.name for path in out.iterdir()} == {
        *("model.json", "model.safetensors", "labelled.parquet", "params.json"),
        *("history.csv", "metrics.json", "predictions.parquet", "timings.json"),
    }
    used = json.loads((out / "params.json").read_text())
    assert (used["known_labels"], used["from"], used["model"]["name"]) == (str(ledger), None, "m2")
    assert used["training"]["steps"] == params.training.steps


def test_labels_are_a_number_of_each_class_alike_or_all_or_a_ledgers(project, params):
    """Each of them true; the numbers are those of the loop's balanced seed set."""
    info, truth = load_info(project.layout.prepared), load_truth(project.layout.prepared)
    ledger = project.layout.round(0) / "labels.parquet"
    for wanted, count in {"0": 0, "none": 0, "6": 6, "10": 10, "all": 60, str(ledger): 6}.items():
        found = known_labels(wanted, project.layout, info, params.seed)
        assert len(found) == count
        assert all(truth[name] == label for name, label in found.items())
    ten = known_labels("10", project.layout, info, params.seed)
    assert set(ten.value_counts()) == {5}
    pd.testing.assert_series_equal(
        known_labels("6", project.layout, info, params.seed).sort_index(),
        consensus(read_ledger(ledger)),
        check_names=False,
        check_dtype=False,
        check_index_type=False,
    )


@pytest.mark.parametrize("model", ["vae", "m2"])
@pytest.mark.parametrize("weighting", ["sum", "mean"])
def test_a_model_of_x_needs_no_labels(model, weighting, project, tmp_path):
    """Nothing of labels is in its training curve, and everything in it is finite."""
    changes = [f"model.name={model}", f"training.weighting={weighting}", "training.steps=60"]
    params = load_params(project.folder / "params.yaml", changes)
    found = train_alone(params, project.layout, "none", tmp_path, None, Trainer())
    assert found["labels"] == 0
    history = pd.read_csv(tmp_path / "history.csv")
    assert "unlabelled_bound" in history
    assert not {"labelled_bound", "classification"} & set(history)
    assert history.notna().all(axis=None)


def test_fine_tuning_starts_from_the_saved_weights_with_other_minibatches(project, tmp_path):
    """Options that change no weight may change, such as the number of importance samples."""
    trainer, first, second = Trainer(), tmp_path / "first", tmp_path / "second"
    small = ["model.name=vae", "training.steps=2", "model.vae.hidden=[6]", "model.vae.latents=[2]"]
    file = project.folder / "params.yaml"
    train_alone(load_params(file, small), project.layout, "none", first, None, trainer)
    samples = ["model.vae.importance_samples=5", "model.vae.monte_carlo_samples=2"]
    finer = [*small, *samples, "training.learning_rate=1e-4"]
    train_alone(load_params(file, finer), project.layout, "none", second, first, trainer)
    before, after = trainer.jobs
    saved, _, version = load_model(first)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in after.start.items())
    assert after.seed != before.seed
    assert load_model(second)[0].importance_samples == 5
    assert json.loads((second / "params.json").read_text())["from"] == version
    moved = [(after.start[name] - value).abs().max() for name, value in load_model(second)[0].state_dict().items()]
    assert 0 < max(moved) < 1e-3  # two steps of at most the learning rate each


def test_a_killed_training_goes_on_when_asked_for_again(project, params, tmp_path):
    """The same checkpoints under the same words, others under others."""
    trainer = Trainer()
    for out, labels in ((tmp_path / "a", "6"), (tmp_path / "b", "6"), (tmp_path / "c", "8")):
        train_alone(params, project.layout, labels, out, None, trainer)
    assert trainer.keys[0] == trainer.keys[1] != trainer.keys[2]


def test_the_folder_is_tried_before_the_training(project, params, tmp_path):
    """A file stands where the folder should be."""
    trainer = Trainer()
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="cannot be written"):
        train_alone(params, project.layout, "6", tmp_path / "file", None, trainer)
    assert trainer.jobs == []


@pytest.mark.parametrize(
    ("labels", "start", "changes", "message"),
    [
        ("100", None, [], "--labels 100: expected at least 50 examples of class 'upper', got 30"),
        ("", None, [], "--labels: expected a number, all, none, or the file of a ledger, got ''"),
        (".", None, [], "--labels: expected a number, all, none, or the file of a ledger, got '.'"),
        ("some", None, [], "--labels: expected a number, all, none, or the file of a ledger, got 'some'"),
        ("-3", None, [], "--labels: expected a number, all, none, or the file of a ledger, got '-3'"),
        (__file__, None, [], "test_alone.py: expected a Parquet file"),
        ("0", None, ["model.name=logistic"], "expected at least one, since model 'logistic' is supervised, got none"),
        ("0", None, ["training.unlabelled_batch=0"], "expected at least one, since training.unlabelled_batch is 0"),
        ("6", "nothing", [], "no model here; `dvc repro` or `al-dgm train` makes one"),
        ("6", "m2", ["model.name=vae"], "m2: expected a model with name vae, got m2"),
        ("6", "m2", ["model.ensemble=2"], "m2: expected a model with ensemble 2, got 1"),
        ("6", "m2", ["model.m2.latent=3"], "m2: expected a model with the sizes of model.m2: latent 3, got "),
        ("6", "m2", ["model.m2.bayesian=none"], "with the sizes of model.m2: bayesian none, got classifier"),
        ("1", None, [], "--labels: expected none, or one of each of 2 classes, got 1"),
        ("no/ledger.parquet", None, [], "the file of a ledger, got 'no/ledger.parquet', where there is no file"),
        ("6", None, ["training.label_neighbours=5", "model.name=mlp"], "got 5: model 'mlp' sees no unlabelled example"),
        ("6", None, ["training.label_neighbours=5", "training.unlabelled_batch=0"], "training.unlabelled_batch is 0"),
        ("6", None, ["training.consistency_weight=4.0"], "training.consistency_weight: expected 0, got 4.0: the class"),
        ("6", None, ["model.m2.latent=0"], "model.m2.latent: input should be greater than 0, got 0"),
        ("6", None, ["model.m2.hidden=[8, -1]"], "model.m2.hidden.1: input should be greater than 0, got -1"),
        ("6", None, ["model.m2.latents=3"], "model.m2.latents: unknown option (did you mean 'latent'?)"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_it_is(labels, start, changes, message, project, tmp_path):
    file, trainer = project.folder / "params.yaml", Trainer()
    saved = None if start is None else tmp_path / start
    if start == "m2":
        train_alone(load_params(file, ["training.steps=1"]), project.layout, "6", saved, None, Trainer())
    with pytest.raises(AlDgmError, match=re.escape(message)):
        train_alone(load_params(file, changes), project.layout, labels, tmp_path / "out", saved, trainer)
    assert trainer.jobs == []
    assert not (tmp_path / "out").exists()


def test_a_model_in_the_way_is_left_alone(project, params, tmp_path):
    """Not even a part of it is replaced."""
    train_alone(params, project.layout, "6", tmp_path, None, Trainer())
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=r"--out .*: a model is there already; name another"):
        train_alone(params, project.layout, "8", tmp_path, None, Trainer())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_training_that_was_killed_while_it_measured_goes_on(project, params, tmp_path):
    """Under the same parameters and no others."""
    train_alone(params, project.layout, "6", tmp_path, None, Trainer())
    whole = (tmp_path / "metrics.json").read_bytes()
    for name in ("metrics.json", "timings.json"):
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match="a model is there already"):
        train_alone(params, project.layout, "8", tmp_path, None, Trainer())
    train_alone(params, project.layout, "6", tmp_path, None, Trainer())
    assert (tmp_path / "metrics.json").read_bytes() == whole


def test_a_ledger_without_labels_is_none_to_train_on(project, params, tmp_path):
    path = tmp_path / "ledger.parquet"
    write_ledger(path, empty())
    with pytest.raises(DataError, match=r"ledger.parquet: expected a ledger with at least one label, got none"):
        train_alone(params, project.layout, str(path), tmp_path / "out", None, Trainer())


def test_a_model_remembers_whose_labels_it_has_learnt_from(project, params, tmp_path):
    """Those of the model that it started from too; so does a round's."""
    truth = load_truth(project.layout.prepared)
    for name, labels, start in (("all", "all", None), ("six", "6", None), ("tuned", "6", tmp_path / "all")):
        train_alone(params, project.layout, labels, tmp_path / name, start, Trainer())
    assert labelled_ids(tmp_path / "all") == labelled_ids(tmp_path / "tuned") == set(truth)
    train_round(params, project.layout, 1, Trainer())
    six = set(read_ledger(project.layout.round(0) / "labels.parquet")["id"])
    assert labelled_ids(tmp_path / "six") == labelled_ids(project.layout.round(1) / "model") == six


def test_a_model_that_saw_labels_of_the_holdout_is_neither_measured_nor_started_from(project, params, tmp_path):
    """As one would have that was trained on another split."""
    train_alone(params, project.layout, "6", tmp_path / "model", None, Trainer())
    held = load_holdout(project.layout.prepared, load_info(project.layout.prepared)).ids
    model, spec, _ = load_model(tmp_path / "model")
    save_model(tmp_path / "model", spec, model, ["another", *sorted(held)[2:4]])
    leaked = f"expected a model that saw no label of the holdout, got one that saw 2 of 20, such as '{sorted(held)[2]}'"
    with pytest.raises(ConfigError, match=re.escape(leaked)):
        evaluate_alone(params, project.layout, tmp_path / "model", samples=2)
    with pytest.raises(ConfigError, match=re.escape(leaked)):
        train_alone(params, project.layout, "6", tmp_path / "out", tmp_path / "model", Trainer())
    assert not (tmp_path / "out").exists()


def test_a_model_of_other_data_is_not_measured(project, params, tmp_path):
    """Features, classes, the kind of observation, and what x means have to agree."""
    train_alone(params, project.layout, "6", tmp_path, None, Trainer())
    info = load_info(project.layout.prepared)
    load_alone(tmp_path, info)
    others = {
        "shape": (3,),
        "classes": ("a", "b"),
        "observation": info.observation.model_copy(update={"kind": "bernoulli"}),
    }
    for field, value in others.items():
        with pytest.raises(ConfigError, match="expected a model with "):
            load_alone(tmp_path, info.model_copy(update={field: value}))
    for field, value in {"feature_names": ("a", "b"), "scale": Scale(mean=(0.0,), sd=(3.0,))}.items():
        with pytest.raises(ConfigError, match="got one of other features or of another scale"):
            load_alone(tmp_path, info.model_copy(update={field: value}))


def test_measuring_again_gives_the_scores_of_the_training_and_bounds_besides(project, params, tmp_path):
    """The ELBO of other draws is near that of the loop's common ones; a supervised model has none."""
    trained = train_alone(params, project.layout, "6", tmp_path / "m2", None, Trainer())
    found = evaluate_alone(params, project.layout, tmp_path / "m2", samples=20)
    assert {name: found[name] for name in ("accuracy", "nll", "ece")} == pytest.approx(
        {name: trained[name] for name in ("accuracy", "nll", "ece")}
    )
    assert found["elbo"] == pytest.approx(trained["bound"], abs=0.2)
    assert found["elbo"] < found["importance_weighted"]
    assert (found["importance_samples"], found["examples"]) == (20, 20)


def test_what_saw_no_label_has_bounds_and_no_scores(project, tmp_path):
    params = load_params(project.folder / "params.yaml", ["model.name=vae", "training.steps=2"])
    for name, labels, start in (("first", "none", None), ("tuned", "none", "first"), ("labelled", "6", "tuned")):
        train_alone(params, project.layout, labels, tmp_path / name, start and tmp_path / start, Trainer())
        found = evaluate_alone(params, project.layout, tmp_path / name, samples=20)
        assert ("accuracy" in found) == (name == "labelled")
        assert found["elbo"] < found["importance_weighted"]


def test_an_ensemble_is_measured_as_a_mixture_and_drawn_by_its_first_member(project, tmp_path):
    """The pictures are those of that member saved alone."""
    params = load_params(project.folder / "params.yaml", ["model.ensemble=2", "training.steps=20"])
    train_alone(params, project.layout, "6", tmp_path / "both", None, Trainer())
    found = evaluate_alone(params, project.layout, tmp_path / "both", samples=20)
    assert found["elbo"] < found["importance_weighted"]
    model, spec, _ = load_model(tmp_path / "both")
    save_model(tmp_path / "first", replace(spec, ensemble=1), model.members[0])
    for name in ("both", "first"):
        draw_alone(params, project.layout, tmp_path / name, tmp_path / name / "figures", ["generation", "latents"])
    drawn = {path.name: path.read_bytes() for path in (tmp_path / "both" / "figures").iterdir()}
    assert drawn == {path.name: path.read_bytes() for path in (tmp_path / "first" / "figures").iterdir()}
    assert set(drawn) == {"generation.png", "latents.png"}


def test_a_supervised_model_has_neither_bounds_nor_pictures(project, tmp_path):
    params = load_params(project.folder / "params.yaml", ["model.name=logistic", "training.steps=2"])
    train_alone(params, project.layout, "6", tmp_path, None, Trainer())
    assert "elbo" not in evaluate_alone(params, project.layout, tmp_path, samples=20)
    with pytest.raises(DataError, match="expected a generative model such as m2, got 'logistic', which has no latents"):
        draw_alone(params, project.layout, tmp_path, tmp_path / "figures", [])
