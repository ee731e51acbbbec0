import os

import pandas as pd
import pytest

from al_dgm.errors import ConfigError, LabelConflictError, LabelError, LabelsPendingError, UnknownClassError
from al_dgm.labelling import ledger as ledgers
from al_dgm.labelling.csv_folder import CsvFolder
from al_dgm.labelling.query import make_query
from al_dgm.labelling.rounds import label_query

CLASSES = ("cat", "dog", "7")
QUERY = make_query(1, "m", "bald", ["x1", "x2", "x3"], [3, 2, 1])
LATER = make_query(2, "m", "bald", ["x3", "x4"], [2, 1])


@pytest.fixture
def source(tmp_path):
    return CsvFolder(annotator="ann", classes=CLASSES, root=tmp_path)


@pytest.fixture
def file(source, tmp_path):
    source.submit(QUERY)
    return tmp_path / "labels" / f"{QUERY.id}.csv"


def collected(source, query=QUERY):
    rows = source.collect(query).labels
    return {x: None if pd.isna(label) else label for x, label in zip(rows["id"], rows["label"], strict=True)}


def test_the_file_that_people_get(file):
    """Id, rank and an empty column, in the order of the query."""
    assert file.read_text() == "id,rank,label\nx1,1,\nx2,2,\nx3,3,\n"


def test_labels_skips_and_gaps(source, file):
    """A class labels, 'skip' skips, an empty cell is pending."""
    file.write_text("id,rank,label\nx1,1,dog\nx2,2,Skip\nx3,3,\n")
    assert collected(source) == {"x1": "dog", "x2": None}
    assert source.collect(QUERY).pending == ("x3",)


def test_rows_say_who_when_and_for_what(source, file):
    """A row holds the annotator, the query and the time at which the file was saved."""
    file.write_text("id,rank,label\nx1,1,dog\n")
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    row = source.collect(QUERY).labels.iloc[0]
    assert row["time"] == pd.Timestamp("2023-11-14T22:13:20.123456", tz="UTC")
    assert (row["annotator"], row["source"], row["round"], row["cost"]) == ("ann", "csv", 1, 1.0)
    assert (row["query_id"], row["model_version"]) == (QUERY.id, "m")


def test_the_annotator_is_the_user_by_default(tmp_path, monkeypatch):
    """Who runs the stage is taken for who labels, unless params say otherwise."""
    monkeypatch.setenv("LOGNAME", "grace")
    source = CsvFolder(classes=CLASSES, root=tmp_path)
    source.submit(QUERY)
    (tmp_path / "labels" / f"{QUERY.id}.csv").write_text("id,rank,label\nx1,1,dog\n")
    assert source.collect(QUERY).labels["annotator"].tolist() == ["grace"]


def test_submit_never_overwrites(source, file):
    """Asking again leaves what people wrote, even half a file."""
    file.write_text("id,rank,label\nx1,1,dog\nx2,2,\nx3,3,\n")
    before = file.read_bytes(), file.stat().st_mtime_ns
    source.submit(QUERY)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert len(list(file.parent.iterdir())) == 1


def test_a_label_once_given_is_used_again(source, file):
    """Another query that asks for the same example finds its label and asks for the rest alone."""
    file.write_text("id,rank,label\nx1,1,\nx2,2,\nx3,3,cat\n")
    source.submit(LATER)
    assert (file.parent / f"{LATER.id}.csv").read_text() == "id,rank,label\nx4,2,\n"
    assert collected(source, LATER) == {"x3": "cat"}
    row = source.collect(LATER).labels.iloc[0]
    assert (row["query_id"], row["round"]) == (LATER.id, 2)


def test_nothing_to_ask_writes_nothing(source, file):
    """A query whose examples are all answered needs no file."""
    (file.parent / "old.csv").write_text("id,label\nx3,cat\nx4,skip\n")
    source.submit(LATER)
    assert not (file.parent / f"{LATER.id}.csv").exists()
    assert collected(source, LATER) == {"x3": "cat", "x4": None}


