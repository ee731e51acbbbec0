"""Claim: whatever is killed, whenever, the loop ends with the same bytes and no label lost or doubled.

In a copy of the working tree a short loop runs once undisturbed. In a second copy, SIGKILL hits the driver and all
that it started at random moments spread over the stages, each time followed by a new `dvc repro`. Then a Ray worker is
killed in the midst of a fit. Rows:

    {moment, stage, checkpoint, killed, equal, lock_torn}
                                                 seconds after the stage began; whether a fit's state was kept by then;
                                                 whether all that was on disk right after the kill equals the
                                                 undisturbed run's bytes (a file is whole or absent); whether DVC's own
                                                 lock file was left half written, and had to be removed
    {moment: "end", stage: "all", …, checks}     every ledger, query, metrics.json, history and model; the labels; the
                                                 points in MLflow
    {moment: "first checkpoint", stage: "fit, N workers", killed, equal, max_abs_difference, weights}
                                                 training curve in nats, and largest difference of a final weight,
                                                 against the undisturbed fit on N workers
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import parser, progress, report
from fits import WorkerKiller, digits_job, has_checkpoint, run_fit
from working_copy import WorkingCopy, kill_session

from al_dgm.config import Params, load_params
from al_dgm.errors import one_line_errors
from al_dgm.labelling.ledger import read_ledger
from al_dgm.learning.outcome import read_metrics
from al_dgm.seeding import rng

KEPT = ("labels.parquet", "query.parquet", "metrics.json", "history.csv", "predictions.parquet", "model.safetensors")
TOLERANCE = 1e-4  # nats; sums over workers could come in another order


def result_files(copy: WorkingCopy) -> dict[str, bytes]:
    """Every file under rounds/ that must not depend on kills, by its path."""
    rounds = copy.folder / "rounds"
    found = [path for path in sorted(rounds.rglob("*")) if path.name in KEPT and path.is_file()]
    return {path.relative_to(rounds).as_posix(): path.read_bytes() for path in found}


def watch(copy: WorkingCopy) -> dict[str, float]:
    """Run the loop to its end; seconds of each stage, from its beginning to the next one's."""
    process, began, last = copy.start(), {}, ""
    for stage in copy.follow(process):
        began[stage] = time.monotonic()
        last = stage
    if process.wait() or not last:
        raise RuntimeError(f"dvc repro failed in {copy.folder}:\n{copy.output[-3000:]}")
    times = [*began.values(), time.monotonic()]
    return {stage: after - before for stage, before, after in zip(began, times, times[1:], strict=False)}


def plan(seconds: Mapping[str, float], kills: int, chance: np.random.Generator) -> list[tuple[str, float]]:
    """(stage, seconds after its beginning) of each kill, in the loop's order; every stage before any stage twice.

    What exceeds the number of stages goes to the training stages, which take longest.
    """
    stages = list(seconds)
    hit = list(chance.choice(stages, min(kills, len(stages)), replace=False))
    hit += list(chance.choice([stage for stage in stages if stage.startswith("train")], kills - len(hit)))
    ordered = sorted(map(str, hit), key=stages.index)
    return [(stage, chance.uniform(0.0, seconds[stage])) for stage in ordered]


def kill_once(copy: WorkingCopy, order: Sequence[str], target: str, delay: float) -> tuple[str, bool]:
    """Start `dvc repro` and kill it ``delay`` seconds into ``target``, or into the first stage after it that runs.

    Returns:
        (the stage that ran last, whether anything was killed: the loop may end before).
    """
    process, hit = copy.start(), ""
    for stage in copy.follow(process):
        hit = stage
        if order.index(stage) >= order.index(target):
            time.sleep(delay)
            break
    alive = process.poll() is None
    kill_session(process.pid)
    process.communicate()
    if not alive and process.returncode:
        raise RuntimeError(f"dvc repro failed in {copy.folder}:\n{copy.output[-3000:]}")
    return hit, alive


def disturb(
    copy: WorkingCopy, undisturbed: Mapping[str, bytes], seconds: Mapping[str, float], kills: int, seed: int
) -> list[dict[str, Any]]:
    """Kill, look, go on; one row a kill."""
    rows = []
    order = list(seconds)
    for number, (target, delay) in enumerate(plan(seconds, kills, rng(seed, "kills")), start=1):
        progress(f"kill {number} of {kills}: {delay:.2f} s into {target}")
        stage, killed = kill_once(copy, order, target, delay)
        left = result_files(copy)
        equal = all(undisturbed.get(name) == content for name, content in left.items())
        kept = has_checkpoint(copy.folder / "checkpoints")
        row = {"moment": delay, "stage": stage, "checkpoint": kept, "killed": killed, "equal": equal}
        rows.append({**row, "lock_torn": copy.mend_lock()})
    return rows


