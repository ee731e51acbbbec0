"""The first labels: which examples the loop starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from al_dgm.errors import ConfigError, DataError, PoolExhaustedError
from al_dgm.seeding import rng

Strategy = Literal["balanced", "random", "given"]


def choose_seed_set(
    strategy: Strategy,
    size: int,
    pool_ids: Iterable[str],
    classes: Sequence[str],
    truth: Callable[[], Mapping[str, str]],
    seed: int,
) -> tuple[str, ...]:
    """Example ids to label before the first training; the same for equal seeds, whatever the order of ``pool_ids``.

    Args:
        strategy: ``random``: uniformly, without replacement. ``balanced``: ``size // C`` of each of the C classes and
            one more of ``size % C`` classes drawn at random. ``given``: every example whose label is known already,
            sorted by id, for a pool that comes partly labelled; ``size`` is ignored.
        size: number of examples.
        pool_ids: ids of the pool.
        classes: the data set's class names.
        truth: reads the known labels, example id -> class name; not called by ``random``.
        seed: the run's seed.

    Raises:
        PoolExhaustedError: the pool has fewer than ``size`` examples.
        DataError: a class has too few examples (``balanced``), or no label is known (``given``).
    """
    pool = sorted(set(pool_ids))
    if strategy == "random":
        return _random(size, pool, seed)
    known = truth()
    labels = {example: known[example] for example in pool if example in known}
    if strategy == "balanced":
        return _balanced(size, labels, classes, seed)
    if strategy == "given":
        return _given(labels)
    raise ConfigError(f"seed_set.strategy: expected 'balanced', 'random' or 'given', got '{strategy}'")


def _random(size: int, pool: Sequence[str], seed: int) -> tuple[str, ...]:
    if size > len(pool):
        raise PoolExhaustedError(size, len(pool))
    chosen = rng(seed, "seed set").choice(len(pool), size, replace=False)
    return tuple(pool[position] for position in chosen)


def _balanced(size: int, labels: Mapping[str, str], classes: Sequence[str], seed: int) -> tuple[str, ...]:
    generator = rng(seed, "seed set")
    favoured = set(generator.choice(len(classes), size % len(classes), replace=False).tolist())
    chosen: list[str] = []
    for index, label in enumerate(classes):
        members = [example for example, own in labels.items() if own == label]
        wanted = size // len(classes) + (index in favoured)
        if wanted > len(members):
            raise DataError(f"seed set: expected at least {wanted} examples of class '{label}', got {len(members)}")
        positions = rng(seed, "seed set", label).choice(len(members), wanted, replace=False)
        chosen += [members[position] for position in positions]
    # In random order: whoever labels the first half only has not labelled the first half of the classes.
    return tuple(chosen[position] for position in generator.permutation(len(chosen)))


def _given(labels: Mapping[str, str]) -> tuple[str, ...]:
    if not labels:
        raise DataError("seed set 'given': expected examples of the pool whose label is known, got none")
    return tuple(labels)
