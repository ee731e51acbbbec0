"""Training one model: a plain torch loop that knows no Ray, no MLflow and no file.

What it needs of the outside is passed in: `Workers` says how many processes share the minibatch, ``checkpoint`` is
called with the state to keep, ``resume`` is such a state. The result depends on the data, the recipe and the seed
only: neither on the number of workers (up to rounding) nor on how often the fit was stopped and resumed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from al_dgm.config import TrainingParams
from al_dgm.learning.batches import TrainingData
from al_dgm.learning.ensemble_fit import EnsembleFit
from al_dgm.learning.running import Fit, Progress, State, Workers, explained, phase
from al_dgm.models import Model
from al_dgm.models.ensemble import Ensemble
from al_dgm.progress import progress_bar

__all__ = ["WINDOW", "Checkpoints", "Fit", "State", "TrainingData", "Workers", "explained", "fit", "phase"]

WINDOW = 50  # steps between records; the only times at which the loop waits for the device


@dataclass(frozen=True)
class Checkpoints:
    """How a fit's state is kept: ``save`` every ``seconds``, starting from ``resume``."""

    save: Callable[[State], None] | None = None
    seconds: float = 60.0
    resume: State | None = None


def _stages(model: Model, steps: int) -> list[tuple[Model, int]]:
    """The models of the curriculum, each with its number of steps."""
    parts, shares = zip(*model.curriculum(), strict=True)
    edges = [0, *(round(steps * done) for done in itertools.accumulate(shares))]
    return [(part, end - begin) for part, (begin, end) in zip(parts, itertools.pairwise(edges), strict=True)]


def fit(
    model: Model,
    data: TrainingData,
    recipe: TrainingParams,
    seed: int,
    *,
    workers: Workers | None = None,
    checkpoints: Checkpoints | None = None,
    label: str = "fit",
    compile_step: bool = False,
) -> list[dict[str, float]]:
    """Train ``model`` in place, stage by stage of its curriculum; each one warms up and cools down by itself.

    Args:
        model: on the device to train on, as are ``data``. The members of an ensemble are trained each for itself.
        data: labelled and unlabelled examples.
        recipe: the ``training`` section of params.yaml.
        seed: of this fit; minibatches and noise are its named streams.
        workers: the processes that share the minibatches; by default this one alone.
        checkpoints: how the state is kept and what to resume from; by default neither.
        label: shown before the progress bar.
        compile_step: run a compiled step; see `al_dgm.learning.compiled`.

    Returns:
        The training curve: one row of ``step`` and mean terms for every `WINDOW` steps.

    Raises:
        TrainingError: the objective became NaN or infinite.
    """
    workers, checkpoints = workers or Workers(), checkpoints or Checkpoints()
    resume = checkpoints.resume
    if resume is not None:
        model.load_state_dict(resume["model"])
    progress = Progress(**resume["progress"]) if resume is not None else Progress()
    with progress_bar(recipe.steps, label, shown=workers.rank == 0) as bar:
        for stage, (part, steps) in list(enumerate(_stages(model, recipe.steps)))[progress.stage :]:
            settings = recipe.model_copy(update={"steps": steps})
            part.build_on(torch.cat([data.x_labelled, data.x_unlabelled]))
            part.train()
            kind = EnsembleFit if isinstance(part, Ensemble) else Fit
            running = kind(part, data, settings, seed, workers, progress=progress, compile_step=compile_step)
            if resume is not None and stage == resume["progress"]["stage"]:
                running.load(resume)
            _run(running, model, checkpoints, bar)
            part.eval()
            done = running.progress
            progress = Progress(stage=stage + 1, before=done.before + done.step, history=done.history)
    model.eval()
    return progress.history


def _run(running: Fit, whole: Model, checkpoints: Checkpoints, bar: tqdm) -> None:
    """All steps of a stage, with the state of the ``whole`` model kept when it is due."""
    progress, workers = running.progress, running.workers
    saved = time.monotonic()
    while not running.finished:
        bar.update(progress.before + progress.step - bar.n)
        steps = min(WINDOW, running.recipe.steps - progress.step)
        running.record([running.step() for _ in range(steps)])
        bar.set_postfix(objective=f"{progress.history[-1]['objective']:.2f}", refresh=False)
        # The workers agree on when, since each of them has to take part.
        elapsed = workers.mean(torch.tensor(time.monotonic() - saved)).item()
        if checkpoints.save is not None and elapsed > checkpoints.seconds:
            checkpoints.save({"model": whole.state_dict(), **running.state()})
            saved = time.monotonic()
    bar.update(progress.before + progress.step - bar.n)
    running.finish()
