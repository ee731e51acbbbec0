import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from al_dgm.errors import DataError, LabelConflictError, LabelError, LedgerCorruptError, UnknownClassError
from al_dgm.labelling import ledger as ledgers

CLASSES = ("cat", "dog", "horse")


def rows(*answers, cost=1.0):
    """Answers as (id, label, annotator)."""
    return pd.DataFrame(
        [
            {
                "id": example,
                "label": label,
                "annotator": annotator,
                "source": "csv",
                "round": 1,
                "time": pd.Timestamp("2026-01-02T03:04:05.678901", tz="UTC"),
                "query_id": "r001-000000000000",
                "model_version": "m",
                "cost": cost,
            }
            for example, label, annotator in answers
        ],
        columns=ledgers.SCHEMA.names,
    )


def ledger_of(*answers, cost=1.0):
    return ledgers.append(ledgers.empty(), rows(*answers, cost=cost), CLASSES)


def triples(ledger):
    labels = [
        None if missing else label for label, missing in zip(ledger["label"], ledger["label"].isna(), strict=True)
    ]
    return list(zip(ledger["id"], labels, ledger["annotator"], strict=True))


def test_empty_ledger_has_the_schema():
    """Without a row there are still all columns, with their types."""
    empty = ledgers.empty()
    assert list(empty.columns) == ledgers.SCHEMA.names
    assert empty["round"].dtype == "int32"
    assert str(empty["time"].dtype) == "datetime64[us, UTC]"
    assert (ledgers.count(empty), ledgers.total_cost(empty), ledgers.answered(empty)) == (0, 0.0, set())
    assert ledgers.consensus(empty).empty


def test_append_keeps_the_order_and_the_old_ledger():
    """Rows stand in the order they came, and what was passed in is as before."""
    old = ledger_of(("b", "cat", "ann"))
    new = rows(("a", "dog", "ann"), ("b", "dog", "bob"))
    before, before_new = old.copy(), new.copy()
    longer = ledgers.append(old, new, CLASSES)
    assert triples(longer) == [("b", "cat", "ann"), ("a", "dog", "ann"), ("b", "dog", "bob")]
    pd.testing.assert_frame_equal(old, before)
    pd.testing.assert_frame_equal(new, before_new)


def test_a_repeat_is_dropped_and_the_first_stays():
    """The same answer of the same annotator again, whenever and at whatever cost, changes nothing."""
    once = ledger_of(("a", "cat", "ann"), ("b", None, "ann"))
    twice = ledgers.append(once, rows(("a", "cat", "ann"), ("b", None, "ann"), cost=9.0), CLASSES)
    pd.testing.assert_frame_equal(twice, once)


def test_a_skip_does_not_hinder_a_label():
    """Somebody who skipped an example first may label it later; both answers stay."""
    ledger = ledgers.append(ledger_of(("a", None, "ann")), rows(("a", "cat", "ann")), CLASSES)
    assert triples(ledger) == [("a", None, "ann"), ("a", "cat", "ann")]


def test_unknown_class_names_id_label_and_nearest():
    """A label outside the classes is refused with what was probably meant."""
    with pytest.raises(UnknownClassError, match=r"example 'a': .*got 'hrose' \(did you mean 'horse'\?\)"):
        ledger_of(("b", "cat", "ann"), ("a", "hrose", "ann"))


def test_unknown_class_without_a_near_one_lists_the_classes():
    """Where nothing is near, the message says what there is."""
    with pytest.raises(UnknownClassError, match="got '7'; there are: cat, dog, horse"):
        ledger_of(("a", "7", "ann"))


@pytest.mark.parametrize("split", [1, 2], ids=["within the answers", "against the ledger"])
def test_conflicts_are_refused(split):
    """One annotator gives one example one label."""
    answers = [("b", "cat", "ann"), ("a", "cat", "ann"), ("a", "dog", "ann")]
    ledger = ledger_of(*answers[:split])
    with pytest.raises(LabelConflictError, match=r"example 'a': expected 'cat', annotator 'ann' .* got 'dog'"):
        ledgers.append(ledger, rows(*answers[split:]), CLASSES)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (rows(("a", "cat", "ann")).drop(columns="cost"), "expected the columns"),
        (rows((None, "cat", "ann")), "column 'id', got none in row 0"),
        (rows(("a", 7, "ann")), "column label"),
    ],
    ids=["missing column", "no id", "label is a number"],
)
def test_rows_that_are_no_answers_are_refused(answers, message):
    """What has not the ledger's columns and types cannot enter it."""
    with pytest.raises(LabelError, match=message):
        ledgers.append(ledgers.empty(), answers, CLASSES)


