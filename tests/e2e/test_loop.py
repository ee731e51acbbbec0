"""The loop as users run it: DVC, real stages, real files."""

from __future__ import annotations

import json
import sys

import pandas as pd
from conftest import GIT, WorkingCopy
from mlflow import MlflowClient


def labels(copy: WorkingCopy, k: int) -> pd.DataFrame:
    return pd.read_parquet(copy.folder / "rounds" / str(k) / "labels.parquet")


def test_rounds_are_cached_added_and_reused(working_copy: WorkingCopy):
    """Nothing changed: nothing runs. One more round: only that. Another acquisition: the start is reused."""
    ran = working_copy.stages_run("dvc", "repro")
    assert ran == [
        "prepare",
        "seed_set",
        *(f"{stage}@{k}" for k in (1, 2) for stage in ("train", "acquire", "label")),
        "train@3",
        "report",
    ]
    assert [len(labels(working_copy, k)) for k in range(3)] == [20, 30, 40]
    assert labels(working_copy, 2)["id"].is_unique
    assert labels(working_copy, 2).head(30).equals(labels(working_copy, 1))

    assert working_copy.stages_run("dvc", "repro") == []

    working_copy.run(sys.executable, "-m", "al_dgm", "rounds", "3")
    assert working_copy.stages_run("dvc", "repro") == ["acquire@3", "label@3", "train@4", "report"]

    working_copy.set(acquisition__name="margin")
    ran = working_copy.stages_run("dvc", "repro", "label@1")
    assert ran == ["acquire@1", "label@1"]

    working_copy.set(acquisition__name="bald", acquisition__selector__power__beta=3.0, compute__checkpoint_seconds=1.0)
    assert working_copy.stages_run("dvc", "repro") == []


def test_a_changed_table_is_prepared_anew(working_copy: WorkingCopy):
    """A row more in a user's file: one example more, without being asked for. Nothing more: nothing runs."""
    file = working_copy.folder / "data/raw/table.csv"
    file.write_text("height,weight,label\n" + "".join(f"{i},{i % 7},{'ab'[i % 2]}\n" for i in range(40)))
    working_copy.set(data__name="table")
    assert working_copy.stages_run("dvc", "repro", "prepare") == ["prepare"]
    assert working_copy.stages_run("dvc", "repro", "prepare") == []
    with file.open("a") as table:
        table.write("40,3,\n")
    assert working_copy.stages_run("dvc", "repro", "prepare") == ["prepare"]
    assert json.loads((working_copy.folder / "data/prepared/dataset.json").read_text())["examples"] == 33


def test_people_answer_in_their_own_time(working_copy: WorkingCopy):
    """A round waits with exit code 75, takes partial answers and skips, and goes on when the last one has come."""
    copy = working_copy
    copy.set(
        labels={"name": "csv", "csv": {"folder": "answers"}},
        seed_set={"size": 12, "strategy": "random"},
        acquisition__query_size=4,
    )
    waiting = copy.run("dvc", "repro", check=False)
    assert waiting.returncode != 0
    assert "al-dgm: waiting: round 0: 0 of 12 answers have come" in waiting.stderr
    assert copy.run(sys.executable, "-m", "pipelines.seed_set", check=False).returncode == 75

    truth = pd.read_parquet(copy.folder / "data/prepared/truth.parquet").set_index("id")["label"]

    def answer(first: int) -> None:
        """Fill in the first rows of the newest table."""
        newest = max((copy.folder / "answers").glob("*.csv"), key=lambda path: path.stat().st_mtime_ns)
        table = pd.read_csv(newest, dtype=str)
        rows = table.index[:first]
        table.loc[rows, "label"] = table.loc[rows, "id"].map(truth)
        table.to_csv(newest, index=False)

    answer(7)
    assert "round 0: 7 of 12 answers" in copy.run("dvc", "repro", check=False).stderr
    answer(12)
    assert "round 1: 0 of 4 answers" in copy.run("dvc", "repro", check=False).stderr
    ledger = labels(copy, 0)
    assert len(ledger) == 12
    assert (ledger["label"] == ledger["id"].map(truth)).all()


def test_an_experiment_is_compared_and_found_again_in_mlflow(working_copy: WorkingCopy):
    """Another strategy in a temporary copy: the same MLflow; one that died finds its loop; DVC compares metrics."""
    copy = working_copy
    copy.set(tracking__enabled=True)
    copy.run(sys.executable, "-m", "al_dgm", "rounds", "1")
    copy.run("dvc", "repro")
    copy.run(*GIT, "add", "--all")
    copy.run(*GIT, "commit", "--quiet", "--message", "random")
    experiment = ("dvc", "exp", "run", "--temp", "--set-param", "acquisition.name=random")
    copy.run(*experiment, "train@2")  # as far as a killed one came, under a name of its own
    copy.run(*experiment, "--name", "second")

    client = MlflowClient(tracking_uri=f"sqlite:///{copy.folder / 'mlflow.db'}")
    (found,) = (one.experiment_id for one in client.search_experiments() if one.name == "al-dgm")
    runs = client.search_runs([found], max_results=100)
    loops = {run.info.run_id: run.data.tags["strategy"] for run in runs if "al_dgm.round" not in run.data.tags}
    assert sorted(loops.values()) == ["bald", "random"]
    for parent in loops:
        rounds = [run.data.tags["al_dgm.round"] for run in runs if run.data.tags.get("mlflow.parentRunId") == parent]
        assert sorted(rounds) == ["1", "2"]
        assert [point.step for point in client.get_metric_history(parent, "accuracy")] == [20, 30]

    shown = json.loads(copy.run("dvc", "metrics", "diff", "HEAD", "second", "--json").stdout)
    assert "accuracy" in shown["report/metrics.json"]
