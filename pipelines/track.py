"""Not a stage: how the stages `train` and `report` show the loop in MLflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from al_dgm.config import Params
from al_dgm.errors import TrackingError
from al_dgm.learning.layout import Layout
from al_dgm.tracking.address import check_reachable, default_artifact_location, default_uri
from al_dgm.tracking.rounds import sync


def check_tracking(params: Params, layout: Layout) -> None:
    """Refuse to start training for a server that does not answer."""
    if params.tracking.enabled:
        check_reachable(default_uri(layout.home))


def track(params: Params, layout: Layout, upto: int, files: Sequence[Path] = ()) -> None:
    """Mirror rounds 1 to ``upto``, and ``files``, into MLflow."""
    if not params.tracking.enabled:
        return
    from al_dgm.tracking.mlflow import MlflowTracker

    uri = default_uri(layout.home)
    tracker = MlflowTracker(uri, params.tracking.experiment, default_artifact_location(uri, layout.home))
    sync(tracker, params, layout.rounds, upto)
    tracker.log_files(files)
    tracker.close()


def track_if_possible(params: Params, layout: Layout, upto: int) -> None:
    """`track`, but a server that died meanwhile is no reason to lose a trained model: a later round shows this one."""
    try:
        track(params, layout, upto)
    except TrackingError as error:
        print(f"al-dgm: warning: round {upto} is kept but not shown in MLflow yet: {error}", file=sys.stderr)
