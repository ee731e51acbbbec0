"""Training one model: a plain torch loop that knows no Ray, no MLflow and no file.

What it needs of the outside is passed in: `Workers` says how many processes share the minibatch, ``checkpoint`` is
called with the state to keep, ``resume`` is such a state. The result depends on the data, the recipe and the seed
only: neither on the number of workers (up to rounding) nor on how often the fit was stopped and resumed.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from al_dgm.config import TrainingParams
from al_dgm.errors import TrainingError
from al_dgm.learning.batches import Batches
from al_dgm.learning.compiled import compiled
from al_dgm.learning.objective import Objective, Phase, own
from al_dgm.models import Model
from al_dgm.models.base import Minibatch, Settings
from al_dgm.nn.batch_norm import batch_norms, population_statistics, share_statistics
from al_dgm.nn.linear import round_products
from al_dgm.objectives.schedules import cosine, ramp
from al_dgm.progress import progress_bar
from al_dgm.seeding import integer_seed

WINDOW = 50  # steps between records; the only times at which the loop waits for the device

State = dict[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """x_l [N_l, D], y_l [N_l] class indices, x_u [N_u, D], in model space."""

    x_labelled: Tensor
    y: Tensor
    x_unlabelled: Tensor

    def to(self, device: torch.device) -> TrainingData:
        """The same data on ``device``."""
        return TrainingData(self.x_labelled.to(device), self.y.to(device), self.x_unlabelled.to(device))


def explained(model: Model, data: TrainingData, recipe: TrainingParams) -> tuple[int, int]:
    """(N_l, N_u): how many examples of each kind the weights explain, that is, whose likelihood they enter.

    Of a supervised model, and where no unlabelled ones are trained on, that is the labelled ones alone.
    """
    unlabelled = len(data.x_unlabelled) if model.generative and recipe.unlabelled_batch else 0
    return len(data.x_labelled), unlabelled


def _unchanged(module: nn.Module) -> nn.Module:
    return module


@dataclass(frozen=True)
class Workers:
    """The processes that share each minibatch: which one this is, and how they exchange gradients and means."""

    rank: int = 0
    size: int = 1
    wrap: Callable[[nn.Module], nn.Module] = _unchanged
    mean: Callable[[Tensor], Tensor] = own
    differentiable_mean: Callable[[Tensor], Tensor] = own


@dataclass
class Progress:
    """Where a fit stands: everything that a checkpoint keeps beside weights and optimiser.

    Attributes:
        stage: which part of the model's curriculum, from 0.
        before: steps of the stages before it.
        step: steps of this stage.
        history: the training curve of all stages so far.
        best: lowest objective of a window that counted as an improvement.
        stale_windows: windows since then.
    """

    stage: int = 0
    before: int = 0
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: float = math.inf
    stale_windows: int = 0


@dataclass(frozen=True)
class Checkpoints:
    """How a fit's state is kept: ``save`` every ``seconds``, starting from ``resume``."""

    save: Callable[[State], None] | None = None
    seconds: float = 60.0
    resume: State | None = None


def phase(recipe: TrainingParams, step: int) -> Phase:
    """Where the warm-ups stand at ``step``, counted from 0."""
    steps = recipe.steps
    return Phase(
        latents=ramp(step + 1, 0, recipe.latent_warmup * steps),
        weights=ramp(step + 1, 0, recipe.weight_warmup * steps),
        responsibility=ramp(step, recipe.responsibility_start * steps, recipe.responsibility_end * steps),
    )


