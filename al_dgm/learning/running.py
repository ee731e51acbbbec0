"""A fit in progress: what one step does, what is kept of it, and what is left at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from al_dgm.config import TrainingParams
from al_dgm.errors import TrainingError
from al_dgm.learning.batches import Feed, TrainingData, nearest
from al_dgm.learning.compiled import compiled
from al_dgm.learning.drawn import Asked, Drawn
from al_dgm.learning.objective import Objective, Phase, own
from al_dgm.models import Model
from al_dgm.models.base import Minibatch, Settings
from al_dgm.nn.batch_norm import batch_norms, population_statistics, share_statistics
from al_dgm.nn.linear import round_products
from al_dgm.objectives.schedules import cosine, ramp
from al_dgm.seeding import integer_seed

State = dict[str, Any]
MakeObjective = Callable[[Model], Objective]


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


def phase(recipe: TrainingParams, step: int) -> Phase:
    """Where the warm-ups stand at ``step``, counted from 0."""
    steps = recipe.steps
    return Phase(
        latents=ramp(step + 1, 0, recipe.latent_warmup * steps),
        weights=ramp(step + 1, 0, recipe.weight_warmup * steps),
        responsibility=ramp(step, recipe.responsibility_start * steps, recipe.responsibility_end * steps),
        smoothing=ramp(step + 1, 0, recipe.smoothing_warmup * steps),
    )


def learning_rate(recipe: TrainingParams, step: int) -> float:
    """Adam's at ``step``, counted from 0."""
    if recipe.final_learning_rate is None:
        return recipe.learning_rate
    return cosine(step, recipe.steps, recipe.learning_rate, recipe.final_learning_rate)


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
        self.model, self.recipe, self.workers = model, recipe, workers
        self.progress = progress or Progress()
        self.examples = sizes = explained(model, data, recipe)
        batches = min(recipe.labelled_batch, sizes[0]), min(recipe.unlabelled_batch, sizes[1])
        # The statistics of a normalised layer weight all rows alike: there both sets are shared, or neither is.
        apart = batch_norms(model) and any(batch % workers.size for batch in batches)
        share = (0, 1) if apart else (workers.rank, workers.size)
        seeds = [of_stage(own_seed, self.progress.stage) for own_seed in self._seeds(seed)]
        neighbours = nearest(data.x_labelled, data.x_unlabelled[: sizes[1]], recipe.label_neighbours)
        self.feeds = [Feed(data, sizes, recipe, own_seed, share, neighbours) for own_seed in seeds]
        round_products(model, torch.bfloat16 if recipe.precision == "bfloat16" else None)
        share_statistics(model, workers.differentiable_mean)
        of = partial(Objective, recipe=recipe, mean=workers.differentiable_mean)
        self.asked, objective = self._objective(of, compile_step=compile_step)
        wrapped = workers.wrap(objective)
        self.objective = compiled(wrapped, like=data.x_labelled) if compile_step else wrapped
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(self.trained, lr=recipe.learning_rate, fused=True)
        self.weights = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
        self.average = {name: value.clone() for name, value in self.weights.items()}

    def step(self) -> dict[str, Tensor]:
        """One gradient step; returns the objective's terms, still on the device."""
        t, recipe = self.progress.step, self.recipe
        self.optimiser.param_groups[0]["lr"] = learning_rate(recipe, t)
        self.optimiser.zero_grad(set_to_none=True)
        loss, terms = self.objective_at(t)
        loss.backward()
        self._clip_gradients()
        self.optimiser.step()
        self._update_average()
        self.progress.step += 1
        return dict(terms)

    def objective_at(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective of ``step``'s minibatch, to differentiate, and its terms."""
        return self.objective(self._minibatch(step), phase(self.recipe, step), self.examples)

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
        for model, feed in zip(self._models(), self.feeds, strict=True):
            settle(model, feed)

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

    def _seeds(self, seed: int) -> list[int]:
        """Of the minibatches and noise of each model that is trained."""
        return [seed]

    def _objective(self, of: MakeObjective, *, compile_step: bool) -> tuple[Asked | None, nn.Module]:
        """What is differentiated; and, where its random numbers are to be drawn beforehand, which it asks for."""
        objective = of(self.model)
        return Asked.by(objective, self.feeds[0].minibatch(0)) if compile_step else None, objective

    def _minibatch(self, step: int) -> Minibatch | Drawn:
        """What the objective is given at ``step``."""
        batch = self._fed(self.feeds[0], step)
        return batch if self.asked is None else self.asked.draw(batch).minibatch

    def _fed(self, feed: Feed, step: int) -> Minibatch:
        """What ``feed`` has for ``step``; labels are spread until the bounds are responsible for the classes."""
        return feed.minibatch(step, spread=bool(phase(self.recipe, step).responsibility < 1))

    def _clip_gradients(self) -> None:
        nn.utils.clip_grad_norm_(self.trained, self.recipe.gradient_norm)

    def _models(self) -> list[Model]:
        """What is trained, a model for each feed."""
        return [self.model]

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.weight_average, (1 + self.progress.step) / (10 + self.progress.step))
        if self.recipe.weight_average:
            torch._foreach_lerp_(list(self.average.values()), list(self.weights.values()), 1 - decay)


def of_stage(seed: int, stage: int) -> int:
    """The seed of a stage of the curriculum; the first has that of the fit."""
    return integer_seed(seed, "stage", stage) if stage else seed


@torch.no_grad()
def settle(model: Model, feed: Feed) -> None:
    """Give normalised layers the statistics of the training set, by one pass over it."""
    if batch_norms(model):
        with population_statistics(model):
            for step in range(feed.steps_in_a_pass):
                model.terms(feed.minibatch(step), Settings())


def _culprit(names: list[str], table: list[list[float]], first: int) -> str:
    """The first term that is not finite, with its value and step: from then on it spoils all the others."""
    for step, values in enumerate(table, first):
        for name, value in sorted(zip(names, values, strict=True), key=lambda term: term[0] == "objective"):
            if not math.isfinite(value):
                return f"{name} is {value} at step {step}"
    return f"a term is not finite on another worker, from step {first} on"
