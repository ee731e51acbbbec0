"""The mirror of a loop through a real MLflow server on the loopback."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from al_dgm.tracking.base import LoopRecord, RoundRecord
from al_dgm.tracking.mlflow import MlflowTracker


@pytest.fixture
def server(tmp_path):
    """Address of a server with one worker; ended with the test."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=tmp_path)
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def wait_for(uri, process):
    """Until the server is healthy, two minutes at most."""
    for _ in range(240):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    pytest.fail("the server did not start")


def test_a_loop_through_a_server(server, tmp_path, capfd):
    """A round logged twice by two clients: one child, one point, its model with the server, nothing on the terminal."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    loop = LoopRecord("loop:server", "bald", {"strategy": "bald"}, {"seed": 0})
    for _ in range(2):
        tracker = MlflowTracker(server, "served", None)
        tracker.open_loop(loop)
        tracker.log_round(RoundRecord(1, 20, {"accuracy": 0.5}, artifacts=[model], timings={"fit_seconds": 1.0}))
        tracker.log_files([model / "model.json"])
        tracker.close()
    parent, child = sorted(tracker._search(loop.key), key=lambda run: "al_dgm.round" in run.data.tags)
    points = tracker._client.get_metric_history(parent.info.run_id, "accuracy")
    assert [(point.step, point.value) for point in points] == [(20, 0.5)]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    stored = tracker._client.download_artifacts(child.info.run_id, "model/model.json", str(tmp_path))
    assert Path(stored).read_text() == "{}"
    assert capfd.readouterr() == ("", "")