def mlflow_points(copy: WorkingCopy) -> dict[str, Any]:
    """What MLflow shows: loops, rounds by number, and of each loop's metrics how many points a step has at most."""
    from mlflow import MlflowClient  # noqa: PLC0415  seconds to import

    client = MlflowClient(tracking_uri=f"sqlite:///{copy.folder / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, filter_string="tags.`al_dgm.loop` != ''")
    loops = [run for run in runs if "al_dgm.round" not in run.data.tags]
    steps = [
        Counter(point.step for point in client.get_metric_history(loop.info.run_id, name))
        for loop in loops
        for name in loop.data.metrics
    ]
    return {
        "loops": len(loops),
        "rounds": sorted(int(run.data.tags["al_dgm.round"]) for run in runs if "al_dgm.round" in run.data.tags),
        "points_per_step": max(max(counts.values()) for counts in steps),
        "accuracy": {
            point.step: point.value
            for loop in loops
            for point in client.get_metric_history(loop.info.run_id, "accuracy")
        },
    }


def check_end(copy: WorkingCopy, undisturbed: Mapping[str, bytes], params: Params, rounds: int) -> dict[str, Any]:
    """The last row: everything, once the loop has ended."""
    folder = copy.folder / "rounds"
    ids = list(read_ledger(folder / str(rounds) / "labels.parquet")["id"])
    metrics = [read_metrics(folder / str(k)) for k in range(1, rounds + 2)]
    shown = mlflow_points(copy)
    checks = {
        "files": result_files(copy) == undisturbed,
        "labels": len(ids) == len(set(ids)) == params.seed_set.size + rounds * params.acquisition.query_size,
        "one_loop_in_mlflow": shown["loops"] == 1,
        "each_round_once_in_mlflow": shown["rounds"] == list(range(1, rounds + 2)),
        "one_point_per_step": shown["points_per_step"] == 1,
        "points_are_the_metrics": shown["accuracy"] == {row["labels"]: row["accuracy"] for row in metrics},
    }
    row = {"moment": "end", "stage": "all", "files": len(undisturbed), "killed": False, "equal": all(checks.values())}
    return {**row, "checks": checks}


def kill_drivers(changes: Mapping[str, Any], rounds: int, kills: int, seed: int) -> list[dict[str, Any]]:
    """The undisturbed loop, the disturbed one, and their comparison."""
    with tempfile.TemporaryDirectory(prefix="kill_resume-") as name:
        plain = WorkingCopy.make(Path(name) / "undisturbed", changes, rounds)
        progress("undisturbed")
        seconds = watch(plain)
        undisturbed = result_files(plain)
        disturbed = WorkingCopy.make(Path(name) / "disturbed", changes, rounds)
        rows = disturb(disturbed, undisturbed, seconds, kills, seed)
        progress("to the end")
        disturbed.repro()
        return [*rows, check_end(disturbed, undisturbed, load_params(plain.folder / "params.yaml"), rounds)]


def kill_worker(params: Params, workers: int, steps: int) -> dict[str, Any]:
    """Kill one of the workers once a checkpoint is kept; the fit must end as if nothing had happened."""
    job = digits_job(params, steps)
    with tempfile.TemporaryDirectory(prefix="kill_resume-") as name:
        progress(f"{workers} workers, undisturbed")
        undisturbed = run_fit(job, params.compute, workers, Path(name), "undisturbed")
        compute = params.compute.model_copy(update={"checkpoint_seconds": 0.1, "max_failures": 3})
        progress(f"{workers} workers, one of which dies")
        with WorkerKiller(lambda: has_checkpoint(Path(name))) as killer:
            fitted = run_fit(job, compute, workers, Path(name))
    difference, weights = fitted.curve_difference(undisturbed), fitted.weight_difference(undisturbed)
    row = {"moment": "first checkpoint", "stage": f"fit, {workers} workers", "killed": killer.killed is not None}
    return {
        **row,
        "equal": difference <= TOLERANCE,
        "max_abs_difference": difference,
        "weights": weights,
        "seconds": fitted.seconds,
    }


def main() -> None:
    """Kill drivers and workers, and report."""
    options = parser(__doc__)
    options.add_argument("--kills", type=int, default=20, help="of the driver (default: %(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="of the loop (default: %(default)s)")
    options.add_argument("--steps", type=int, default=600, help="of each fit (default: %(default)s)")
    options.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="fits that lose a worker")
    options.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    given = options.parse_args()
    rows = []
    if given.kills:
        changes = {"training.steps": given.steps, "compute.checkpoint_seconds": 0.2}
        rows += kill_drivers(changes, given.rounds, given.kills, given.seed)
    rows += [kill_worker(load_params(), workers, given.steps) for workers in given.workers]
    report("kill_resume", rows, given.results, rounds=given.rounds, steps=given.steps, seed=given.seed)


if __name__ == "__main__":
    with one_line_errors():
        main()
