"""One training step's objective as a compiled program: `torch.compile`, and CUDA graphs where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch._functorch.config as partitioning
from torch import Tensor, nn

from al_dgm.learning.objective import Objective, Phase
from al_dgm.models.base import Minibatch
from al_dgm.nn.noise import DrawnNoise, RecordedNoise

Evaluate = Callable[[Minibatch, Phase], tuple[Tensor, dict[str, Tensor]]]


def compiled(objective: Objective, wrapped: nn.Module, example: Minibatch) -> Evaluate:
    """``wrapped``, which is ``objective`` as it may be shared by workers, as a compiled function of the minibatch.

    The same numbers as without, but for rounding. Random numbers are drawn outside the program, and warm-up factors
    come in as tensors, so that one program serves all steps; ``example`` shows which numbers it asks for.
    """
    labelled, unlabelled = RecordedNoise(example.labelled_noise), RecordedNoise(example.unlabelled_noise)
    objective(replace(example, labelled_noise=labelled, unlabelled_noise=unlabelled), Phase())
    device = example.x_labelled.device
    mode = "reduce-overhead" if device.type == "cuda" else None  # CUDA graphs
    # Without `recompute_views` a ReLU keeps a mask beside its output, and writing it costs more than the product does.
    program = partitioning.patch(recompute_views=True)(torch.compile(wrapped, dynamic=False, mode=mode))
    factor = partial(torch.tensor, dtype=example.x_labelled.dtype, device=device)

    def evaluate(batch: Minibatch, phase: Phase) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = replace(
            batch,
            labelled_noise=DrawnNoise.as_asked(batch.labelled_noise, labelled.asked),
            unlabelled_noise=DrawnNoise.as_asked(batch.unlabelled_noise, unlabelled.asked),
        )
        factors = Phase(factor(phase.latents), factor(phase.weights), factor(phase.responsibility))
        loss, terms = program(drawn, factors)
        return loss, terms

    return evaluate
