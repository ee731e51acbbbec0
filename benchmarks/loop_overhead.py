"""Claim: a round costs little more than its training and scoring; what is known already is never computed again.

Runs the whole `dvc repro` in a copy of the working tree, then: again with nothing to do; with one more round; with
another acquisition function; and back with the first one. Rows:

    {stage, part, seconds}         mean of one round that also buys labels; `overhead` is all but fit, measure and score
    {stage: "once", part, seconds} what does not grow with the rounds, or is contained in another part
    {run, seconds, ran, cached}    wall clock of one `dvc repro`, the stages it ran and those it took from the cache

Parts: `dvc` is wall clock outside the stages' commands; `start and imports` ends when the stage's own clock starts
(measured alone for train and label); `files` is the rest of the stage's work; `ray import` happens within the fit's
seconds and is taken out of them; `tracking` is the rest of the training command, which waits until the round is shown
(MLflow's import and the opening of its store happen in a process of their own while the model is trained).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import parser, progress, report
from working_copy import WorkingCopy

from al_dgm.errors import one_line_errors

IMPORTS = {
    "train": "al_dgm.config, al_dgm.distributed.train, al_dgm.learning.rounds, pipelines.track",
    "label": "al_dgm.config, al_dgm.learning.labels",
}
REPEATS = 3
OTHER = {"bald": "margin"}  # what acquisition to switch to


def import_seconds(copy: WorkingCopy, modules: str) -> float:
    """Median seconds of a Python that starts, imports and ends."""
    taken = []
    for _ in range(REPEATS):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", f"import {modules}"], cwd=copy.folder, check=True)
        taken.append(time.monotonic() - began)
    return statistics.median(taken)


def start_up(copy: WorkingCopy) -> dict[str, float]:
    """Seconds of start and imports by stage, and of what is imported late."""
    seconds = {stage: import_seconds(copy, modules) for stage, modules in IMPORTS.items()}
    seconds["ray"] = import_seconds(copy, f"{IMPORTS['train']}, ray.train.torch") - seconds["train"]
    seconds["mlflow"] = import_seconds(copy, f"{IMPORTS['train']}, mlflow") - seconds["train"]
    return seconds


def stage_parts(copy: WorkingCopy, rounds: int, commands: Mapping[str, float], start: Mapping[str, float]) -> list[Any]:
    """Rows of one mean round: where the seconds of its three commands went."""
    sums: dict[tuple[str, str], float] = {}

    def add(stage: str, part: str, seconds: float) -> None:
        sums[stage, part] = sums.get((stage, part), 0.0) + seconds / rounds

    for k in range(1, rounds + 1):
        folder = copy.folder / "rounds" / str(k)
        train, acquire = (json.loads((folder / name).read_text()) for name in ("timings.json", "acquire.json"))
        add("train", "fit", train["fit_seconds"] - start["ray"])
        add("train", "ray import", start["ray"])
        add("train", "start and imports", start["train"])
        add("train", "measure", train["evaluate_seconds"])
        add("train", "files", train["total_seconds"] - train["fit_seconds"] - train["evaluate_seconds"])
        add("train", "tracking", commands[f"train@{k}"] - start["train"] - train["total_seconds"])
        add("acquire", "score", acquire["score_seconds"])
        add("acquire", "start and imports", commands[f"acquire@{k}"] - acquire["total_seconds"])
        add("acquire", "files", acquire["total_seconds"] - acquire["score_seconds"])
        add("label", "start and imports", start["label"])
        add("label", "files", commands[f"label@{k}"] - start["label"])
    return [{"stage": stage, "part": part, "seconds": seconds} for (stage, part), seconds in sums.items()]


def run(copy: WorkingCopy, what: str) -> dict[str, Any]:
    """One `dvc repro` as a row."""
    progress(f"dvc repro: {what}")
    seconds = copy.repro()
    progress(f"  {seconds:.1f} s; ran {len(copy.ran)} stages, {len(copy.cached)} from the cache")
    return {"run": what, "seconds": seconds, "ran": copy.ran, "cached": copy.cached}


def measure(copy: WorkingCopy, rounds: int, acquisition: str) -> list[dict[str, Any]]:
    """All rows."""
    start = start_up(copy)
    whole = run(copy, "the whole loop")
    commands = copy.stage_seconds()
    idle = run(copy, "nothing to do")
    parts = stage_parts(copy, rounds, commands, start)
    own = whole["seconds"] - sum(commands.values())
    parts.append({"stage": "all", "part": "dvc", "seconds": 3 * (own - idle["seconds"]) / len(commands)})
    overhead = sum(row["seconds"] for row in parts if row["part"] not in {"fit", "score", "measure"})
    parts.append({"stage": "all", "part": "overhead", "seconds": overhead})
    parts.append({"stage": "once", "part": "dvc start", "seconds": idle["seconds"]})
    parts.append({"stage": "once", "part": "mlflow import, meanwhile", "seconds": start["mlflow"]})
    copy.add_round()
    runs = [whole, idle, run(copy, "one more round")]
    other = OTHER.get(acquisition, "bald")
    copy.change({"acquisition.name": other})
    runs.append(run(copy, f"acquisition {other} instead of {acquisition}"))
    copy.change({"acquisition.name": acquisition})
    runs.append(run(copy, f"acquisition {acquisition} again"))
    return [*parts, *runs]


def main() -> None:
    """Measure in a temporary copy and report."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=8, help="how often labels are bought (default: %(default)s)")
    options.add_argument("--steps", type=int, help="gradient steps of a fit (default: the recipe's)")
    options.add_argument("--acquisition", default="bald", help="the first one (default: %(default)s)")
    given = options.parse_args()
    changes = {"acquisition.name": given.acquisition} | ({"training.steps": given.steps} if given.steps else {})
    with tempfile.TemporaryDirectory(prefix="loop_overhead-") as name:
        copy = WorkingCopy.make(Path(name) / "copy", changes, given.rounds)
        rows = measure(copy, given.rounds, given.acquisition)
    report("loop_overhead", rows, given.results, rounds=given.rounds, steps=given.steps)


if __name__ == "__main__":
    with one_line_errors():
        main()
