"""MLflow's mirror of a loop, against a real SQLite store (one for the module: creating it takes seconds)."""

import subprocess
import sys
import time
from dataclasses import replace

import pandas as pd
import pytest

from al_dgm.errors import TrackingError
from al_dgm.tracking.base import LoopRecord, RoundRecord
from al_dgm.tracking.mlflow import MlflowTracker

PARENT = "mlflow.parentRunId"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Address of a store, and the place of its artifacts."""
    root = tmp_path_factory.mktemp("store")
    uri, artifacts = f"sqlite:///{root}/mlflow.db", (root / "mlartifacts").as_uri()
    MlflowTracker(uri, "unit", artifacts)
    return uri, artifacts


@pytest.fixture
def loop(request):
    """A loop of this test's own."""
    tags = {"strategy": "bald", "model": "m2", "dataset": "digits", "seed": "0", "git_commit": "abc"}
    return LoopRecord(request.node.name.replace("[", "-"), "bald, digits", tags, {"model.name": "m2"})


@pytest.fixture
def opened(store, loop):
    """A function that opens the loop as a new process would."""

    def again(record=loop):
        tracker = MlflowTracker(store[0], "unit", store[1])
        tracker.open_loop(record)
        return tracker

    return again


def round_of(k, labels, accuracy=0.5, **more):
    history = pd.DataFrame({"step": [10, 20], "objective": [3.0, 2.0]})
    given = {"history": history, "timings": {"fit_seconds": 1.0}, **more}
    return RoundRecord(k, labels, {"accuracy": accuracy, "nll": 1.5}, **given)


def seen(tracker, loop):
    """(parents, children by round) that are visible now."""
    runs = tracker._search(loop.key)
    parents = [run for run in runs if "al_dgm.round" not in run.data.tags]
    children = [run for run in runs if "al_dgm.round" in run.data.tags]
    return parents, sorted(children, key=lambda run: int(run.data.tags["al_dgm.round"]))


def points(tracker, run, name):
    return [(point.step, point.value) for point in tracker._client.get_metric_history(run.info.run_id, name)]


def test_a_loop_is_a_parent_with_a_child_a_round(opened, loop, tmp_path):
    """Accuracy over labels on the parent, the training curve by step and the model on the child, tags on both."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    tracker = opened()
    tracker.log_round(round_of(1, 20, 0.5, artifacts=[model]))
    tracker.log_round(round_of(2, 30, 0.7))
    tracker.close()
    (parent,), (first, second) = seen(tracker, loop)
    assert points(tracker, parent, "accuracy") == [(20, 0.5), (30, 0.7)]
    assert points(tracker, parent, "fit_seconds") == [(20, 1.0), (30, 1.0)]
    assert points(tracker, first, "train/objective") == [(10, 3.0), (20, 2.0)]
    assert points(tracker, second, "accuracy") == [(30, 0.7)]
    for run in (parent, first, second):
        assert loop.tags.items() <= run.data.tags.items()
        assert run.info.status == "FINISHED"
    assert {first.data.tags[PARENT], second.data.tags[PARENT]} == {parent.info.run_id}
    assert parent.data.params == {"model.name": "m2"}
    assert [file.path for file in tracker._client.list_artifacts(first.info.run_id, "model")] == ["model/model.json"]


def test_saying_it_again_changes_nothing(opened, loop):
    """Three times by three processes: the same runs, one point a step."""
    for _ in range(3):
        tracker = opened()
        for record in (round_of(1, 20, 0.5), round_of(2, 30, 0.7)):
            tracker.log_round(record)
            tracker.log_round(record)
    (parent,), children = seen(tracker, loop)
    assert len(children) == 2
    assert points(tracker, parent, "accuracy") == [(20, 0.5), (30, 0.7)]
    assert points(tracker, children[0], "train/objective") == [(10, 3.0), (20, 2.0)]
    first_ids = {child.info.run_id for child in children}
    opened().log_round(round_of(1, 20, 0.5))
    assert {child.info.run_id for child in seen(tracker, loop)[1]} == first_ids


@pytest.mark.parametrize("dies_in", ["_log_metrics", "_upload", "set_terminated", "_log_on_parent"])
def test_a_killed_stage_is_made_good_by_the_next(opened, loop, monkeypatch, dies_in):
    """Wherever the first attempt dies, the second leaves one whole child and one point."""
    first = opened()
    owner = first._client if dies_in == "set_terminated" else first

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, dies_in, die)
    with pytest.raises(KeyboardInterrupt):
        first.log_round(round_of(1, 20))
    second = opened()
    second.log_round(round_of(1, 20))
    (parent,), (child,) = seen(second, loop)
    assert child.info.status == "FINISHED"
    assert points(second, parent, "accuracy") == [(20, 0.5)]
    assert points(second, child, "train/objective") == [(10, 3.0), (20, 2.0)]


def test_a_batch_that_came_half_is_completed(opened, loop):
    """A parent that holds one of the round's metrics gets the other, and the first not twice."""
    tracker = opened()
    tracker._log_metrics(tracker._parent, [("accuracy", 0.5, 20)])
    again = opened()
    again.log_round(round_of(1, 20))
    (parent,), _ = seen(again, loop)
    assert points(again, parent, "accuracy") == [(20, 0.5)]
    assert points(again, parent, "nll") == [(20, 1.5)]


