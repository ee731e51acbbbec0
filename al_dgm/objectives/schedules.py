"""How a factor moves over the steps of a fit."""

from __future__ import annotations

import math


def ramp(step: int, start: float, end: float) -> float:
    """0 up to ``start``, linearly to 1 at ``end``, 1 from there on; a step where they are the same."""
    if step >= end:
        return 1.0
    return 0.0 if step <= start else (step - start) / (end - start)


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """``start`` → ``end`` along half a cosine."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * min(step / steps, 1.0)))
