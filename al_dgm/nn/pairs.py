"""The (example, class) pairs whose bounds one pass computes, as rows of one batch.

Of B = U + L examples the first U are unlabelled and stand with each of their m candidate classes, the last L with the
class that they are known to have: R = U m + L rows, those of one example side by side. Everything that is wanted of x
alone is computed once for each example and then spread over its rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FEW_CLASSES = 64


@dataclass(frozen=True)
class Pairs:
    """R pairs of B examples.

    Attributes:
        unlabelled: U.
        given: class indices of the labelled examples, [L].
        candidates: class indices, [U, m]; None stands for all ``classes`` in their order.
        classes: C.
    """

    unlabelled: int
    given: Tensor
    candidates: Tensor | None
    classes: int

    @classmethod
    def labelled(cls, y: Tensor, classes: int) -> Pairs:
        """Each example with its class."""
        return cls(0, y, None, classes)

    @property
    def width(self) -> int:
        """m, how many classes an unlabelled example stands with."""
        return self.classes if self.candidates is None else self.candidates.shape[1]

    @property
    def examples(self) -> Tensor:
        """Each row's example, [R]."""
        device = self.given.device
        alone = torch.arange(self.unlabelled, device=device).repeat_interleave(self.width)
        return torch.cat([alone, torch.arange(self.unlabelled, self.unlabelled + len(self.given), device=device)])

    @property
    def labels(self) -> Tensor:
        """Each row's class index, [R]."""
        if self.candidates is None:
            alone = torch.arange(self.classes, device=self.given.device).repeat(self.unlabelled)
        else:
            alone = self.candidates.flatten()
        return torch.cat([alone, self.given])

    def spread(self, values: Tensor) -> Tensor:
        """Each example's values in all its rows: [..., B, F] -> [..., R, F]."""
        if not self.unlabelled:
            return values
        spread: Tensor = _Spread.apply(values, self.examples, self.unlabelled, self.width)  # type: ignore[no-untyped-call]
        return spread

    def look_up(self, table: Tensor) -> Tensor:
        """Each row's entry of a table of classes: [C, H] -> [R, H]."""
        found: Tensor = _LookUp.apply(table, self.labels)  # type: ignore[no-untyped-call]
        return found

    def pick(self, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """log q(y | ·) of all classes, [..., B, C], at the candidates and at the given classes: [..., U, m], [..., L].

        Over the candidates q is normalised anew where they are not all classes.
        """
        alone, known = log_q[..., : self.unlabelled, :], log_q[..., self.unlabelled :, :]
        if self.candidates is not None:
            alone = F.log_softmax(alone.gather(-1, self.candidates.expand(*alone.shape[:-1], -1)), dim=-1)
        given = self.given.expand(*known.shape[:-1]).unsqueeze(-1)
        return alone, known.gather(-1, given).squeeze(-1)

    def split(self, of_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Values of rows, [..., R], by kind: [..., U, m] and [..., L]."""
        edge = self.unlabelled * self.width
        return of_rows[..., :edge].unflatten(-1, (self.unlabelled, self.width)), of_rows[..., edge:]


class _Spread(torch.autograd.Function):
    """`Pairs.spread`: a gather, whose derivative is sums of neighbouring rows instead of a scattering."""

    generate_vmap_rule = True

    @staticmethod
    def forward(values: Tensor, examples: Tensor, unlabelled: int, width: int) -> Tensor:  # noqa: ARG004
        return values.index_select(-2, examples)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.unlabelled, ctx.width = inputs[2:]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        edge = ctx.unlabelled * ctx.width
        alone = gradient[..., :edge, :].unflatten(-2, (ctx.unlabelled, ctx.width)).sum(-2)
        return torch.cat([alone, gradient[..., edge:, :]], dim=-2), None, None, None


class _LookUp(torch.autograd.Function):
    """`Pairs.look_up` of [C, H]: a gather, whose derivative is a matrix product, for few classes the faster way."""

    generate_vmap_rule = True

    @staticmethod
    def forward(table: Tensor, labels: Tensor) -> Tensor:
        return table.index_select(0, labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[1])
        ctx.classes = len(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (labels,) = ctx.saved_tensors
        if ctx.classes > FEW_CLASSES:
            return gradient.new_zeros(ctx.classes, gradient.shape[-1]).index_add(0, labels, gradient), None
        return F.one_hot(labels, ctx.classes).to(gradient.dtype).t() @ gradient, None


@dataclass(frozen=True)
class OfExamples:
    """A network's input that belongs to the example, [..., B, F]: multiplied once, then spread over the rows."""

    values: Tensor
    pairs: Pairs

    def times(self, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        """Values · W for every row, [..., R, H]."""
        return self.pairs.spread(product(self.values, weight, matmul))

    def squared(self) -> OfExamples:
        """Entry by entry."""
        return self.each(torch.square)

    def each(self, function: Callable[[Tensor], Tensor]) -> OfExamples:
        """A function of every example's values."""
        return OfExamples(function(self.values), self.pairs)


@dataclass(frozen=True)
class Label:
    """A network's input y: one-hot times ``scale``, of which a product with a matrix is a row of the matrix."""

    scale: float
    pairs: Pairs

    def times(self, weight: Tensor, matmul: torch.dtype | None) -> Tensor:  # noqa: ARG002 - nothing is multiplied
        """``scale`` · row y of W for every row, [R, H]."""
        return self.pairs.look_up(self.scale * weight)  # scaled while there are C rows of it, not R

    def squared(self) -> Label:
        """Entry by entry."""
        return Label(self.scale**2, self.pairs)


Input = Tensor | OfExamples | Label


def product(x: Input, weight: Tensor, matmul: torch.dtype | None = None) -> Tensor:
    """x · W, of a tensor [..., F] or of one of the inputs above; ``matmul`` is the type that factors are rounded to."""
    if not isinstance(x, Tensor):
        return x.times(weight, matmul)
    return (rounded(x, matmul) @ rounded(weight, matmul)).to(weight.dtype)


def rounded(values: Tensor, matmul: torch.dtype | None) -> Tensor:
    """``values`` in the type of a product's factors; None leaves them alone."""
    return values if matmul is None else values.to(matmul)


def squared(x: Input) -> Input:
    """Entry by entry."""
    return x.square() if isinstance(x, Tensor) else x.squared()