@pytest.mark.parametrize("new", [round_of(2, 30, 0.9), round_of(2, 28, 0.9)])
def test_a_round_that_came_out_differently_is_replaced(opened, loop, new, tmp_path):
    """The old child and the old point go, the other rounds and the figures stay."""
    figure = tmp_path / "curve.png"
    figure.write_bytes(b"png")
    tracker = opened()
    for record in (round_of(1, 20, 0.5), round_of(2, 30, 0.7)):
        tracker.log_round(record)
    tracker.log_files([figure])
    again = opened()
    again.log_round(new)
    (parent,), (first, second) = seen(again, loop)
    assert points(again, parent, "accuracy") == [(20, 0.5), (new.labels, 0.9)]
    assert points(again, parent, "fit_seconds") == [(20, 1.0), (new.labels, 1.0)]
    assert second.data.metrics["accuracy"] == 0.9
    assert {first.data.tags[PARENT], second.data.tags[PARENT]} == {parent.info.run_id}
    assert [file.path for file in again._client.list_artifacts(parent.info.run_id)] == ["curve.png"]


@pytest.mark.parametrize("dies_in", ["log_batch", "delete_run", "set_tag"])
def test_a_kill_while_the_parent_is_rebuilt_is_made_good(opened, loop, monkeypatch, tmp_path, dies_in):
    """Wherever the rebuilding dies, the next process ends with one parent, all points and the figures."""
    tracker = opened()
    figure = tmp_path / "curve.png"
    figure.write_bytes(b"png")
    tracker.log_files([figure])
    for record in (round_of(1, 20, 0.5), round_of(2, 30, 0.7)):
        tracker.log_round(record)
    dying = opened()
    dying._children[2] = replace(dying._children[2], labels=28)  # so that step 30 is nobody's any more

    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(dying._client, dies_in, die)
    with pytest.raises(KeyboardInterrupt):
        dying._log_on_parent(round_of(2, 28, 0.9))
    last = opened()
    for record in (round_of(1, 20, 0.5), round_of(2, 28, 0.9)):
        last.log_round(record)
    (parent,), children = seen(last, loop)
    assert points(last, parent, "accuracy") == [(20, 0.5), (28, 0.9)]
    assert [child.data.tags[PARENT] for child in children] == [parent.info.run_id] * 2
    assert [file.path for file in last._client.list_artifacts(parent.info.run_id)] == ["curve.png"]


def test_times_that_come_later_are_added(opened, loop):
    """The seconds of scoring are known after the round was logged; its run stays."""
    tracker = opened()
    tracker.log_round(round_of(1, 20))
    (child,) = seen(tracker, loop)[1]
    again = opened()
    for _ in range(2):
        again.log_round(round_of(1, 20, timings={"fit_seconds": 7.0, "score_seconds": 2.0}))
    (parent,), (same,) = seen(again, loop)
    assert same.info.run_id == child.info.run_id
    for run in (parent, same):
        assert points(again, run, "score_seconds") == [(20, 2.0)]
        assert points(again, run, "fit_seconds") == [(20, 1.0)]


