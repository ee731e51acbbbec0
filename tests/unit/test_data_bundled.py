import numpy as np
import pytest
from sklearn.datasets import load_digits

from al_dgm.data import DATASETS
from al_dgm.errors import ConfigError


def test_digits_are_sklearns():
    """1797 counts out of 16 under ids that are rows of the source; as many held out as asked for, by the seed."""
    raw, other = DATASETS["digits"](seed=0, holdout=600), DATASETS["digits"](seed=1, holdout=600)
    np.testing.assert_array_equal(raw.features, load_digits().data)
    assert (raw.ids[0], raw.ids[-1], len(raw.ids)) == ("digits-0000", "digits-1796", 1797)
    assert raw.holdout.sum() == other.holdout.sum() == 600
    assert (raw.holdout != other.holdout).any()
    assert (raw.observation.kind, raw.observation.trials, raw.sd) == ("binomial", 16, 16)


def test_digits_binarised():
    """The same proportions, each drawn anew in training."""
    raw = DATASETS["digits"](seed=0, observation="bernoulli")
    assert (raw.observation.kind, raw.observation.trials, raw.sd) == ("bernoulli", 1, 16)


@pytest.mark.parametrize("holdout", [0, 1797, -1])
def test_digits_need_a_pool_and_a_holdout(holdout):
    """Neither may be empty."""
    with pytest.raises(ConfigError, match=rf"data.digits.holdout: expected 1 to 1796, got {holdout}"):
        DATASETS["digits"](seed=0, holdout=holdout)


def test_half_moons_are_two_draws():
    """Pool and holdout as large as asked for, sharing no point; without noise the points lie on the half circles."""
    raw = DATASETS["half_moons"](seed=0, examples=60, holdout=20, noise=0.0)
    assert raw.holdout.tolist() == [False] * 60 + [True] * 20
    x, upper = raw.features, raw.labels == "upper"
    assert upper.sum() == 40
    np.testing.assert_allclose(np.hypot(x[upper, 0], x[upper, 1]), 1, atol=1e-6)
    np.testing.assert_allclose(np.hypot(x[~upper, 0] - 1, x[~upper, 1] - 0.5), 1, atol=1e-6)
    noisy = DATASETS["half_moons"](seed=0, examples=60, holdout=60).features
    assert not {tuple(row) for row in noisy[:60]} & {tuple(row) for row in noisy[60:]}
