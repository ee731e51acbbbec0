"""What the benchmarks say of active-learning loops, against values worked out by hand."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LABELS = (10, 20)


@pytest.fixture(scope="module")
def loops():
    """benchmarks/digit_loops.py, with the neighbours that it imports."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "TQDM_DISABLE"):
            patch.setenv(name, "1")
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("digit_loops")
    for name in {"common", "digits_data", "digit_loops"} - before:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("last", "collapsed"), [(0.84, True), (0.86, False), (0.99, False)])
def test_a_loop_collapses_where_it_falls_by_a_tenth_from_its_best(loops, last, collapsed):
    """From 0.95, not from the first or the one before."""
    assert loops.Loop({10: 0.7, 20: 0.95, 30: 0.93, 40: last}, failed=False).collapsed is collapsed


def test_a_row_compares_whole_loops_of_the_same_seed(loops):
    """Areas 0.9 and 0.9 against 0.8 and 0.7; a failed loop enters no mean, but counts, and never arrives."""
    ours = {
        0: loops.Loop({10: 0.9, 20: 0.9}, failed=False),
        1: loops.Loop({10: 0.8, 20: 1.0}, failed=False),
        2: loops.Loop({10: 0.5}, failed=True),
    }
    theirs = {seed: loops.Loop({10: area, 20: area}, failed=False) for seed, area in ((0, 0.8), (1, 0.7), (2, 0.1))}
    row = loops.loop_row(ours, theirs, LABELS)
    assert row["auc"] == pytest.approx(0.9)
    assert row["auc_gain"] == pytest.approx(0.15)
    assert (row["labels_to_95"], row["n"], row["failures"]) == (None, 2, 1)
    assert loops.loop_row(ours, None, LABELS)["auc_gain"] is None
    assert loops.mean_curve(ours, LABELS) == pytest.approx({10: 0.85, 20: 0.95})
