"""How a factor moves over the steps of a fit."""

from __future__ import annotations

import math


def warmup(step: int, steps: int) -> float:
    """0 → 1 linearly over the first ``steps`` steps, then 1; always 1 when ``steps`` is 0."""
    return min(1.0, step / steps) if steps else 1.0


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """``start`` → ``end`` along half a cosine."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(step / steps, 1.0)))
