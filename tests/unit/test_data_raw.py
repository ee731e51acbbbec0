from dataclasses import replace

import numpy as np
import pytest

from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import DataError, UnknownClassError

GOOD = RawData(
    name="tiny",
    ids=np.array(["a", "b", "c", "d"]),
    features=np.array([[0, 1], [2, 3], [4, 5], [6, 7]], np.float32),
    labels=np.array(["cat", None, "dog", "cat"], dtype=object),
    holdout=np.array([False, False, False, True]),
    shape=(2,),
    classes=("cat", "dog"),
    observation=Observation(kind="gaussian"),
    mean=None,
    sd=None,
    feature_names=("height", "width"),
)
QUANTISED = {"observation": Observation(kind="quantised"), "shape": (1, 2)}
COUNTS = {"observation": Observation(kind="binomial", trials=8), "mean": 0.0, "sd": 8.0}


def features(**changes):
    """The good features with some cells changed: r1c0=5.0 is row 1, column 0."""
    x = GOOD.features.copy()
    for place, value in changes.items():
        x[int(place[1]), int(place[3])] = value
    return {"features": x}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": GOOD.features[:3]}, "tiny: expected 4 features, one for each id, got 3"),
        ({"labels": GOOD.labels[:2]}, "tiny: expected 4 labels, one for each id, got 2"),
        ({"holdout": np.ones(4, bool)}, r"expected examples in the pool, got none \(4 in the holdout\)"),
        ({"holdout": np.zeros(4, bool)}, r"expected examples in the holdout, got none \(4 in the pool\)"),
        ({"classes": ("cat",)}, r"expected at least 2 classes, each once, got \['cat'\]"),
        ({"classes": ("cat", "dog", "cat")}, "expected at least 2 classes, each once"),
        ({"ids": np.array(["a", "b", "b", "b"])}, r"expected unique ids, got 'b' twice \(2 such rows\)"),
        ({"shape": (3,)}, r"expected features \[N, 3\], got \(4, 2\)"),
        ({"features": GOOD.features.astype(np.float64)}, "expected features of type uint8 or float32, got float64"),
        ({"feature_names": ("height",)}, "expected 2 names of features, got 1"),
        (features(r2c1=np.nan), "example 'c': 'width': expected a finite number, got nan"),
        (features(r1c0=np.inf) | {"feature_names": None}, "example 'b': feature 0: expected a finite number, got inf"),
        (COUNTS | features(r3c0=9), "example 'd': 'height': expected a number from 0 to 8, got 9"),
        (COUNTS | features(r0c0=-1), "example 'a': 'height': expected a number from 0 to 8, got -1"),
        (COUNTS | features(r0c1=0.5), "example 'a': 'width': expected a whole number, got 0.5"),
        ({"observation": Observation(kind="bernoulli")}, "expected a fixed scale with bernoulli features, got none"),
        (QUANTISED | {"shape": (2,)}, r"expected a shape such as \[32, 32, 3\] with quantised features, got \[2\]"),
        (QUANTISED | features(r0c1=0.5), "example 'a': 'width': expected a whole number, got 0.5"),
        ({"labels": np.array(["cat", "dog", "dog", None], dtype=object)}, "got none of 'd' \\(1 such\\)"),
    ],
)
def test_refused(changes, message):
    """Each thing that later stages rely on, with the example and what came."""
    with pytest.raises(DataError, match=message):
        replace(GOOD, **changes)


def test_an_unknown_label():
    """Named with its example and the nearest class."""
    with pytest.raises(
        UnknownClassError, match=r"tiny: example 'c': label 'dg' is not a class \(did you mean 'dog'\?\)"
    ):
        replace(GOOD, labels=np.array(["cat", None, "dg", "cat"], dtype=object))


def test_taken():
    """Counts up to the number of trials, as floats or bytes, whole numbers of images, and any finite number."""
    replace(GOOD, **COUNTS)
    replace(GOOD, **QUANTISED)
    replace(GOOD, **COUNTS, features=GOOD.features.astype(np.uint8))
    replace(GOOD, **features(r0c0=-3.5))


def test_labels_are_counted_for_people_to_read():
    """Class by class; of many the rarest and the commonest."""
    assert GOOD.label_counts("pool") == "cat: 1, dog: 1"
    assert GOOD.label_counts("holdout") == "cat: 1, dog: 0"
    many = replace(
        GOOD, classes=("cat", "dog", *map(str, range(30))), labels=np.array(["cat", "cat", "dog", "cat"], object)
    )
    assert many.label_counts("pool") == "of 32 classes from 0: 0 to cat: 2"
