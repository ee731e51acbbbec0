"""Named random streams: independent, rebuildable from the name, and the same in every version."""

import itertools

import numpy as np
import pytest

from al_dgm.seeding import integer_seed, rng

# What earlier versions drew. If one of these changes, nobody can reproduce a published run: do not edit them.
GOLDEN_INTEGERS = {
    (0, ()): 9008141647654292383,
    (0, ("init",)): 1990849619285281682,
    (1, ("init",)): 7064687365285987591,
    (0, ("weights", 3)): 6328610794206209956,
    (2**63, ("batches", "labelled", 7)): 8264206111440841067,
}


@pytest.mark.parametrize(("key", "expected"), GOLDEN_INTEGERS.items())
def test_streams_are_what_they_always_were(key, expected):
    seed, names = key
    assert integer_seed(seed, *names) == expected


def test_numpy_streams_are_what_they_always_were():
    assert rng(0, "selection", 1).random(3).tolist() == [0.10410269661528637, 0.3737252258049989, 0.0017655742682922693]


def test_a_stream_is_rebuilt_from_its_name_alone():
    first = rng(5, "noise", 2)
    first.random(100)
    assert rng(5, "noise", 2).random() == rng(5, "noise", 2).random()
    assert first.random() != rng(5, "noise", 2).random()


def test_other_seeds_and_other_names_are_other_streams():
    """Numbers and strings are kept apart, and names do not run together."""
    keys = [(0,), (1,), (0, "a"), (0, "a", "b"), (0, "ab"), (0, "b", "a"), (0, 1), (0, "1"), (0, "a", 1), (0, "a1")]
    assert len({integer_seed(*key) for key in keys}) == len(keys)


def test_streams_are_uncorrelated():
    """Neighbouring names and seeds: correlations of 4000 normals below five standard errors."""
    keys = [(0, "weights", 0), (0, "weights", 1), (1, "weights", 0), (0, "noise", 0)]
    draws = [rng(*key).standard_normal(4000) for key in keys]
    for first, second in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(4000)


def test_integer_seeds_fit_a_torch_generator_and_use_its_range():
    """63 bits, without a sign."""
    seeds = [integer_seed(0, "x", i) for i in range(200)]
    assert min(seeds) >= 0
    assert 2**62 < max(seeds) < 2**63
