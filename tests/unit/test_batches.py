"""Minibatches: complete passes, never in the data's order, the same for a resumed fit and for several workers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fit import recipe

from al_dgm.learning.batches import Batches, Feed, TrainingData, nearest
from al_dgm.nn.noise import generator

CPU = torch.device("cpu")
sizes = st.integers(1, 40)


def rows(batches, steps):
    return [batches.rows(step) for step in steps]


@settings(max_examples=60, deadline=None)
@given(size=sizes, batch=sizes, seed=st.integers(0, 5))
def test_a_pass_sees_every_row_once_but_for_the_rest(size, batch, seed):
    """Rows left over at the end are dropped, others in every pass; a batch is never larger than the data."""
    batches = Batches(size, batch, seed, "labelled")
    per_pass = size // min(batch, size)
    for number in range(3):
        seen = torch.cat(rows(batches, range(number * per_pass, (number + 1) * per_pass)))
        assert len(seen) == per_pass * min(batch, size) > size - min(batch, size)
        assert len(seen.unique()) == len(seen)
        assert set(seen.tolist()) <= set(range(size))


def test_a_row_that_one_pass_drops_is_seen_in_others():
    batches = Batches(10, 4, 0, "unlabelled")
    assert len(torch.cat(rows(batches, range(40))).unique()) == 10


def test_minibatches_of_class_sorted_data_are_mixed():
    """1000 rows sorted by 10 classes: no batch of 50 lacks more than a few classes, in any pass."""
    labels = torch.arange(1000) // 100
    batches = Batches(1000, 50, 0, "unlabelled")
    for step in range(60):
        counts = labels[batches.rows(step)].bincount(minlength=10)
        assert (counts > 0).sum() >= 8
        assert counts.max() <= 17  # 5 expected, 5.3 standard deviations


def test_passes_are_shuffled_anew_and_by_name_and_seed():
    one = [Batches(20, 20, 0, "labelled").rows(step).tolist() for step in (0, 1)]
    assert one[0] != one[1]
    assert one[0] != Batches(20, 20, 0, "unlabelled").rows(0).tolist()
    assert one[0] != Batches(20, 20, 1, "labelled").rows(0).tolist()


@settings(max_examples=60, deadline=None)
@given(size=sizes, batch=sizes, steps=st.permutations(range(12)))
def test_what_step_t_sees_depends_on_t_alone(size, batch, steps):
    """In any order, from a fresh object or a used one: a resumed fit goes on as if nothing had happened."""
    used = Batches(size, batch, 3, "labelled")
    found = {step: used.rows(step) for step in steps}
    for step in range(12):
        fresh = Batches(size, batch, 3, "labelled")
        assert torch.equal(found[step], fresh.rows(step))
        shape = torch.Size([max(fresh.batch, 1), 2])
        assert torch.equal(used.noise(step, CPU).normal(shape), fresh.noise(step, CPU).normal(shape))


@settings(max_examples=80, deadline=None)
@given(size=sizes, batch=sizes, workers=st.integers(1, 5))
def test_the_shares_of_the_workers_are_the_global_minibatch(size, batch, workers):
    """Even shares in order, or the whole of it for everybody: the mean over workers is that over the minibatch."""
    whole = Batches(size, batch, 0, "labelled")
    shares = [Batches(size, batch, 0, "labelled", rank, workers) for rank in range(workers)]
    for step in range(4):
        parts = [share.rows(step) for share in shares]
        assert len({len(part) for part in parts}) == 1
        joined = torch.cat(parts[: shares[0].sharers])
        assert torch.equal(joined, whole.rows(step))
        choices = torch.cat([share.choices(step, 7) for share in shares[: shares[0].sharers]])
        assert torch.equal(choices, whole.choices(step, 7))
        everything = whole.noise(step, CPU).normal(torch.Size([len(joined), 3]))
        drawn = [s.noise(step, CPU).normal(torch.Size([len(p), 3])) for s, p in zip(shares, parts, strict=True)]
        assert torch.equal(torch.cat(drawn[: shares[0].sharers]), everything)
    assert shares[0].sharers == (workers if whole.batch % workers == 0 else 1)


def test_the_noise_of_labelled_and_unlabelled_rows_is_independent():
    drawn = [Batches(8, 8, 0, name).noise(0, CPU).normal(torch.Size([8, 2])) for name in ("labelled", "unlabelled")]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(("size", "batch"), [(0, 8), (8, 0)])
def test_no_rows_or_no_batch_gives_empty_minibatches(size, batch):
    assert Batches(size, batch, 0, "unlabelled").rows(5).shape == (0,)


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 150), others=st.integers(0, 20), k=st.integers(0, 12), seed=st.integers(0, 5))
def test_the_nearest_rows_are_those_of_a_full_sort(rows, others, k, seed):
    """Up to rounding, by distances in float64; however many rows there are, and of fewer than k, all."""
    x, y = torch.randn(rows, 3, generator=generator(seed)), torch.randn(others, 3, generator=generator(seed + 10))
    distances = (x.double()[:, None] - y.double()).square().sum(-1)
    found = nearest(x, y, k)
    torch.testing.assert_close(distances.gather(1, found), distances.sort().values[:, :k])
    assert all(len(row.unique()) == min(k, others) for row in found)


def test_which_of_equally_near_rows_are_taken_depends_on_nothing_else():
    """Not on how many rows are asked about, nor on where the numbers lie in memory."""
    x, y = (torch.randint(0, 2, (size, 64), generator=generator(size)) * 0.3 for size in (60, 900))
    moved = torch.empty(60 * 64 + 1)[1:].view(60, 64).copy_(x)
    found = nearest(x, y, 5)
    differ = (x[:, None] != y).sum(-1).sort().values
    assert (differ[:, 4] == differ[:, 5]).sum() >= 20  # many choices are between equals
    assert torch.equal(found, nearest(moved, y, 5))
    assert torch.equal(found, torch.cat([nearest(row, y, 5) for row in x.split(1)]))


def test_a_spread_label_comes_with_its_example_and_each_neighbour_equally_often():
    """Of each label they are its own; unspread, it comes with its example alone."""
    x_labelled, x_unlabelled = torch.tensor([[0.0], [100.0]]), torch.tensor([[50.0], [101.0], [2.0], [1.0], [98.0]])
    data = TrainingData(x_labelled, torch.tensor([0, 1]), x_unlabelled)
    neighbours = nearest(x_labelled, x_unlabelled, 2)
    feed = Feed(data, (2, 5), recipe(labelled_batch=2), seed=0, share=(0, 1), neighbours=neighbours)
    steps = 1200
    for spread, expected in ((False, ([0.0], [100.0])), (True, ([0.0, 1.0, 2.0], [98.0, 100.0, 101.0]))):
        batches = [feed.minibatch(step, spread=spread) for step in range(steps)]
        shown, y = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x_labelled", "y"))
        for label, own in enumerate(expected):
            values, counts = shown[y == label].unique(return_counts=True)
            assert values.tolist() == own
            share = 1 / len(own)
            sd = (steps * share * (1 - share)) ** 0.5
            assert (counts - steps * share).abs().max() <= 4 * sd