def test_of_two_rounds_with_equal_labels_the_later_has_the_point(opened, loop):
    """A query that everybody skipped brings no label; the step is the same and holds one point."""
    for _ in range(2):
        tracker = opened()
        for record in (round_of(1, 20, 0.5), round_of(2, 20, 0.6)):
            tracker.log_round(record)
    (before,), _ = seen(tracker, loop)
    opened().log_round(round_of(1, 20, 0.5))
    (parent,), children = seen(tracker, loop)
    assert points(tracker, parent, "accuracy") == [(20, 0.6)]
    assert parent.info.run_id == before.info.run_id
    assert [child.data.metrics["accuracy"] for child in children] == [0.5, 0.6]


def test_two_loops_do_not_mix(opened, loop):
    """Each key has its own parent, children and points."""
    other = replace(loop, key=loop.key + ":other")
    for record, accuracy in ((loop, 0.5), (other, 0.9)):
        tracker = opened(record)
        tracker.log_round(round_of(1, 20, accuracy))
    for record, accuracy in ((loop, 0.5), (other, 0.9)):
        (parent,), (child,) = seen(tracker, record)
        assert points(tracker, parent, "accuracy") == [(20, accuracy)]
        assert child.data.tags[PARENT] == parent.info.run_id


def test_more_points_than_a_batch_holds(opened, loop):
    """1500 steps of two terms: MLflow takes 1000 points at once."""
    steps = range(1, 1501)
    history = pd.DataFrame({"step": steps, "objective": 1.0, "kl": 2.0})
    tracker = opened()
    tracker.log_round(round_of(1, 20, history=history))
    (child,) = seen(tracker, loop)[1]
    assert [step for step, _ in points(tracker, child, "train/kl")] == list(steps)


def test_logging_before_opening_is_refused(store):
    """There is no run to log on."""
    with pytest.raises(TrackingError, match="expected open_loop before"):
        MlflowTracker(*store[:1], "unit", store[1]).log_round(round_of(1, 20))


def test_what_mlflow_refuses_is_one_line(opened):
    """A metric name that MLflow does not take."""
    with pytest.raises(TrackingError, match=r"^sqlite:///.*mlflow\.db: Invalid") as caught:
        opened().log_round(RoundRecord(1, 20, {"a?b": 1.0}))
    assert "\n" not in str(caught.value)


def test_a_deleted_experiment_says_how_to_restore_it(store):
    """MLflow keeps its name taken."""
    client = MlflowTracker(store[0], "doomed", store[1])._client
    client.delete_experiment(client.get_experiment_by_name("doomed").experiment_id)
    with pytest.raises(TrackingError, match="'doomed' is deleted; restore it with `mlflow experiments restore"):
        MlflowTracker(store[0], "doomed", store[1])


def test_a_dead_server_fails_before_mlflow_is_loaded():
    """In seconds, not after MLflow's minutes of retrying."""
    began = time.monotonic()
    with pytest.raises(TrackingError, match=r"no server answers at 127\.0\.0\.1:9"):
        MlflowTracker("http://127.0.0.1:9", "unit", None)
    assert time.monotonic() - began < 5


FRESH = """
import sys
from al_dgm.tracking.mlflow import MlflowTracker
from al_dgm.tracking.base import LoopRecord, RoundRecord
uri, artifacts, key = sys.argv[1:]
tracker = MlflowTracker(uri, "fresh", artifacts)
tracker.open_loop(LoopRecord(key, key))
tracker.log_round(RoundRecord(1, 20, {"accuracy": 0.5}))
tracker.close()
"""


def test_two_processes_on_a_fresh_store(tmp_path):
    """Both create the store and the experiment at once; both log, neither prints, nothing is left over."""
    arguments = [f"sqlite:///{tmp_path}/mlflow.db", (tmp_path / "mlartifacts").as_uri()]
    command = [sys.executable, "-c", FRESH, *arguments]
    running = [
        subprocess.Popen([*command, key], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        for key in ("a", "b")
    ]
    assert [process.communicate(timeout=120) for process in running] == [("", "")] * 2
    assert [process.returncode for process in running] == [0, 0]
    tracker = MlflowTracker(*arguments[:1], "fresh", arguments[1])
    for key in ("a", "b"):
        (parent,), (child,) = seen(tracker, LoopRecord(key, key))
        assert points(tracker, parent, "accuracy") == [(20, 0.5)]
        assert child.data.metrics == {"accuracy": 0.5}
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
