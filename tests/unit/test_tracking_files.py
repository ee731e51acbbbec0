"""Records, addresses and the mirror of the loop's files: all of tracking that needs no MLflow."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from al_dgm.config import parse_params
from al_dgm.errors import DataError, TrackingError
from al_dgm.tracking import address
from al_dgm.tracking.base import RoundRecord
from al_dgm.tracking.rounds import loop_record, round_record, sync

OURS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
PARAMS = OURS | {
    "seed": 3,
    "data": {"name": "digits", "shard_size": 100, "digits": {"holdout": 597}, "mnist": {}},
    "model": {"name": "m2", "ensemble": 1, "m2": {"latent": 8}, "sdgm": {"latent": 4}},
    "acquisition": OURS["acquisition"] | {"name": "bald"},
}


class Recorder:
    """A tracker that remembers what it was told."""

    def __init__(self):
        self.loop, self.rounds, self.closed = None, [], 0

    def open_loop(self, loop):
        """The loop."""
        self.loop = loop

    def log_round(self, record):
        """The rounds, in order."""
        self.rounds.append(record)

    def log_files(self, paths):
        """Nothing."""

    def close(self):
        """How often."""
        self.closed += 1


def write_round(rounds, k, labels, accuracy=0.5):
    """The files of a trained round."""
    folder = rounds / str(k)
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.json").write_text("{}")
    scores = {"accuracy": accuracy, "nll": 1.5, "ece": 0.1, "brier": 0.4, "bound": None, "kl_weights": 0.2, "steps": 10}
    head = {"round": k, "labels": labels, "model": "m2", "kl_weights_per_layer": {"classifier.0": 0.2}}
    (folder / "metrics.json").write_text(json.dumps({**head, **scores}))
    (folder / "timings.json").write_text(
        json.dumps({"fit_seconds": 2.0, "evaluate_seconds": 1.0, "total_seconds": 4.0})
    )
    (folder / "history.csv").write_text("step,objective\n5,3.0\n10,2.0\n")
    return folder


def test_a_round_is_read_from_its_files(tmp_path):
    """Numbers become metrics, null and names do not, nested numbers get a path, times stay apart."""
    record = round_record(write_round(tmp_path, 2, 30))
    assert (record.round, record.labels) == (2, 30)
    assert record.metrics["kl_weights_per_layer/classifier.0"] == 0.2
    assert set(record.metrics).isdisjoint({"bound", "model", "round", "labels", "fit_seconds"})
    assert record.timings == {"fit_seconds": 2.0, "evaluate_seconds": 1.0, "train_total_seconds": 4.0}
    assert record.curve() == [("train/objective", 3.0, 5), ("train/objective", 2.0, 10)]
    assert [path.name for path in record.artifacts] == ["model"]


def test_an_infinite_score_is_not_mirrored(tmp_path):
    """A class thought impossible has an infinite NLL; MLflow's database has no such number."""
    folder = write_round(tmp_path, 1, 20)
    content = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(content | {"nll": float("inf")}))
    metrics = round_record(folder).metrics
    assert "nll" not in metrics
    assert "accuracy" in metrics


def test_what_acquiring_took_joins_what_training_took(tmp_path):
    """Both files have a total; neither hides the other, and a count of candidates is no time."""
    folder = write_round(tmp_path, 1, 20)
    (folder / "acquire.json").write_text(json.dumps({"score_seconds": 5.0, "total_seconds": 6.0, "candidates": 100}))
    timings = round_record(folder).timings
    assert (timings["train_total_seconds"], timings["acquire_total_seconds"], timings["score_seconds"]) == (
        4.0,
        6.0,
        5.0,
    )
    assert "candidates" not in timings


def test_content_follows_results_and_model_but_not_times(tmp_path):
    """The same result at another speed is the same round; another byte in the model is not."""
    folder = write_round(tmp_path, 1, 20)
    before = round_record(folder).content()
    (folder / "timings.json").write_text(json.dumps({"fit_seconds": 9.0}))
    assert round_record(folder).content() == before
    (folder / "model" / "model.json").write_text("[]")
    assert round_record(folder).content() != before


@pytest.mark.parametrize(
    "change", [{"labels": 21}, {"metrics": {"accuracy": 0.6}}, {"history": pd.DataFrame({"step": [1]})}]
)
def test_content_changes_with_every_part(change):
    """Labels, metrics and curve each count."""
    given = {"round": 1, "labels": 20, "metrics": {"accuracy": 0.5}, "history": None}
    assert RoundRecord(**given).content() != RoundRecord(**(given | change)).content()


def test_a_curve_has_no_points_that_are_not_finite():
    """NaN and infinity cannot be drawn."""
    history = pd.DataFrame({"step": [1, 2, 3], "objective": [1.0, float("nan"), float("inf")]})
    assert RoundRecord(1, 20, {}, history).curve() == [("train/objective", 1.0, 1)]


