"""The loop in MLflow: one parent run a loop, one child run a round. The only ``import mlflow``.

::

    experiment
    └── parent run     tag al_dgm.loop; the metrics of every round, step = number of labels, so that charts compare
        │              strategies over labels; the figures
        ├── child run  tag al_dgm.round = 1; the round's metrics, its training curve by step, its model
        └── child run  tag al_dgm.round = 2; …

Runs are named by id in every call; MLflow's "active run" is never used, so this may live inside any other program.
MLflow keeps both of two points logged for one (metric, step). Hence nothing is logged that is already there, and a
parent that holds a point which is no longer true is rebuilt without it.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from filelock import FileLock

from al_dgm.errors import TrackingError
from al_dgm.tracking.address import check_reachable, shown, sqlite_path
from al_dgm.tracking.base import LoopRecord, RoundRecord

LOOP, ROUND, LABELS, CONTENT = "al_dgm.loop", "al_dgm.round", "al_dgm.labels", "al_dgm.content"
_PARENT = "mlflow.parentRunId"
_BATCH = 1000  # metrics; MLflow's own limit of one log_batch
_PARAMS = 100  # likewise, parameters
_ALL = 50_000  # likewise, runs of one search

# Ours unless the user set them: no telemetry, nothing on the terminal, and seconds instead of minutes of retrying.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


def _import_mlflow() -> ModuleType:
    """MLflow (3-5 s), silenced."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: PLC0415  only who tracks pays for it

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    silenced: ModuleType = mlflow
    return silenced


@contextmanager
def _translated(uri: str) -> Iterator[None]:
    """What MLflow, its database and the network raise, as a `TrackingError` of one line."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrackingError(f"{shown(uri)}: {first}") from None


@dataclass
class _Child:
    """What the tracker knows about a round's run."""

    run_id: str
    round: int
    labels: int
    content: str  # empty while it is being written
    metrics: set[str]