class Fit:
    """One stage of a fit in progress: model, its running average, optimiser, and the step it has come to."""

    def __init__(
        self,
        model: Model,
        data: TrainingData,
        recipe: TrainingParams,
        seed: int,
        workers: Workers,
        *,
        progress: Progress | None = None,
        compile_step: bool = False,
    ) -> None:
        self.model, self.data, self.recipe, self.seed, self.workers = model, data, recipe, seed, workers
        self.progress = progress or Progress()
        n_labelled, n_unlabelled = explained(model, data, recipe)
        batches = min(recipe.labelled_batch, n_labelled), min(recipe.unlabelled_batch, n_unlabelled)
        # The statistics of a normalised layer weight all rows alike: there both sets are shared, or neither is.
        apart = batch_norms(model) and any(batch % workers.size for batch in batches)
        share = (0, 1) if apart else (workers.rank, workers.size)
        self.labelled = Batches(n_labelled, recipe.labelled_batch, seed, "labelled", *share)
        self.unlabelled = Batches(n_unlabelled, recipe.unlabelled_batch, seed, "unlabelled", *share)
        round_products(model, torch.bfloat16 if recipe.precision == "bfloat16" else None)
        share_statistics(model, workers.differentiable_mean)
        objective = Objective(model, recipe, n_labelled, n_unlabelled, workers.differentiable_mean)
        wrapped = workers.wrap(objective)
        self.objective = compiled(objective, wrapped, self._minibatch(0)) if compile_step else wrapped
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(trained, lr=recipe.learning_rate, fused=True)
        self.weights = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
        self.average = {name: value.clone() for name, value in self.weights.items()}

    def step(self) -> dict[str, Tensor]:
        """One gradient step; returns the objective's terms, still on the device."""
        t, recipe = self.progress.step, self.recipe
        self.optimiser.param_groups[0]["lr"] = cosine(t, recipe.steps, recipe.learning_rate, recipe.final_learning_rate)
        self.optimiser.zero_grad(set_to_none=True)
        loss, terms = self.objective(self._minibatch(t), phase(recipe, t))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.gradient_norm)
        self.optimiser.step()
        self._update_average()
        self.progress.step += 1
        return dict(terms)

    def state(self) -> State:
        """All that it needs to go on, but for the weights; tensors and plain values only, to load without pickle."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "progress": dict(vars(self.progress)),
        }

    def load(self, state: State) -> None:
        """Go on from ``state``; the model has the weights of then."""
        self.optimiser.load_state_dict(state["optimiser"])
        torch._foreach_copy_(list(self.average.values()), [state["average"][name] for name in self.average])
        self.progress = Progress(**state["progress"])

    def finish(self) -> None:
        """Give the model its averaged weights, the population's statistics, and full precision to predict with."""
        round_products(self.model, None)
        if self.recipe.weight_average:
            self.model.load_state_dict(self.average, strict=False)
        if batch_norms(self.model):
            with torch.no_grad(), population_statistics(self.model):
                for step in range(max(self.unlabelled.steps_in_a_pass, self.labelled.steps_in_a_pass)):
                    self.model.terms(self._minibatch(step), Settings())

    def record(self, window: list[dict[str, Tensor]]) -> None:
        """Close a window of steps: means over steps and workers into the history; refuse a non-finite one.

        Raises:
            TrainingError: a term is NaN or infinite; names the term and the step.
        """
        names = list(window[0])
        table = torch.stack([torch.stack([terms[name] for name in names]) for terms in window])
        row = dict(zip(names, self.workers.mean(table.mean(0)).tolist(), strict=True))
        if not all(map(math.isfinite, row.values())):
            first = self.progress.before + self.progress.step - len(window)
            raise TrainingError(
                f"training: {_culprit(names, table.tolist(), first)}; "
                f"expected a finite number: lower training.learning_rate or training.gradient_norm"
            )
        self.progress.history.append({"step": self.progress.before + self.progress.step, **row})
        self._watch(row["objective"])

    @property
    def finished(self) -> bool:
        """All steps done, or no improvement for ``patience`` windows."""
        exhausted = 0 < self.recipe.patience <= self.progress.stale_windows
        return exhausted or self.progress.step >= self.recipe.steps

    def _watch(self, objective: float) -> None:
        """Count windows without improvement, once the warm-ups no longer raise the objective by themselves."""
        p, recipe = self.progress, self.recipe
        if phase(recipe, p.step) != Phase():
            return
        # The mark moves on improvement only, so that slow progress adds up instead of never counting.
        if objective < p.best - recipe.min_improvement:
            p.best, p.stale_windows = objective, 0
        else:
            p.stale_windows += 1

    def _minibatch(self, step: int) -> Minibatch:
        device = self.data.x_labelled.device
        labelled, unlabelled = self.labelled.rows(step).to(device), self.unlabelled.rows(step).to(device)
        return Minibatch(
            x_labelled=self.data.x_labelled[labelled],
            y=self.data.y[labelled],
            x_unlabelled=self.data.x_unlabelled[unlabelled],
            labelled_noise=self.labelled.noise(step, device),
            unlabelled_noise=self.unlabelled.noise(step, device),
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.weight_average, (1 + self.progress.step) / (10 + self.progress.step))
        if self.recipe.weight_average:
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)


def _culprit(names: list[str], table: list[list[float]], first: int) -> str:
    """The first term that is not finite, with its value and step: from then on it spoils all the others."""
    for step, values in enumerate(table, first):
        for name, value in sorted(zip(names, values, strict=True), key=lambda term: term[0] == "objective"):
            if not math.isfinite(value):
                return f"{name} is {value} at step {step}"
    return f"a term is not finite on another worker, from step {first} on"


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
        model: on the device to train on, as are ``data``.
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
            of_stage = integer_seed(seed, "stage", stage) if stage else seed
            part.build_on(torch.cat([data.x_labelled, data.x_unlabelled]))
            running = Fit(part, data, settings, of_stage, workers, progress=progress, compile_step=compile_step)
            if resume is not None and stage == resume["progress"]["stage"]:
                running.load(resume)
            _run(running, model, checkpoints, bar)
            done = running.progress
            progress = Progress(stage=stage + 1, before=done.before + steps, history=done.history)
    model.eval()
    return progress.history


def _run(running: Fit, whole: Model, checkpoints: Checkpoints, bar: tqdm) -> None:
    """All steps of a stage, with the state of the ``whole`` model kept when it is due."""
    progress, workers = running.progress, running.workers
    running.model.train()
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
    running.model.eval()