def test_an_answer_that_vanished_is_asked_for_again(source, file):
    """If the file that held an answer is deleted, the example is asked for in one more file: no query can get stuck."""
    file.write_text("id,rank,label\nx3,3,cat\n")
    source.submit(LATER)
    file.unlink()
    source.submit(LATER)
    source.submit(LATER)
    assert sorted(path.name for path in file.parent.iterdir()) == [f"{LATER.id}-2.csv", f"{LATER.id}.csv"]
    assert (file.parent / f"{LATER.id}-2.csv").read_text() == "id,rank,label\nx3,1,\n"
    assert f"{LATER.id}-2.csv and " in source.where(LATER)


def test_two_files_that_disagree_conflict(source, file):
    """One example has one label in the folder; both places are named."""
    (file.parent / "old.csv").write_text("id,label\nx9,cat\nx1,cat\n")
    file.write_text("id,rank,label\nx1,1,dog\n")
    with pytest.raises(
        LabelConflictError, match=rf"{QUERY.id}.csv:2.*'cat' as in .*old.csv:3, got 'dog'|old.csv:3.*'dog'"
    ):
        source.collect(QUERY)


@pytest.mark.parametrize("first", ["old.csv", "zzz.csv"])
def test_a_label_goes_before_a_skip(source, file, first):
    """What one file skips another may label, in either order of their names."""
    (file.parent / first).write_text("id,label\nx1,skip\n")
    file.write_text("id,rank,label\nx1,1,dog\n")
    assert collected(source) == {"x1": "dog"}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfid,rank,label\r\nx1,1,dog\r\nx2,2,7\r\nx3,3,\r\n",
        b"id,rank,label\nx1,1,dog\nx2,2,7\nx3,3,\n\n\n,,\n",
        b"id , rank, label \n x1 ,1,  dog\t\nx2,2, 7 \nx3,3,  \n",
        b'"id","rank","label"\n"x1","1","dog"\n"x2","2", "7" \n"x3","3",""\n',
        b"id;rank;label\nx1;1;dog\nx2;2;7\nx3;3;\n",
        b"id\trank\tlabel\nx1\t1\tdog\nx2\t2\t7\nx3\t3\n",
        b'id,rank,label,note\nx2,2,7,"what, a\nseven"\nx1,1,dog\nx3,3,,\n',
        b"ID,Label\nx2,7\nx1,dog",
        b"id,rank,label\rx1,1,dog\rx2,2,7\r",
        b"\n\nid,rank,label\nx1,1,dog,,,\nx2,2,7\n",
    ],
    ids=[
        "BOM and CRLF",
        "blank lines",
        "blanks",
        "quotes",
        "semicolons",
        "tabs",
        "notes",
        "two columns",
        "CR",
        "ragged",
    ],
)
def test_marks_of_spreadsheets_are_tolerated(source, file, content):
    """However an editor saves the table, the labels are read."""
    file.write_bytes(content)
    assert collected(source) == {"x1": "dog", "x2": "7"}
    assert source.collect(QUERY).pending == ("x3",)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"id,rank,label\nx1,1,\nx2,2,dgo\n", UnknownClassError, r":3: .*got 'dgo' \(did you mean 'dog'\?\)"),
        (b"id,label\nx1,7.0\n", UnknownClassError, r":2: .*got '7.0' \(did you mean '7'\?\)"),
        (b'id,note,label\nx1,"a\nb",cat\nx2,,bird\n', UnknownClassError, ":4: .*got 'bird'"),
        (
            b"id,rank,label\nx1,1,dog\nx9,2,cat\n",
            LabelError,
            f":3: expected an id that query {QUERY.id} asks for, got 'x9'",
        ),
        (b"id,rank,label\nx1,1,dog\n\nx1,2,dog\n", LabelError, ":4: expected each id once, got 'x1' as in line 2"),
        (b"id,rank,label\n,1,dog\n", LabelError, ":2: expected an id, got none"),
        (b"id,rank,label\nx1,1,cat,dog\n", LabelError, ":2: expected 3 cells, got 4"),
        (b"id,rank\nx1,1\n", LabelError, ":1: expected the columns id, rank, label"),
        (b"x1,1,dog\n", LabelError, ":1: expected the columns id, rank, label"),
        (b"", LabelError, ":1: .*got an empty file"),
        (b"id,rank,label\nx1,1,dog\nx2,2,\xe9l\xe9phant\n", LabelError, ":3: expected text in UTF-8, got byte 0xe9"),
        (b"\xff\xfei\0d\0", LabelError, ":1: expected text in UTF-8"),
        (
            b"id,label\nx1," + b"a" * 200_000 + b"\n",
            LabelError,
            ":2: expected comma-separated values, got: field larger",
        ),
    ],
)
def test_slips_are_named_with_file_and_line(source, file, content, error, message):
    """People are told where to look and what was expected there, and nothing is taken in."""
    file.write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        source.collect(QUERY)
    assert str(caught.value).startswith(str(file))
    assert type(caught.value) is error


