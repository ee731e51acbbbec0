from collections import Counter

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from al_dgm.errors import LabelConflictError
from al_dgm.labelling import ledger as ledgers

CLASSES = ("a", "b", "c")
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

microseconds = st.integers(0, 2**52).map(lambda n: pd.Timestamp(n, unit="us", tz="UTC"))
text = st.text(st.characters(codec="utf-8"), max_size=4)


@st.composite
def answer(draw, opinions=None):
    """A row; with ``opinions``, (id, annotator) -> label, nobody ever contradicts himself."""
    example_id, annotator = draw(st.sampled_from("uvwxyz")), draw(st.sampled_from(["ann", "bob", "cyd"]))
    label = draw(st.sampled_from(CLASSES)) if opinions is None else opinions[example_id, annotator]
    return {
        "id": example_id,
        "label": draw(st.sampled_from([label, label, None])),
        "annotator": annotator,
        "source": draw(text),
        "round": draw(st.integers(0, 2**31 - 1)),
        "time": draw(st.none() | microseconds),
        "query_id": draw(text),
        "model_version": draw(text),
        "cost": draw(st.floats(0, 1e9)),
    }


def frame(answers):
    columns = pd.DataFrame(answers, columns=ledgers.SCHEMA.names, dtype="object")
    return columns.astype({"time": "datetime64[us, UTC]", "round": "int32", "cost": "float64"})


@st.composite
def batches(draw, number):
    """So many frames of answers that agree with each other."""
    keys = [(x, y) for x in "uvwxyz" for y in ("ann", "bob", "cyd")]
    opinions = dict(zip(keys, draw(st.lists(st.sampled_from(CLASSES), min_size=18, max_size=18)), strict=True))
    return [frame(draw(st.lists(answer(opinions), max_size=8))) for _ in range(number)]


def append(ledger, answers):
    return ledgers.append(ledger, answers, CLASSES)


def ledger_of(answers):
    return append(ledgers.empty(), answers)


def keys(*frames):
    """What was said: (id, annotator, label) of every row."""
    rows = pd.concat(frames)
    labels = rows["label"].astype("object").where(rows["label"].notna(), None)
    return list(zip(rows["id"], rows["annotator"], labels, strict=True))


@FEW
@given(batches(3))
def test_append_is_associative(three):
    """Label now or together: (a + b) + c = a + (b + c)."""
    a, b, c = three
    left = append(append(ledger_of(a), b), c)
    right = append(ledger_of(a), append(ledger_of(b), c))
    pd.testing.assert_frame_equal(left, right)


@FEW
@given(batches(2))
def test_append_is_idempotent(two):
    """Collecting the same answers again, all or some, adds nothing."""
    a, b = two
    once = append(ledger_of(a), b)
    pd.testing.assert_frame_equal(append(once, b), once)
    pd.testing.assert_frame_equal(append(once, a.iloc[::-1]), once)


@FEW
@given(batches(2))
def test_append_never_loses_a_row(two):
    """The old ledger is a prefix of the new one, and whatever was said is in it exactly once."""
    a, b = two
    old = ledger_of(a)
    new = append(old, b)
    pd.testing.assert_frame_equal(new.iloc[: len(old)], old)
    assert Counter(keys(new)) == Counter(set(keys(a, b)))
    assert ledgers.answered(new) == {*a["id"], *b["id"]}


@FEW
@given(st.lists(answer(), max_size=12))
def test_append_refuses_contradictions_and_nothing_else(answers):
    """An error is raised if, and only if, one annotator gave one example two labels."""
    said = {(a["id"], a["annotator"], a["label"]) for a in answers if a["label"] is not None}
    if len(said) == len({key[:2] for key in said}):
        ledger_of(frame(answers))
    else:
        with pytest.raises(LabelConflictError):
            ledger_of(frame(answers))


@FEW
@given(batches(1))
@example([frame([])])
def test_parquet_round_trip_is_the_identity(tmp_path, one):
    """Every value and type comes back, to the microsecond and the last bit; the ledger stays appendable."""
    ledger = ledger_of(one[0])
    ledgers.write_ledger(tmp_path / "labels.parquet", ledger)
    back = ledgers.read_ledger(tmp_path / "labels.parquet")
    pd.testing.assert_frame_equal(back, ledger, check_exact=True)
    pd.testing.assert_frame_equal(append(back, one[0]), ledger, check_exact=True)


@FEW
@given(batches(1), st.randoms(use_true_random=False))
def test_consensus_ignores_the_order_up_to_ties(one, random):
    """Shuffled rows give the same labels wherever one class has most votes, and never a class nobody voted for."""
    ledger = ledger_of(one[0])
    shuffled = ledger.sample(frac=1, random_state=random.randrange(2**32))
    first, second = ledgers.consensus(ledger), ledgers.consensus(shuffled)
    assert list(first.index) == list(second.index)
    for example_id in first.index:
        votes = Counter(ledger.loc[(ledger["id"] == example_id) & ledger["label"].notna(), "label"])
        most = {label for label, number in votes.items() if number == max(votes.values())}
        assert {first[example_id], second[example_id]} <= most


@FEW
@given(batches(1))
def test_consensus_equals_the_plain_reference(one):
    """The grouped computation against a loop: most votes, then the earliest."""
    ledger = ledger_of(one[0])
    votes = {}
    for example_id, _, label in keys(ledger):
        if label is not None:
            votes.setdefault(example_id, []).append(label)
    # most_common keeps the order of first occurrence among equals
    expected = {example_id: Counter(labels).most_common(1)[0][0] for example_id, labels in votes.items()}
    assert ledgers.consensus(ledger).to_dict() == expected
    assert ledgers.count(ledger) == len(expected)
