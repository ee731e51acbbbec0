"""n fits as one program: the members of an ensemble, trained on weights that are stacked.

Every weight of a `stacked` model is the members' weights [n, ...], and the objective is mapped over them by
`torch.vmap`, each member with minibatches and noise of its own. Nothing couples the members, Adam and the running
average go entry by entry, and gradients are clipped member by member: member m is, up to rounding, what a fit of its
own with the seed (seed, "member", m) gives, in every stage of its curriculum. One thing is common: ``patience`` watches
the mean of their objectives.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from al_dgm.config import TrainingParams
from al_dgm.learning.batches import TrainingData
from al_dgm.learning.drawn import Asked, Drawn
from al_dgm.learning.objective import Examples, Objective, Phase
from al_dgm.learning.running import Fit, MakeObjective, Progress, Workers
from al_dgm.models import Model
from al_dgm.models.ensemble import members_of
from al_dgm.nn.batch_norm import share_statistics
from al_dgm.seeding import integer_seed

CLIPPING_EPSILON = 1e-6  # torch.nn.utils.clip_grad_norm_'s


class MappedObjective(nn.Module):
    """An objective of one member, over a `stacked` model of n."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, batch: Drawn, phase: Phase, examples: Examples) -> tuple[Tensor, dict[str, Tensor]]:
        """Σ_m of the objectives, whose gradient is every member's own, and the terms' means over the members."""

        def of_member(weights: dict[str, Tensor], own: Drawn) -> tuple[Tensor, dict[str, Tensor]]:
            found: tuple[Tensor, dict[str, Tensor]] = functional_call(
                self.objective, weights, (own.minibatch, phase, examples)
            )
            return found

        weights = {**dict(self.objective.named_parameters()), **dict(self.objective.named_buffers())}
        losses, terms = torch.vmap(of_member)(weights, batch)
        return losses.sum(), {name: values.mean() for name, values in terms.items()}


class EnsembleFit(Fit):
    """The fit of an ensemble in progress; ``model`` is the `stacked` one, of which the members are views."""

    asked: Asked

    def __init__(
        self,
        ensemble: Model,
        data: TrainingData,
        recipe: TrainingParams,
        seed: int,
        workers: Workers,
        *,
        progress: Progress | None = None,
        compile_step: bool = False,
    ) -> None:
        self.members: list[Model] = members_of(ensemble)
        share_statistics(ensemble, workers.differentiable_mean)
        together = stacked(self.members)
        super().__init__(together, data, recipe, seed, workers, progress=progress, compile_step=compile_step)

    def _seeds(self, seed: int) -> list[int]:
        return [integer_seed(seed, "member", m) for m in range(len(self.members))]

    def _objective(self, of: MakeObjective, *, compile_step: bool) -> tuple[Asked, nn.Module]:  # noqa: ARG002 - always
        return Asked.by(of(self.members[0]), self.feeds[0].minibatch(0)), MappedObjective(of(self.model))

    def _minibatch(self, step: int) -> Drawn:
        return Drawn.stacked([self.asked.draw(self._fed(feed, step)) for feed in self.feeds])

    def _clip_gradients(self) -> None:
        clip_each(self.trained, self.recipe.gradient_norm)

    def _models(self) -> list[Model]:
        return self.members


def stacked(members: Sequence[Model]) -> Model:
    """A model of which every weight and buffer is the members', stacked: [n, ...]; theirs become views of it.

    It is no model by itself: `MappedObjective` takes it apart.
    """
    parameters, buffers = stack_module_state(list(members))
    found = {**parameters, **buffers}
    result = copy.deepcopy(members[0])
    for name, value in _named(result):
        value.data = found[name].detach()
    for m, member in enumerate(members):
        for name, value in _named(member):
            value.data = found[name].detach()[m]
    return result


def _named(model: Model) -> Iterator[tuple[str, Tensor]]:
    """Its weights and buffers."""
    return itertools.chain(model.named_parameters(), model.named_buffers())


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], norm: float) -> None:
    """`torch.nn.utils.clip_grad_norm_` for every member by itself, of gradients [n, ...]."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (norm / (total + CLIPPING_EPSILON)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
