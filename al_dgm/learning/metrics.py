"""How good predictive probabilities are, and how good a learning curve is. NumPy only.

Predictions are ``log_prob`` [N, C], natural logarithms of class probabilities; the truth is ``labels`` [N], integer
positions into the C classes. Every measure is a mean over the N examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_dgm.errors import DataError

Array = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]

BINS = 15


def _checked(log_prob: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Both as arrays whose shapes and values fit together.

    Raises:
        DataError: shapes differ, there is no example, a label is no column, or a log-probability is NaN or above 0.
    """
    predicted, truth = np.asarray(log_prob, dtype=np.float64), np.asarray(labels)
    if predicted.ndim != 2 or truth.shape != predicted.shape[:1] or not predicted.size:
        raise DataError(f"expected log_prob [N, C] and labels [N] with N > 0, got {predicted.shape} and {truth.shape}")
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= predicted.shape[1]:
        raise DataError(f"expected integer labels in 0..{predicted.shape[1] - 1}, got {truth.min()}..{truth.max()}")
    if not (predicted <= 1e-4).all():  # NaN fails the comparison too; float32 may round log 1 above 0
        raise DataError(f"expected log-probabilities ≤ 0, got {predicted.max()}")
    return predicted, truth.astype(np.int64)


def accuracy(log_prob: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Share of examples whose most probable class is the true one."""
    predicted, truth = _checked(log_prob, labels)
    return float((predicted.argmax(axis=1) == truth).mean())


def nll(log_prob: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Negative log-likelihood −1/N Σ log p(y_n | x_n), in nats; infinite where a true class was given probability 0."""
    predicted, truth = _checked(log_prob, labels)
    return float(-predicted[np.arange(len(truth)), truth].mean())


def brier(log_prob: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Brier score 1/N Σ_n Σ_c (p_nc − [c = y_n])², in 0..2 (Brier, 1950: the sum over classes, not their mean)."""
    predicted, truth = _checked(log_prob, labels)
    probability = np.exp(predicted)
    probability[np.arange(len(truth)), truth] -= 1.0
    return float((probability**2).sum(axis=1).mean())


def reliability(log_prob: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> pd.DataFrame:
    """Confidence against accuracy of the most probable class, in equal-width bins ((i−1)/bins, i/bins].

    Returns:
        One row a bin: ``lower``, ``upper``, ``count``, and the bin's mean ``confidence`` and ``accuracy`` (NaN where
        the bin is empty).
    """
    predicted, truth = _checked(log_prob, labels)
    confidence = np.exp(predicted.max(axis=1))
    correct = predicted.argmax(axis=1) == truth
    # The nudge undoes rounding in exp: a confidence of exactly 0.6 belongs to the bin that 0.6 closes.
    place = np.clip(np.ceil(confidence * bins - 1e-9).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    edges = np.linspace(0, 1, bins + 1)
    return pd.DataFrame(
        {
            "lower": edges[:-1],
            "upper": edges[1:],
            "count": count,
            "confidence": np.bincount(place, weights=confidence, minlength=bins) / filled,
            "accuracy": np.bincount(place, weights=correct, minlength=bins) / filled,
        }
    )


def ece(log_prob: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error Σ_b (n_b / N) |accuracy_b − confidence_b| of the most probable class.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.
    """
    table = reliability(log_prob, labels, bins)
    gap = (table["accuracy"] - table["confidence"]).abs().fillna(0.0)
    return float((gap * table["count"]).sum() / table["count"].sum())


def _curve(labels: Sequence[float], values: Sequence[float]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    x, y = np.asarray(labels, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not x.size:
        raise DataError(f"expected one value for each label count, got {y.shape} values for {x.shape} label counts")
    if (np.diff(x) < 0).any():
        raise DataError(f"expected label counts that never fall, got {x.tolist()}")
    return x, y


def area_under_curve(labels: Sequence[float], values: Sequence[float]) -> float:
    """Area under the piecewise linear curve over the number of labels, divided by its range: a mean height.

    A curve without width (one round) has the height of its last point.
    """
    x, y = _curve(labels, values)
    width = x[-1] - x[0]
    return float(np.trapezoid(y, x) / width) if width > 0 else float(y[-1])


def labels_to(target: float, labels: Sequence[float], values: Sequence[float]) -> float | None:
    """Number of labels at which the piecewise linear curve first reaches ``target``; None if it never does.

    A curve that starts at or above the target gives its first number of labels, an upper limit of the true one.
    """
    x, y = _curve(labels, values)
    reached = np.flatnonzero(y >= target)
    if not reached.size:
        return None
    after = int(reached[0])
    if after == 0:
        return float(x[0])
    before = after - 1
    return float(x[before] + (x[after] - x[before]) * (target - y[before]) / (y[after] - y[before]))
