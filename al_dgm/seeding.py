"""One seed, many independent named streams.

Each purpose (initial weights, minibatches, weight sample k of round r, selection noise, oracle noise) draws from a
stream of its own, so that using more numbers in one place never shifts another, and any stream can be rebuilt from
its name alone on any worker:

    stream(seed, names) = SeedSequence(entropy=seed, spawn_key=SHA-256(names) as eight 32-bit words)
"""

from __future__ import annotations

import hashlib

import numpy as np

Name = str | int


def _sequence(seed: int, names: tuple[Name, ...]) -> np.random.SeedSequence:
    # repr keeps ("round", 1) and ("round", "1") apart, and ("ab",) from ("a", "b").
    digest = hashlib.sha256(repr(names).encode()).digest()
    words = tuple(int(word) for word in np.frombuffer(digest, dtype="<u4"))
    return np.random.SeedSequence(entropy=seed, spawn_key=words)


def rng(seed: int, *names: Name) -> np.random.Generator:
    """The NumPy generator of the named stream."""
    return np.random.default_rng(_sequence(seed, names))


def integer_seed(seed: int, *names: Name) -> int:
    """A 63-bit integer of the named stream, for libraries that seed themselves (``torch.Generator``)."""
    return int(_sequence(seed, names).generate_state(1, dtype=np.uint64)[0] >> np.uint64(1))
