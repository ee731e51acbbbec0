"""Training one model: a plain torch loop that knows no Ray, no MLflow and no file.

What it needs of the outside is passed in: `Workers` says how many processes share the minibatch, ``checkpoint`` is
called with the state to keep, ``resume`` is such a state. The result depends on the data, the recipe and the seed
only: neither on the number of workers (up to rounding) nor on how often the fit was stopped and resumed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

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
    """Where a fit stands: everything that a checkpoint keeps beside weights and optimiser."""

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
    """One fit in progress: model, its running average, optimiser, and the step it has come to."""

    def __init__(
        self,
        model: Model,
        data: TrainingData,
        recipe: TrainingParams,
        seed: int,
        workers: Workers,
        *,
        compile_step: bool = False,
    ) -> None:
        self.model, self.data, self.recipe, self.seed, self.workers = model, data, recipe, seed, workers
        n_labelled, n_unlabelled = explained(model, data, recipe)
        batches = min(recipe.labelled_batch, n_labelled), min(recipe.unlabelled_batch, n_unlabelled)
        # The statistics of a normalised layer weight all rows alike: there both sets are shared, or neither is.
        apart = batch_norms(model) and any(batch % workers.size for batch in batches)
        share = (0, 1) if apart else (workers.rank, workers.size)
        self.labelled = Batches(n_labelled, recipe.labelled_batch, seed, "labelled", *share)
        self.unlabelled = Batches(n_unlabelled, recipe.unlabelled_batch, seed, "unlabelled", *share)
        self.progress = Progress()
        round_products(model, torch.bfloat16 if recipe.precision == "bfloat16" else None)
        share_statistics(model, workers.differentiable_mean)
        objective = Objective(model, recipe, n_labelled, n_unlabelled, workers.differentiable_mean)
        wrapped = workers.wrap(objective)
        self.objective = compiled(objective, wrapped, self._minibatch(0)) if compile_step else wrapped
        self.optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
        self.weights = {name: value.detach() for name, value in model.state_dict().items()}
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
        """All that a resumed fit needs; tensors and plain values only, so it loads without pickle."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "progress": dict(vars(self.progress)),
        }

    def load(self, state: State) -> None:
        """Go on from ``state``."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        torch._foreach_copy_(list(self.average.values()), [state["average"][name] for name in self.average])
        self.progress = Progress(**state["progress"])

    def finish(self) -> None:
        """Give the model its averaged weights, the population's statistics, and full precision to predict with."""
        round_products(self.model, None)
        if self.recipe.weight_average:
            self.model.load_state_dict(self.average)
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
            first = self.progress.step - len(window)
            raise TrainingError(
                f"training: {_culprit(names, table.tolist(), first)}; "
                f"expected a finite number: lower training.learning_rate or training.gradient_norm"
            )
        self.progress.history.append({"step": self.progress.step, **row})
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
    """Train ``model`` in place.

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
    running = Fit(model, data, recipe, seed, workers, compile_step=compile_step)
    if checkpoints.resume is not None:
        running.load(checkpoints.resume)
    model.train()
    saved = time.monotonic()
    with progress_bar(recipe.steps, label, initial=running.progress.step, shown=workers.rank == 0) as bar:
        while not running.finished:
            steps = min(WINDOW, recipe.steps - running.progress.step)
            running.record([running.step() for _ in range(steps)])
            bar.set_postfix(objective=f"{running.progress.history[-1]['objective']:.2f}", refresh=False)
            bar.update(steps)
            # The workers agree on when, since each of them has to take part.
            elapsed = workers.mean(torch.tensor(time.monotonic() - saved)).item()
            if checkpoints.save is not None and elapsed > checkpoints.seconds:
                checkpoints.save(running.state())
                saved = time.monotonic()
    running.finish()
    model.eval()
    return running.progress.history