def test_an_unreadable_file_is_an_error_whoever_it_belongs_to(source, file):
    """A folder's other files may hold labels of this query, so none is passed over in silence."""
    (file.parent / "notes.csv").write_text("what,ever\n1,2\n")
    with pytest.raises(LabelError, match=r"notes.csv:1"):
        source.collect(QUERY)


def test_other_queries_rows_are_not_ours_to_check(source, file):
    """A colleague's slip in another query, about an example that this one does not ask for, stops nobody here."""
    (file.parent / "other.csv").write_text("id,label\ny1,brid\nx1,dog\n")
    assert collected(source) == {"x1": "dog"}


def test_hidden_files_are_not_read(source, file):
    """macOS leaves '._name.csv' beside a file."""
    (file.parent / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
    assert collected(source) == {}


def test_an_absolute_folder_is_itself(tmp_path):
    """Only a relative folder is looked up under the root."""
    source = CsvFolder(str(tmp_path / "here"), "ann", classes=CLASSES, root=tmp_path / "elsewhere")
    source.submit(QUERY)
    assert (tmp_path / "here" / f"{QUERY.id}.csv").exists()


def test_a_class_named_skip_is_refused(tmp_path):
    """The word that skips cannot be a class too."""
    with pytest.raises(ConfigError, match="no class named 'skip'"):
        CsvFolder(classes=("skip", "cat"), root=tmp_path)


def test_a_round_waits_and_goes_on(source, file):
    """Pending labels stop the round with one line that says how far it is and where to label; then it goes on."""
    file.write_text("id,rank,label\nx1,1,dog\nx2,2,skip\nx3,3,\n")
    with pytest.raises(LabelsPendingError) as caught:
        label_query(QUERY, source, ledgers.empty(), CLASSES)
    assert str(caught.value) == (
        f"round 1: 2 of 3 answers have come; label in column 'label' of {file}, as cat, dog, 7 or skip; "
        "then `dvc repro` goes on from here"
    )
    assert caught.value.exit_code == 75
    file.write_text("id,rank,label\nx1,1,dog\nx2,2,skip\nx3,3,7\n")
    ledger = label_query(QUERY, source, ledgers.empty(), CLASSES)
    assert ledgers.consensus(ledger).to_dict() == {"x1": "dog", "x3": "7"}
    pd.testing.assert_frame_equal(label_query(QUERY, source, ledger, CLASSES), ledger)


def test_a_round_asks(source, tmp_path):
    """Nobody has to submit the query beforehand."""
    with pytest.raises(LabelsPendingError, match="round 1: 0 of 3"):
        label_query(QUERY, source, ledgers.empty(), CLASSES)
    assert (tmp_path / "labels" / f"{QUERY.id}.csv").exists()


def test_a_slip_is_told_while_labels_are_pending(source, file):
    """Nobody labels to the end before hearing of a slip in the first line."""
    file.write_text("id,rank,label\nx1,1,dgo\nx2,2,\nx3,3,\n")
    with pytest.raises(UnknownClassError):
        label_query(QUERY, source, ledgers.empty(), CLASSES)