def test_sync_shows_the_rounds_asked_for(tmp_path):
    """upto ends the loop, though there may be files of more rounds."""
    for k in (1, 2, 3):
        write_round(tmp_path, k, 10 * k)
    recorder = Recorder()
    sync(recorder, parse_params(PARAMS), tmp_path, upto=2)
    assert [record.round for record in recorder.rounds] == [1, 2]
    assert recorder.closed == 1


def test_sync_misses_a_round_loudly(tmp_path):
    """A round that should be there and is not is an error that names the file."""
    write_round(tmp_path, 1, 10)
    with pytest.raises(DataError, match=r"2/metrics\.json: file not found"):
        sync(Recorder(), parse_params(PARAMS), tmp_path, upto=2)


def test_a_loop_is_named_by_what_changes_its_results(monkeypatch):
    """Another seed is another loop; another cluster, or another name that DVC gives the experiment, is not."""
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    record = loop_record(parse_params(PARAMS))
    assert record.key == loop_record(parse_params(PARAMS | {"compute": PARAMS["compute"] | {"workers": 2}})).key
    assert record.key != loop_record(parse_params(PARAMS | {"seed": 4})).key
    monkeypatch.setenv("DVC_EXP_NAME", "tidy's-lynx")
    named = loop_record(parse_params(PARAMS))
    assert named.key == record.key
    assert named.tags["experiment"] == "tidy_s-lynx"


@pytest.mark.parametrize(("selector", "strategy"), [("top_k", "bald"), ("power", "power bald")])
def test_the_strategy_is_score_and_selector(selector, strategy):
    """Power-BALD and BALD are two strategies, to be told apart in MLflow."""
    chosen = PARAMS["acquisition"] | {"selector": PARAMS["acquisition"]["selector"] | {"name": selector}}
    record = loop_record(parse_params(PARAMS | {"acquisition": chosen}))
    assert record.tags["strategy"] == strategy
    assert record.name.startswith(f"{strategy}, ")


def test_a_loop_shows_its_settings_flat():
    """Dotted paths; the block that was not chosen and the cluster are left out."""
    record = loop_record(parse_params(PARAMS))
    assert record.params["model.m2.latent"] == 8
    assert record.params["acquisition.selector.name"] == OURS["acquisition"]["selector"]["name"]
    assert record.params["data.shard_size"] == 100
    assert record.params["training.steps"] == OURS["training"]["steps"]
    assert not [name for name in record.params if name.startswith(("compute", "tracking", "model.sdgm"))]
    assert {"strategy": "bald", "model": "m2", "dataset": "digits", "seed": "3"}.items() <= record.tags.items()


def test_tracking_without_mlflow_loads_neither_mlflow_nor_torch():
    """A stage that only reads files or has tracking off starts at once."""
    code = "import sys, al_dgm.tracking.rounds, al_dgm.tracking.address, al_dgm.tracking.mlflow; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"mlflow", "torch"}.isdisjoint(loaded)
    assert "al_dgm.tracking.rounds" in loaded


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        (None, "sqlite:///{root}/mlflow.db"),
        ("sqlite:///other.db", "sqlite:///{root}/other.db"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_the_default_address(tmp_path, monkeypatch, variable, expected):
    """A file in the user's working copy, whatever folder a stage runs in; the environment goes first."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    if variable:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    assert address.default_uri(tmp_path) == expected.format(root=tmp_path)


def test_artifacts_lie_beside_the_file_or_with_the_server(tmp_path):
    """An absolute place for a local store; a server knows its own."""
    assert address.default_artifact_location("sqlite:////x.db", tmp_path) == f"file://{tmp_path}/mlartifacts"
    assert address.default_artifact_location("https://host", tmp_path) is None


def test_a_dead_server_is_found_out_in_seconds():
    """One line that names the variable, without loading MLflow and without the password."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = taken.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(
            TrackingError, match=f"MLFLOW_TRACKING_URI=.*no server answers at 127.0.0.1:{port}"
        ) as caught:
            address.check_reachable(f"http://me:secret@127.0.0.1:{port}")
    assert time.monotonic() - began < 4
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_live_server_and_a_fresh_file_pass(tmp_path):
    """Whoever listens is let through; so is a file that does not exist yet."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address.check_reachable(f"http://127.0.0.1:{server.getsockname()[1]}")
    address.check_reachable(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.mark.parametrize("uri", ["http://host:port", "http://host:99999"])
def test_an_impossible_port_is_named(uri):
    """What urllib says of it, as our error."""
    with pytest.raises(TrackingError, match=f"MLFLOW_TRACKING_URI={uri}: "):
        address.check_reachable(uri)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    """MLflow would retry it for minutes."""
    path = tmp_path / "mlflow.db"
    path.write_text("name,value\n")
    with pytest.raises(TrackingError, match="expected an SQLite database, got a file that starts with b'name,val'"):
        address.check_reachable(f"sqlite:///{path}")


def test_how_to_look():
    """A local file needs a server; a server needs a browser."""
    assert address.ui_command("sqlite:////a b/mlflow.db").endswith("--backend-store-uri 'sqlite:////a b/mlflow.db'")
    assert address.ui_command("http://host:5000") == "python -m webbrowser http://host:5000"
