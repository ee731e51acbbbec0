"""A data set as its loader hands it over, checked once, before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, PositiveInt

from al_dgm.errors import DataError, UnknownClassError
from al_dgm.registry import nearest
from al_dgm.shapes import image_shape

SHOWN = 20  # classes in a line


class Observation(BaseModel):
    """How x is observed: binary, counts out of ``trials``, real, or real in whole steps, as bytes of an image."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["bernoulli", "binomial", "gaussian", "quantised"]
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
        mean: subtracted from the stored features; None to take the pool's own, of each feature, or of each channel of
            quantised images.
        sd: divides after that; None to take the pool's own, of each feature, or of all of quantised images together.
        feature_names: of the D columns, where they have names.
        permanent_ids: whether an id means the same example for ever; row numbers do not.
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
    permanent_ids: bool = True

    def __post_init__(self) -> None:
        """Check all that later stages rely on.

        Raises:
            DataError: sizes or types disagree, an id occurs twice, a feature is not finite or not what the observation
                model describes, the pool, the holdout or one of its labels is missing.
            UnknownClassError: a label is not one of ``classes``.
        """
        self._check_sizes()
        self._check_classes()
        self._check_ids()
        self._check_features()
        self._check_observation()
        self._check_labels()

    def label_counts(self, part: Literal["pool", "holdout"]) -> str:
        """How many examples of each class are labelled there, in words; of many classes the rarest and the commonest.

        For people to read: a misspelt name is a class of its own.
        """
        own = self.labels[self.holdout if part == "holdout" else ~self.holdout]
        counts = pd.Series(own, dtype=object).value_counts().reindex(list(self.classes), fill_value=0)
        if len(counts) > SHOWN:
            counts = counts.sort_values(kind="stable").iloc[[0, -1]]
            return f"of {len(self.classes)} classes from {_in_words(counts, ' to ')}"
        return _in_words(counts, ", ")

    def _check_sizes(self) -> None:
        n = len(self.ids)
        sizes = {"features": len(self.features), "labels": len(self.labels), "holdout": len(self.holdout)}
        for what, size in sizes.items():
            if size != n:
                raise DataError(f"{self.name}: expected {n} {what}, one for each id, got {size}")
        if self.holdout.all():
            raise DataError(f"{self.name}: expected examples in the pool, got none ({n} in the holdout)")
        if not self.holdout.any():
            raise DataError(f"{self.name}: expected examples in the holdout, got none ({n} in the pool)")

    def _check_classes(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise DataError(f"{self.name}: expected at least 2 classes, each once, got {list(self.classes)}")

    def _check_ids(self) -> None:
        again = pd.Index(self.ids).duplicated()
        if again.any():
            twice = self.ids[again.argmax()]
            raise DataError(f"{self.name}: expected unique ids, got '{twice}' twice ({again.sum()} such rows)")

    def _check_features(self) -> None:
        size = math.prod(self.shape)
        if self.features.ndim != 2 or self.features.shape[1] != size or not size:
            raise DataError(f"{self.name}: expected features [N, {size}], got {self.features.shape}")
        if self.features.dtype not in {np.dtype(np.uint8), np.dtype(np.float32)}:
            raise DataError(f"{self.name}: expected features of type uint8 or float32, got {self.features.dtype}")
        if self.feature_names is not None and len(self.feature_names) != size:
            raise DataError(f"{self.name}: expected {size} names of features, got {len(self.feature_names)}")
        if self.features.dtype != np.uint8:
            self._refuse(~np.isfinite(self.features), "a finite number")

    def _check_observation(self) -> None:
        """Binary and counted features are proportions in model space, counts and steps whole numbers as stored."""
        if self.observation.kind == "gaussian":
            return
        if self.observation.kind == "quantised":
            self._check_quantised()
            return
        if self.mean is None or self.sd is None:
            raise DataError(f"{self.name}: expected a fixed scale with {self.observation.kind} features, got none")
        low, high = self.mean, self.mean + self.sd
        self._refuse((self.features < low) | (self.features > high), f"a number from {low:g} to {high:g}")
        if self.observation.kind == "binomial":
            self._check_whole()

    def _check_quantised(self) -> None:
        if image_shape(self.shape) is None:
            raise DataError(
                f"{self.name}: expected a shape such as [32, 32, 3] with quantised features, got {list(self.shape)}"
            )
        self._check_whole()

    def _check_whole(self) -> None:
        if self.features.dtype != np.uint8:
            self._refuse(self.features != np.floor(self.features), "a whole number")

    def _refuse(self, broken: np.ndarray, expected: str) -> None:
        """Raise for the first feature that is marked in ``broken`` [N, D]."""
        if not broken.any():
            return
        row, column = np.unravel_index(int(broken.argmax()), broken.shape)
        name = f"'{self.feature_names[column]}'" if self.feature_names else f"feature {column}"
        raise DataError(
            f"{self.name}: example '{self.ids[row]}': {name}: expected {expected}, got {self.features[row, column]}"
        )

    def _check_labels(self) -> None:
        missing = pd.isna(self.labels)
        unknown = (pd.Index(self.classes, dtype=object).get_indexer(pd.Index(self.labels, dtype=object)) < 0) & ~missing
        if unknown.any():
            row = int(unknown.argmax())
            label = str(self.labels[row])
            raise UnknownClassError(
                f"{self.name}: example '{self.ids[row]}': label '{label}' is not a class"
                f"{nearest(label, self.classes)}; expected one of: {', '.join(self.classes)}"
            )
        unmeasured = self.ids[self.holdout & missing]
        if len(unmeasured):
            raise DataError(
                f"{self.name}: expected labels in the holdout, got none of '{unmeasured[0]}' ({len(unmeasured)} such)"
            )


def _in_words(counts: pd.Series, between: str) -> str:
    return between.join(f"{name}: {count}" for name, count in counts.items())
