"""One fit on Ray workers or without them: what `workers_parity.py` and `kill_resume.py` compare."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import psutil
import torch
from common import with_changes
from digits_data import load_split, training_job
from torch import Tensor

from al_dgm.config import ComputeParams, Params
from al_dgm.distributed.train import train
from al_dgm.learning.job import TrainingJob
from al_dgm.seeding import integer_seed

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a local cluster, reached over the loopback interface only

SEED_SET = 20


@dataclass(frozen=True)
class Fitted:
    """A fit's training curve (step -> terms), final weights, and wall-clock seconds, the cluster's start included."""

    history: list[dict[str, float]]
    weights: dict[str, Tensor]
    seconds: float

    def first_window(self) -> Fitted:
        """The same with the first record of the training curve only."""
        return replace(self, history=self.history[:1])

    def curve_difference(self, other: Fitted) -> float:
        """Largest absolute difference between two training curves, over all terms, in nats."""
        if [row["step"] for row in self.history] != [row["step"] for row in other.history]:
            return float("inf")
        rows = zip(self.history, other.history, strict=True)
        return max(abs(ours[name] - theirs[name]) for ours, theirs in rows for name in ours)

    def weight_difference(self, other: Fitted) -> float:
        """Largest absolute difference between two sets of final weights."""
        return max((ours - other.weights[name]).abs().max().item() for name, ours in self.weights.items())


def digits_job(params: Params, steps: int) -> TrainingJob:
    """The first round's fit on digits with 20 labels, shortened to ``steps``."""
    own = with_changes(params, {"data.name": "digits", "training.steps": steps})
    split = load_split(own)
    return training_job(own, split, split.labels(split.balanced(SEED_SET, own.seed)))


def perturbed(job: TrainingJob, relative: float) -> TrainingJob:
    """The same fit from initial weights w (1 + ``relative`` ε), ε ~ N(0, 1): what rounding alone grows to."""
    stream = torch.Generator().manual_seed(0)
    weights = dict(job.spec.build(integer_seed(job.seed, "init")).named_parameters())
    start = dict(job.spec.build(integer_seed(job.seed, "init")).state_dict())
    moved = {name: w.detach() * (1 + relative * torch.randn(w.shape, generator=stream)) for name, w in weights.items()}
    return replace(job, start=start | moved)


def run_fit(job: TrainingJob, compute: ComputeParams, workers: int, storage: Path, key: str = "fit") -> Fitted:
    """`al_dgm.distributed.train.train` on a number of workers; 0 is this process."""
    began = time.monotonic()
    name = f"{key}-{workers}"
    model, history = train(job, compute.model_copy(update={"workers": workers}), name, storage)
    shutil.rmtree(storage / name, ignore_errors=True)  # a short fit keeps nothing
    return Fitted(history, dict(model.state_dict()), time.monotonic() - began)


def worker_pids() -> list[int]:
    """Processes below this one that train: Ray names them after the class of the actor."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            title = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "RayTrainWorker" in title:
            found.append(process.pid)
    return found


class WorkerKiller:
    """Kills one training worker with SIGKILL as soon as ``due`` says so; a context manager around the fit.

    Attributes:
        killed: process id, or None as long as none was killed.
    """

    def __init__(self, due: Callable[[], bool]) -> None:
        self.killed: int | None = None
        self._due = due
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Start watching."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self.killed is None and not self._over.wait(0.05):
            if self._due() and (pids := worker_pids()):
                psutil.Process(pids[-1]).kill()
                self.killed = pids[-1]


def has_checkpoint(storage: Path) -> bool:
    """Whether a fit that runs under ``storage`` has kept a state, of Ray's or of its own."""
    return any(path.stat().st_size for path in storage.rglob("state.pt"))