def test_consensus_is_the_majority():
    """Most annotators win, and ids come sorted."""
    ledger = ledger_of(("b", "dog", "ann"), ("b", "cat", "bob"), ("b", "cat", "cyd"), ("a", "horse", "ann"))
    assert ledgers.consensus(ledger).to_dict() == {"a": "horse", "b": "cat"}
    assert list(ledgers.consensus(ledger).index) == ["a", "b"]


def test_consensus_of_a_tie_is_the_earliest():
    """Among labels with equally many votes, the one that came first counts, not the first of the alphabet."""
    ledger = ledger_of(("a", "dog", "ann"), ("a", "cat", "bob"), ("a", "cat", "cyd"), ("a", "dog", "dan"))
    assert ledgers.consensus(ledger)["a"] == "dog"


def test_skips_have_no_vote_but_are_answers():
    """A skipped example is never queried again, is no label, and is paid for."""
    ledger = ledger_of(("a", None, "ann"), ("a", None, "bob"), ("a", "cat", "cyd"), ("b", None, "ann"), cost=0.1)
    assert ledgers.consensus(ledger).to_dict() == {"a": "cat"}
    assert ledgers.answered(ledger) == {"a", "b"}
    assert ledgers.count(ledger) == 1
    assert ledgers.total_cost(ledger) == 0.4


def test_costs_add_up_exactly():
    """Ten dimes are a dollar: no rounding piles up, and the order of rows does not show."""
    assert ledgers.total_cost(ledger_of(*((str(n), "cat", "ann") for n in range(10)), cost=0.1)) == 1.0


def test_count_is_of_examples():
    """Two annotators' labels of one example are one labelled example."""
    assert ledgers.count(ledger_of(("a", "cat", "ann"), ("a", "cat", "bob"), ("b", "cat", "bob"))) == 2


def test_equal_ledgers_write_equal_files(tmp_path):
    """Nothing but the ledger is in the file, so that DVC's cache hits."""
    ledger = ledger_of(("a", "cat", "ann"), ("b", None, "ann"))
    ledgers.write_ledger(tmp_path / "one", ledger)
    ledgers.write_ledger(tmp_path / "two", ledger.set_index(pd.Index([7, 5])))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert pq.read_schema(tmp_path / "one").equals(ledgers.SCHEMA, check_metadata=True)


def test_a_ledger_saved_by_pandas_is_a_ledger(tmp_path):
    """Somebody may filter a ledger in a notebook; string flavours and pandas' own metadata do not matter."""
    ledger = ledger_of(("a", "cat", "ann"), ("b", None, "ann"))
    ledger.to_parquet(tmp_path / "labels.parquet")
    pd.testing.assert_frame_equal(ledgers.read_ledger(tmp_path / "labels.parquet"), ledger)


def test_a_missing_ledger_is_no_corrupt_one(tmp_path):
    """A file that is not there is another failure than one that is broken."""
    with pytest.raises(DataError, match="file not found"):
        ledgers.read_ledger(tmp_path / "labels.parquet")


def corrupt_files():
    good = pa.table(ledger_of(("a", "cat", "ann"), ("b", "dog", "ann")).to_dict("list"))
    year = good.set_column(4, "round", pa.array(["first", "second"]))
    nobody = good.set_column(2, "annotator", pa.array(["ann", None]))
    other = good.set_column(1, "label", pa.array(["dog", "dog"]))
    return {
        "not parquet": (b"id,label\na,cat\n", "expected a Parquet file"),
        "half a file": (None, "expected a Parquet file"),
        "foreign columns": (pa.table({"id": ["a"], "x": [1]}), "expected the columns"),
        "wrong type": (year, "'second' as a scalar of type int32"),
        "no annotator": (nobody, "column 'annotator', got none in row 1"),
        "conflict": (pa.concat_tables([good, other]), "got 'dog'"),
        "repeat": (pa.concat_tables([good, good]), "got example 'a' twice"),
    }


@pytest.mark.parametrize("kind", corrupt_files())
def test_corrupt_files_are_refused(tmp_path, kind):
    """A file that is not a ledger or breaks its rules is named as such, with what is wrong."""
    content, message = corrupt_files()[kind]
    path = tmp_path / "labels.parquet"
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        ledgers.write_ledger(path, ledger_of(("a", "cat", "ann")))
        path.write_bytes(content or path.read_bytes()[:-40])
    with pytest.raises(LedgerCorruptError, match=message) as caught:
        ledgers.read_ledger(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
