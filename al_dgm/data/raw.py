"""A data set as its loader hands it over, checked once, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, PositiveInt

from al_dgm.errors import DataError, UnknownClassError
from al_dgm.registry import nearest


class Observation(BaseModel):
    """How x is observed: binary, counts out of ``trials``, or real."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["bernoulli", "binomial", "gaussian"]
    trials: PositiveInt = 1


@dataclass(frozen=True)
class RawData:
    """All examples of a data set, pool and holdout together.

    Attributes:
        name: of the data set.
        ids: permanent example ids, [N], strings, unique.
        features: [N, D], uint8 or float32, as stored.
        labels: [N], class names, None where unknown.
        holdout: [N], bool; true for examples that only measure.
        shape: of one example: (8, 8) for an image, (D,) for a row.
        classes: class names in the order of the model's outputs.
        observation: how x is observed.
        mean: subtracted from the stored features, one number or [D]; None to take the pool's own.
        sd: divides after that; None to take the pool's own.
        feature_names: of the D columns, where they have names.
    """

    name: str
    ids: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    holdout: np.ndarray
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    observation: Observation
    mean: float | None = 0.0
    sd: float | None = 1.0
    feature_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check all that later stages rely on.

        Raises:
            DataError: sizes disagree, an id occurs twice, a feature is not finite, the pool or a label is missing.
            UnknownClassError: a label is not one of ``classes``.
        """
        self._check_sizes()
        self._check_ids()
        self._check_features()
        self._check_labels()

    def _check_sizes(self) -> None:
        n = len(self.ids)
        sizes = {"features": len(self.features), "labels": len(self.labels), "holdout": len(self.holdout)}
        for what, size in sizes.items():
            if size != n:
                raise DataError(f"{self.name}: expected {n} {what}, one for each id, got {size}")
        if self.holdout.all():
            raise DataError(f"{self.name}: expected examples in the pool, got none ({n} in the holdout)")
        if len(self.classes) < 2:
            raise DataError(f"{self.name}: expected at least 2 classes, got {list(self.classes)}")

    def _check_ids(self) -> None:
        unique, counts = np.unique(self.ids, return_counts=True)
        if (counts > 1).any():
            twice = unique[counts > 1]
            raise DataError(f"{self.name}: expected unique ids, got '{twice[0]}' twice ({len(twice)} such ids)")

    def _check_features(self) -> None:
        if self.features.ndim != 2 or self.features.shape[1] != int(np.prod(self.shape)):
            raise DataError(
                f"{self.name}: expected features [N, {int(np.prod(self.shape))}], got {self.features.shape}"
            )
        if self.features.dtype == np.uint8:
            return
        broken = ~np.isfinite(self.features)
        if broken.any():
            row, column = np.argwhere(broken)[0]
            name = self.feature_names[column] if self.feature_names else f"feature {column}"
            raise DataError(f"{self.name}: example '{self.ids[row]}': {name} is {self.features[row, column]}")

    def _check_labels(self) -> None:
        known = set(self.classes)
        for example, label in zip(self.ids, self.labels, strict=True):
            if label is not None and label not in known:
                raise UnknownClassError(
                    f"{self.name}: example '{example}': label '{label}' is not a class{nearest(label, known)}; "
                    f"expected one of: {', '.join(self.classes)}"
                )
        missing = [
            example
            for example, label in zip(self.ids[self.holdout], self.labels[self.holdout], strict=True)
            if label is None
        ]
        if missing:
            raise DataError(f"{self.name}: holdout example '{missing[0]}' has no label ({len(missing)} such)")