class MlflowTracker:
    """Tracker that mirrors loops into the MLflow experiment of the given name.

    Args:
        uri: the tracking store; see `address.default_uri`.
        experiment: name of the experiment, created if there is none.
        artifact_location: where a new experiment keeps its files; None leaves it to the server.

    Raises:
        TrackingError: nobody answers at ``uri``, or the experiment is deleted.
    """

    def __init__(self, uri: str, experiment: str, artifact_location: str | None) -> None:
        check_reachable(uri)
        self._uri = uri
        self._mlflow = _import_mlflow()
        with _translated(uri):
            _create_sqlite_store(uri)
            self._client = self._mlflow.MlflowClient(tracking_uri=uri)
            self._experiment = self._find_experiment(experiment, artifact_location)
        self._loop: LoopRecord | None = None
        self._parent = ""
        self._children: dict[int, _Child] = {}
        self._points: dict[str, dict[int, float]] = {}

    def _find_experiment(self, name: str, artifact_location: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self._client.create_experiment(name, artifact_location=artifact_location))
            except self._mlflow.MlflowException:
                if (found := self._client.get_experiment_by_name(name)) is None:  # no other process was faster
                    raise
        if found.lifecycle_stage != "active":
            restore = f"mlflow experiments restore --experiment-id {found.experiment_id}"
            raise TrackingError(f"{shown(self._uri)}: experiment '{name}' is deleted; restore it with `{restore}`")
        return str(found.experiment_id)

    def open_loop(self, loop: LoopRecord) -> None:
        """Find the loop's run and its rounds, or create the run."""
        with _translated(self._uri):
            self._loop = loop
            runs = self._search(loop.key)
            parents = [run for run in runs if ROUND not in run.data.tags]
            # The oldest is whole: a rebuild deletes it only when its successor holds everything.
            self._parent = parents[0].info.run_id if parents else self._create_parent(loop)
            for superfluous in parents[1:]:
                self._client.delete_run(superfluous.info.run_id)
            names = parents[0].data.metrics if parents else {}
            self._points = {name: self._history(name) for name in names}
            self._adopt([run for run in runs if ROUND in run.data.tags])

    def log_round(self, record: RoundRecord) -> None:
        """One round on its own run and, at step = number of labels, on the loop's."""
        self._opened()
        content = record.content()
        with _translated(self._uri):
            old = self._children.get(record.round)
            if old is None or old.content != content:
                if old is not None:
                    self._client.delete_run(old.run_id)
                self._children[record.round] = self._create_child(record, content)
            else:
                self._add_timings(old, record)
            self._log_on_parent(record)

    def log_files(self, paths: Sequence[Path]) -> None:
        """Files or folders as artifacts of the loop's run."""
        self._opened()
        with _translated(self._uri):
            self._upload(self._parent, paths)

    def close(self) -> None:
        """The loop's run is finished until something more is logged."""
        self._opened()
        with _translated(self._uri):
            self._client.set_terminated(self._parent)

    def _opened(self) -> LoopRecord:
        if self._loop is None:
            raise TrackingError("tracker: expected open_loop before anything is logged")
        return self._loop

    def _search(self, key: str) -> list[Any]:
        """All runs of the loop, the oldest first."""
        found = self._client.search_runs(
            [self._experiment],
            filter_string=f"tags.`{LOOP}` = '{key}'",
            max_results=_ALL,
            order_by=["attributes.start_time ASC"],
        )
        return list(found)

    def _adopt(self, runs: Sequence[Any]) -> None:
        """Know the rounds' runs; those of one round twice, and those left half written, are deleted."""
        self._children = {}
        for run in runs:
            tags, run_id = run.data.tags, run.info.run_id
            if run.info.status != "FINISHED" or int(tags[ROUND]) in self._children:
                self._client.delete_run(run_id)
                continue
            if tags.get(_PARENT) != self._parent:
                self._client.set_tag(run_id, _PARENT, self._parent)
            child = _Child(run_id, int(tags[ROUND]), int(tags[LABELS]), tags[CONTENT], set(run.data.metrics))
            self._children[child.round] = child

    def _create_parent(self, loop: LoopRecord) -> str:
        tags = {**loop.tags, LOOP: loop.key}
        run_id: str = self._client.create_run(self._experiment, tags=tags, run_name=loop.name).info.run_id
        self._log_params(run_id, loop.params)
        return run_id

    def _create_child(self, record: RoundRecord, content: str) -> _Child:
        loop = self._opened()
        own = {_PARENT: self._parent, LOOP: loop.key, ROUND: record.round, LABELS: record.labels, CONTENT: content}
        tags = {**loop.tags, **{name: str(value) for name, value in own.items()}}
        name = f"round {record.round}: {record.labels} labels"
        run_id: str = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
        values = {**record.metrics, **record.timings}
        self._log_metrics(run_id, [(key, value, record.labels) for key, value in values.items()])
        self._log_metrics(run_id, record.curve())
        self._upload(run_id, record.artifacts)
        self._client.set_terminated(run_id)  # the last word: a run without it was killed and is made again
        return _Child(run_id, record.round, record.labels, content, set(values))

    def _add_timings(self, child: _Child, record: RoundRecord) -> None:
        """A round is scored after it is logged for the first time; the seconds of that come later."""
        new = {name: value for name, value in record.timings.items() if name not in child.metrics}
        self._log_metrics(child.run_id, [(name, value, record.labels) for name, value in new.items()])
        child.metrics |= set(new)

    def _log_on_parent(self, record: RoundRecord) -> None:
        """The round's point of each metric, unless a later round has as many labels and so the same step."""
        step, rounds = record.labels, self._children.values()
        if any(child.labels == step and child.round > record.round for child in rounds):
            return
        outdated = {known for points in self._points.values() for known in points} - {child.labels for child in rounds}
        if any(self._points.get(name, {}).get(step, value) != value for name, value in record.metrics.items()):
            outdated.add(step)
        if outdated:
            self._rebuild_parent(outdated)
        values = {**record.metrics, **record.timings}
        new = {name: value for name, value in values.items() if step not in self._points.get(name, {})}
        self._log_metrics(self._parent, [(name, value, step) for name, value in new.items()])
        for name, value in new.items():
            self._points.setdefault(name, {})[step] = value

    def _rebuild_parent(self, outdated: set[int]) -> None:
        """A new parent run with all that the old one holds but the steps ``outdated``.

        Its rounds are adopted last; `open_loop` mends whatever a kill leaves undone.
        """
        old, self._parent = self._parent, self._create_parent(self._opened())
        self._points = {
            name: {step: value for step, value in points.items() if step not in outdated}
            for name, points in self._points.items()
        }
        kept = [(name, value, step) for name, points in self._points.items() for step, value in points.items()]
        self._log_metrics(self._parent, kept)
        if self._client.list_artifacts(old):
            with tempfile.TemporaryDirectory() as folder:
                self._client.download_artifacts(old, "", folder)
                self._client.log_artifacts(self._parent, folder)
        self._client.delete_run(old)
        for child in self._children.values():
            self._client.set_tag(child.run_id, _PARENT, self._parent)

    def _history(self, name: str) -> dict[int, float]:
        return {point.step: point.value for point in self._client.get_metric_history(self._parent, name)}

    def _log_metrics(self, run_id: str, points: Sequence[tuple[str, float, int]]) -> None:
        now = time.time_ns() // 1_000_000
        metrics = [self._mlflow.entities.Metric(name, value, now, step) for name, value, step in points]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        entries = [self._mlflow.entities.Param(name, str(value)) for name, value in params.items()]
        for start in range(0, len(entries), _PARAMS):
            self._client.log_batch(run_id, params=entries[start : start + _PARAMS])

    def _upload(self, run_id: str, paths: Sequence[Path]) -> None:
        for path in paths:
            if path.is_dir():
                self._client.log_artifacts(run_id, str(path), artifact_path=path.name)
            else:
                self._client.log_artifact(run_id, str(path))


def _create_sqlite_store(uri: str) -> None:
    """Create a fresh SQLite store whole: made under another name, then renamed, by one process at a time.

    Two processes that open one fresh file both start MLflow's migrations and break it for good; so does a kill in
    the midst of them.
    """
    path = sqlite_path(uri)
    if path is None or (path.exists() and path.stat().st_size):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    mlflow = _import_mlflow()
    with FileLock(f"{path}.lock"):
        if path.exists() and path.stat().st_size:
            return
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            fresh = Path(folder) / "fresh.db"
            mlflow.MlflowClient(tracking_uri=f"sqlite:///{fresh}").search_experiments(max_results=1)
            fresh.replace(path)
