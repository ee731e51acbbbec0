from collections import Counter

import pytest

from al_dgm.errors import ConfigError, DataError, PoolExhaustedError
from al_dgm.labelling.known import KnownLabels
from al_dgm.labelling.query import make_query
from al_dgm.labelling.seed_set import choose_seed_set

CLASSES = ("a", "b", "c")
POOL = [f"x{n:03d}" for n in range(60)]
TRUTH = {x: "abc"[n % 3] for n, x in enumerate(POOL)}


def chosen(strategy, size, pool=POOL, truth=TRUTH, seed=0):
    return choose_seed_set(strategy, size, pool, CLASSES, lambda: truth, seed)


@pytest.mark.parametrize("strategy", ["balanced", "random", "given"])
def test_the_seed_decides_not_the_order_of_the_pool(strategy):
    """However the pool is sharded or sorted, the same seed starts from the same examples."""
    assert chosen(strategy, 12, POOL[::-1]) == chosen(strategy, 12)
    assert set(chosen(strategy, 12)) <= set(POOL)


@pytest.mark.parametrize("strategy", ["balanced", "random"])
def test_another_seed_is_another_set(strategy):
    """Repetitions of an experiment start differently."""
    assert set(chosen(strategy, 12, seed=1)) != set(chosen(strategy, 12))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11, 12, 60])
def test_balanced_differs_by_one_at_most(size):
    """The size is spread as evenly as it can be, without an example twice."""
    ids = chosen("balanced", size)
    counts = [Counter(TRUTH[x] for x in ids)[c] for c in CLASSES]
    assert len(set(ids)) == sum(counts) == size
    assert max(counts) - min(counts) <= 1


def test_the_remainder_goes_to_random_classes():
    """No class is always the one that gets one more: over 30 seeds each class is."""
    favoured = {TRUTH[chosen("balanced", 1, seed=seed)[0]] for seed in range(30)}
    assert favoured == set(CLASSES)


def test_balanced_is_in_random_order():
    """The ranks are not sorted by class."""
    labels = [TRUTH[x] for x in chosen("balanced", 30)]
    assert labels != sorted(labels)


def test_balanced_looks_at_the_pool_alone():
    """Labels that are known of examples outside the pool are not drawn."""
    pool = POOL[:30]
    assert set(chosen("balanced", 30, pool)) == set(pool)


def test_balanced_names_the_class_that_is_too_small():
    """A class with too few known examples is told with how many there are."""
    truth = {x: label for x, label in TRUTH.items() if label != "b" or x < "x008"}
    with pytest.raises(DataError, match="expected at least 4 examples of class 'b', got 3"):
        chosen("balanced", 12, truth=truth)


def test_random_never_reads_the_truth():
    """With people as labellers there is no truth to read."""

    def forbidden():
        raise AssertionError

    assert len(set(choose_seed_set("random", 7, POOL, CLASSES, forbidden, 0))) == 7


def test_random_is_uniform():
    """Over 2000 seeds each of 10 examples is in a set of 3 in 30 % of them: within four standard errors."""
    counts = Counter(x for seed in range(2000) for x in chosen("random", 3, POOL[:10], seed=seed))
    assert all(abs(counts[x] - 600) < 4 * (2000 * 0.3 * 0.7) ** 0.5 for x in POOL[:10])


def test_random_from_too_small_a_pool():
    """More than there is cannot be drawn."""
    with pytest.raises(PoolExhaustedError, match="requested 61 examples, available 60"):
        chosen("random", 61)


def test_given_is_every_known_label_of_the_pool():
    """The size is ignored, and so are labels of examples outside the pool."""
    assert chosen("given", 1, truth={"x005": "a", "x001": "b", "elsewhere": "c"}) == ("x001", "x005")


def test_given_needs_a_label():
    """A loop cannot start from nothing."""
    with pytest.raises(DataError, match="label is known, got none"):
        chosen("given", 1, truth={})


def test_unknown_strategy():
    """A strategy that does not exist is named."""
    with pytest.raises(ConfigError, match="got 'oldest'"):
        chosen("oldest", 1)


def test_labels_that_the_data_came_with_say_so_and_cost_nothing():
    query = make_query(0, "none", "seed set: given", ["x001", "x000"], [0.0, 0.0])
    answers = KnownLabels(lambda: TRUTH).collect(query)
    assert answers.pending == ()
    found = answers.labels[["id", "label", "annotator", "source", "cost"]].to_numpy().tolist()
    assert found == [["x001", "b", "data", "data", 0.0], ["x000", "a", "data", "data", 0.0]]
