"""Not a stage: how the stages `train` and `report` show the loop in MLflow.

MLflow takes seconds to import and to open its store. A training therefore starts a process that does so meanwhile,
shows the earlier rounds, and waits for the word that this one is trained: `python -m pipelines.track --round K`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from al_dgm.config import Params, load_params
from al_dgm.errors import one_line_errors
from al_dgm.learning.layout import Layout
from al_dgm.tracking.address import check_reachable, default_artifact_location, default_uri
from al_dgm.tracking.base import Tracker
from al_dgm.tracking.rounds import round_record, sync
from pipelines import parse_round

TRAINED = "trained\n"


def check_tracking(params: Params, layout: Layout) -> None:
    """Refuse to start training for a server that does not answer."""
    if params.tracking.enabled:
        check_reachable(default_uri(layout.home))


def track(params: Params, layout: Layout, upto: int, files: Sequence[Path] = ()) -> None:
    """Mirror rounds 1 to ``upto``, and ``files``, into MLflow."""
    if not params.tracking.enabled:
        return
    tracker = open_tracker(params, layout)
    sync(tracker, params, layout.rounds, upto)
    tracker.log_files(files)
    tracker.close()


def open_tracker(params: Params, layout: Layout) -> Tracker:
    """The experiment that params.yaml names, in the store that the environment names."""
    from al_dgm.tracking.mlflow import MlflowTracker

    uri = default_uri(layout.home)
    return MlflowTracker(uri, params.tracking.experiment, default_artifact_location(uri, layout.home))


@contextmanager
def tracked(params: Params, k: int) -> Iterator[None]:
    """Show round k in MLflow once what is done in this context is done.

    A server that dies meanwhile is no reason to lose a trained model: a later round, or the report, shows this one.
    """
    if not params.tracking.enabled:
        yield
        return
    command = [sys.executable, "-m", "pipelines.track", "--round", str(k)]
    # Leaving this block closes the pipes, which ends a tracker that was given no word, and waits for it.
    with Popen(command, stdin=PIPE, stderr=PIPE, text=True) as tracker:  # noqa: S603 - our own interpreter
        yield
        _, said = tracker.communicate(TRAINED)
        sys.stderr.write(said)  # not before: it would come in the middle of the progress bar's line
    if tracker.returncode:
        print(f"al-dgm: warning: round {k} is kept but not shown in MLflow yet", file=sys.stderr)


def main() -> None:
    """Show the rounds before round k; and k itself when standard input says that it is trained."""
    k, params, layout = parse_round(__doc__), load_params(), Layout.here()
    tracker = open_tracker(params, layout)
    sync(tracker, params, layout.rounds, k - 1)
    if sys.stdin.readline() == TRAINED:
        tracker.log_round(round_record(layout.round(k)))
        tracker.close()


if __name__ == "__main__":
    with one_line_errors():
        main()
