"""Measures of predictions and of learning curves, against closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from al_dgm.errors import DataError
from al_dgm.learning import metrics

LOG = np.log([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
TRUTH = np.array([0, 1, 2])


def uniform(n, c):
    return np.full((n, c), -math.log(c))


def test_accuracy_counts_the_most_probable_class():
    """Two of the three rows have their largest entry at the true class."""
    assert metrics.accuracy(LOG, TRUTH) == pytest.approx(2 / 3)


def test_nll_is_the_mean_surprise_in_nats():
    """-(log 0.7 + log 0.3 + log 0.8) / 3."""
    assert metrics.nll(LOG, TRUTH) == pytest.approx(-math.log(0.7 * 0.3 * 0.8) / 3)


def test_nll_of_a_class_thought_impossible_is_infinite():
    """A confident mistake is not hidden by a floor."""
    assert metrics.nll([[0.0, -math.inf]], np.array([1])) == math.inf


def test_brier_sums_over_classes():
    """(0.3² + 0.2² + 0.1²), (0.5² + 0.7² + 0.2²), (0.1² + 0.1² + 0.2²), averaged."""
    assert metrics.brier(LOG, TRUTH) == pytest.approx((0.14 + 0.78 + 0.06) / 3)


@pytest.mark.parametrize("classes", [2, 10])
def test_uniform_predictions_have_their_known_scores(classes):
    """log C nats, Brier 1 - 1/C, and an ECE of |accuracy - 1/C|."""
    truth = np.arange(4) % classes
    log_prob = uniform(4, classes)
    assert metrics.nll(log_prob, truth) == pytest.approx(math.log(classes))
    assert metrics.brier(log_prob, truth) == pytest.approx(1 - 1 / classes)
    assert metrics.ece(log_prob, truth) == pytest.approx(abs((truth == 0).mean() - 1 / classes))


def test_ece_is_the_weighted_gap_between_confidence_and_accuracy():
    """Ten at 0.9 with 7 right and ten at 0.6 with 6 right: half of 0.2, half of 0."""
    log_prob = np.log(np.repeat([[0.9, 0.1], [0.6, 0.4]], 10, axis=0))
    truth = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert metrics.ece(log_prob, truth) == pytest.approx(0.1)


def test_reliability_bins_are_closed_above():
    """With five bins a confidence of exactly 0.6 belongs to (0.4, 0.6], and 1 to the last bin."""
    table = metrics.reliability(np.log([[0.6, 0.4], [1.0, 1e-300]]), np.array([0, 1]), bins=5)
    assert table["count"].tolist() == [0, 0, 1, 0, 1]
    assert table["accuracy"].dropna().tolist() == [1.0, 0.0]
    assert table["confidence"].dropna().tolist() == pytest.approx([0.6, 1.0])
    assert (table["lower"].iloc[0], table["upper"].iloc[-1]) == (0.0, 1.0)


def test_no_rounding_moves_a_confidence_over_an_edge():
    """exp(log(14/25)) is a hair above 14/25; it belongs to the bin that 14/25 closes all the same."""
    edges = np.arange(13, 26) / 25
    table = metrics.reliability(np.log(np.stack([edges, 1 - edges + 1e-300], axis=1)), np.zeros(13, dtype=int), bins=25)
    assert table["count"].tolist() == [0] * 12 + [1] * 13


@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_bounds_hold_for_any_predictions(n, classes, seed):
    """ECE in 0..1, Brier in 0..2, every example in one bin."""
    source = np.random.default_rng(seed)
    log_prob = np.log(source.dirichlet(np.full(classes, 0.5), n) + 1e-12)
    log_prob -= np.logaddexp.reduce(log_prob, axis=1, keepdims=True)
    truth = source.integers(classes, size=n)
    assert 0 <= metrics.ece(log_prob, truth) <= 1
    assert 0 <= metrics.brier(log_prob, truth) <= 2
    assert metrics.reliability(log_prob, truth)["count"].sum() == n


@pytest.mark.parametrize(
    ("log_prob", "labels", "message"),
    [
        (LOG, [0, 1], r"got \(3, 3\) and \(2,\)"),
        (np.zeros((0, 3)), [], "N > 0"),
        (LOG, [0, 1, 3], r"expected integer labels in 0\.\.2, got 0\.\.3"),
        (LOG, [0.0, 1.0, 2.0], "expected integer labels"),
        (LOG * np.nan, TRUTH, "expected log-probabilities"),
        (np.exp(LOG), TRUTH, r"expected log-probabilities ≤ 0, got 0\.[78]"),
    ],
)
def test_unusable_predictions_are_refused(log_prob, labels, message):
    """Wrong shapes, labels outside the classes, and probabilities in place of log-probabilities."""
    with pytest.raises(DataError, match=message):
        metrics.accuracy(log_prob, np.asarray(labels))


def test_area_of_a_straight_line_is_its_mean_height():
    """From 0 to 1 over any range: one half, however the points are spaced."""
    assert metrics.area_under_curve([10, 20, 110], [0.0, 0.1, 1.0]) == pytest.approx(0.5)


def test_area_weighs_wide_gaps_more():
    """(10 x 0.55 + 90 x 0.9) / 100 for a curve that rises early."""
    assert metrics.area_under_curve([0, 10, 100], [0.2, 0.9, 0.9]) == pytest.approx((5.5 + 81) / 100)


def test_area_without_width_is_the_last_height():
    """One round, or a round that brought no label."""
    assert metrics.area_under_curve([20], [0.4]) == 0.4
    assert metrics.area_under_curve([20, 20], [0.4, 0.6]) == 0.6


def test_labels_to_interpolates_the_first_crossing():
    """0.9 lies halfway between 0.8 at 20 and 1.0 at 40, whatever comes after."""
    assert metrics.labels_to(0.9, [10, 20, 40, 60], [0.5, 0.8, 1.0, 0.3]) == pytest.approx(30)


def test_labels_to_takes_the_first_of_several_crossings():
    """A curve that falls again has reached the target all the same."""
    assert metrics.labels_to(0.9, [10, 20, 30, 40], [0.5, 0.9, 0.2, 1.0]) == 20


def test_labels_to_at_the_ends():
    """Never reached: None. Reached by the seed set: the first count."""
    assert metrics.labels_to(0.95, [10, 20], [0.5, 0.9]) is None
    assert metrics.labels_to(0.4, [10, 20], [0.5, 0.9]) == 10


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [([20, 10], [0.1, 0.2], "never fall"), ([10], [0.1, 0.2], "one value for each"), ([], [], "one value for each")],
)
def test_an_impossible_curve_is_refused(labels, values, message):
    """Label counts that fall, or that do not match the values."""
    with pytest.raises(DataError, match=message):
        metrics.area_under_curve(labels, values)
