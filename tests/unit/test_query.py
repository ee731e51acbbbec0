import math
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from al_dgm.errors import DataError, NonFiniteScoreError
from al_dgm.labelling.query import make_query, read_query, write_query

QUERY = make_query(3, "m2-3", "bald", ["b", "a", "c"], [0.1 + 0.2, -1.0, -math.inf])


def test_the_id_is_fixed():
    """Equal questions have equal names, over machines and versions: people's files are named so."""
    assert QUERY.id == "r003-81969e0d8e29"


@pytest.mark.parametrize(
    "other",
    [
        make_query(4, "m2-3", "bald", ["b", "a", "c"], [0, 0, 0]),
        make_query(3, "m2-4", "bald", ["b", "a", "c"], [0, 0, 0]),
        make_query(3, "m2-3", "bald", ["b", "a"], [0, 0]),
        make_query(3, "m2-3", "bald", ["ba", "c"], [0, 0]),
    ],
    ids=["round", "model", "ids", "joined ids"],
)
def test_other_questions_have_other_ids(other):
    """Round, model version and ids each change the id."""
    assert other.id != QUERY.id


def test_the_same_examples_for_another_reason_are_the_same_question():
    """Scores and acquisition do not change what people are asked."""
    assert make_query(3, "m2-3", "entropy", ["b", "a", "c"], [1, 1, 1]).id == QUERY.id


def test_round_trip_is_exact(tmp_path):
    """What is read is what was written, scores to the last bit."""
    write_query(tmp_path / "query.parquet", QUERY)
    assert read_query(tmp_path / "query.parquet") == QUERY


def test_columns_are_the_published_ones(tmp_path):
    """Other programs read (id, rank, score), ranks from 1."""
    write_query(tmp_path / "query.parquet", QUERY)
    table = pq.read_table(tmp_path / "query.parquet")
    assert [(f.name, f.type) for f in table.schema] == [
        ("id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float64()),
    ]
    assert table["rank"].to_pylist() == [1, 2, 3]


def test_the_order_of_rows_does_not_matter(tmp_path):
    """The rank says which example comes first, not the row's place."""
    path = tmp_path / "query.parquet"
    write_query(path, QUERY)
    table = pq.read_table(path)
    pq.write_table(table.take([2, 0, 1]), path)
    assert read_query(path) == QUERY


def test_an_empty_query_is_a_query(tmp_path):
    """A pool may have nothing left."""
    empty = make_query(1, "m", "random", [], [])
    write_query(tmp_path / "query.parquet", empty)
    assert read_query(tmp_path / "query.parquet") == empty


def test_nan_is_refused():
    """A NaN has no rank."""
    with pytest.raises(NonFiniteScoreError, match=r"NaN for 1: \['b'\]"):
        make_query(1, "m", "bald", ["a", "b"], [0.0, math.nan])


def test_repeated_ids_are_refused():
    """Nobody is asked the same example twice in one query."""
    with pytest.raises(DataError, match="got 'a' twice"):
        make_query(1, "m", "bald", ["a", "b", "a"], [0, 0, 0])


def test_missing_scores_are_refused():
    """Each example has its own score."""
    with pytest.raises(DataError, match="one score for each of 2 examples, got 1"):
        make_query(1, "m", "bald", ["a", "b"], [0.0])


def test_foreign_files_are_refused(tmp_path):
    """A table without a query's metadata, columns or ranks is no query."""
    path = tmp_path / "query.parquet"
    write_query(path, QUERY)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(DataError, match="expected a query's metadata"):
        read_query(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(DataError, match="expected the ranks 1 to 2, got"):
        read_query(path)
    pq.write_table(table.drop_columns("score"), path)
    with pytest.raises(DataError, match="expected columns"):
        read_query(path)


def test_a_query_cannot_be_changed():
    """What was asked stays what was asked."""
    with pytest.raises(AttributeError):
        QUERY.round = 4
    assert replace(QUERY, round=4).round == 4
