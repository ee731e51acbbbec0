"""One training step's objective as a compiled program: `torch.compile`, and CUDA graphs where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from typing import Any

import torch
import torch._functorch.config as partitioning
from torch import Tensor, nn

from al_dgm.learning.objective import Examples, Phase

Evaluate = Callable[[Any, Phase, Examples], tuple[Tensor, dict[str, Tensor]]]


def compiled(objective: nn.Module, like: Tensor) -> Evaluate:
    """``objective``, perhaps shared by workers, as a compiled function of a minibatch whose numbers are drawn.

    The same values as without, but for rounding. Warm-up factors and numbers of examples come in as tensors of the type
    and device of ``like``, so that one program serves all steps and, from the cache on disk, all rounds.
    """
    mode = "reduce-overhead" if like.device.type == "cuda" else None  # CUDA graphs
    # Without `recompute_views` a ReLU keeps a mask beside its output, and writing it costs more than the product does.
    program = partitioning.patch(recompute_views=True)(torch.compile(objective, dynamic=False, mode=mode))
    factor = partial(torch.tensor, dtype=like.dtype, device=like.device)

    def evaluate(batch: Any, phase: Phase, examples: Examples) -> tuple[Tensor, dict[str, Tensor]]:
        factors, sizes = Phase(*map(factor, astuple(phase))), tuple(map(factor, examples))
        loss, terms = program(batch, factors, sizes)
        # The next replay of a CUDA graph overwrites what this one gave; the loss is used up by then, terms are kept.
        return loss, {name: value.clone() for name, value in terms.items()}

    return evaluate
