"""A training and the process that shows it in MLflow: neither takes the other down."""

import sqlite3

import pytest
from small_project import make_project


@pytest.fixture
def project(tmp_path):
    """One training to do, tracked in a local file."""
    project = make_project(tmp_path / "project")
    project.set_all({"tracking.enabled": True, "training.steps": 2})
    return project


def statuses(project):
    """Of all runs in the project's MLflow file."""
    with sqlite3.connect(project.folder / "mlflow.db") as store:
        return [status for (status,) in store.execute("SELECT status FROM runs WHERE lifecycle_stage = 'active'")]


def ours(stderr):
    """The lines that are meant for the user."""
    return [line for line in stderr.splitlines() if line.startswith("al-dgm")]


def test_a_trained_round_is_shown(project):
    """The loop's run and the round's, both finished."""
    done = project.run("pipelines.train", "--round", "1")
    assert done.returncode == 0, done.stderr
    assert statuses(project) == ["FINISHED", "FINISHED"]


def test_a_failed_training_ends_its_tracker_which_shows_nothing_of_it(project):
    """The one error is the training's own; no process is left that would hold the store."""
    project.set("model.m2.hiden", [8])
    done = project.run("pipelines.train", "--round", "1")
    assert done.returncode == 1
    (line,) = ours(done.stderr)
    assert "hiden" in line
    assert statuses(project) == ["FINISHED"]  # the loop's own


def test_a_tracker_that_fails_costs_no_training(project):
    """A store that MLflow cannot read, though it looks like one: the model is kept, and both lines say so."""
    (project.folder / "mlflow.db").write_bytes(b"SQLite format 3\0" + bytes(4000))
    done = project.run("pipelines.train", "--round", "1")
    assert done.returncode == 0, done.stderr
    assert (project.layout.round(1) / "model" / "model.safetensors").exists()
    reason, consequence = ours(done.stderr)
    assert "mlflow.db" in reason
    assert consequence == "al-dgm: warning: round 1 is kept but not shown in MLflow yet"
