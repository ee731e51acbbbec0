"""What every label source promises, for each that is registered: a new one needs a `Human` here and nothing else."""

import csv
from abc import ABC, abstractmethod
from pathlib import Path

import pandas as pd
import pytest

from al_dgm.config import Choice
from al_dgm.errors import LabelsPendingError
from al_dgm.labelling import LABEL_SOURCES, build_source
from al_dgm.labelling import ledger as ledgers
from al_dgm.labelling.query import make_query
from al_dgm.labelling.rounds import label_query

CLASSES = ("cat", "dog", "horse")
TRUTH = {"x1": "dog", "x2": "cat", "x3": "horse", "x4": "cat"}  # of x5 nobody knows what it is: a skip
QUERY = make_query(1, "m2-1", "bald", ["x3", "x5", "x1", "x2"], [0.4, 0.3, 0.2, 0.1])
LATER = make_query(2, "m2-2", "bald", ["x4", "x1"], [0.2, 0.1])


class Human(ABC):
    """Whoever sits in front of a source and answers from TRUTH when told to."""

    def __init__(self, folder: Path):
        self.folder = folder

    @abstractmethod
    def answer(self, query, ids):
        """Label (or skip) these examples of a query that was submitted."""


class Nobody(Human):
    """The oracle needs no human."""

    def answer(self, query, ids):
        """Nothing to do."""


class Typist(Human):
    """Fills the cells of the CSV files in the folder."""

    def answer(self, query, ids):
        """Write the labels into whatever file of the query asks for these examples."""
        for path in (self.folder / "labels").glob(f"{query.id}*.csv"):
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            for row in rows:
                if row["id"] in ids:
                    row["label"] = TRUTH.get(row["id"], "skip")
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["id", "rank", "label"])
                writer.writeheader()
                writer.writerows(rows)


HUMANS = {"oracle": Nobody, "csv": Typist}


@pytest.fixture(params=LABEL_SOURCES)
def name(request):
    """Each registered source's name."""
    return request.param


@pytest.fixture
def source(name, tmp_path):
    """The source as a stage builds it."""
    return build(name, tmp_path)


@pytest.fixture
def human(name, tmp_path):
    """The one who answers it."""
    return HUMANS[name](tmp_path)


def build(name, folder):
    return build_source(Choice(name=name), truth=lambda: TRUTH, classes=CLASSES, seed=0, root=folder)


def answers(source, query=QUERY):
    rows = source.collect(query).labels
    return {x: None if pd.isna(label) else label for x, label in zip(rows["id"], rows["label"], strict=True)}


def expected(*ids):
    return {x: TRUTH.get(x) for x in ids}


def test_its_name_is_its_key(name):
    """The ledger's column `source` and params.yaml call it the same."""
    assert LABEL_SOURCES[name].name == name


def test_every_answer_is_a_ledger_row(source, human, name):
    """Rows have the ledger's columns and types, say which query they answer, and cost something or nothing."""
    source.submit(QUERY)
    human.answer(QUERY, QUERY.ids)
    rows = source.collect(QUERY).labels
    ledger = ledgers.append(ledgers.empty(), rows, CLASSES)
    assert len(ledger) == len(QUERY.ids)
    assert set(ledger["source"]) == {name}
    assert set(ledger["query_id"]) == {QUERY.id}
    assert set(ledger["model_version"]) == {"m2-1"}
    assert set(ledger["round"]) == {1}
    assert (ledger["cost"] >= 0).all()
    assert (ledger["annotator"] != "").all()


def test_all_answers_come_by_rank(source, human):
    """Everybody answered: labels as given, a skip as null, nothing pending, in the query's order."""
    source.submit(QUERY)
    human.answer(QUERY, QUERY.ids)
    assert source.collect(QUERY).pending == ()
    assert list(answers(source).items()) == list(expected(*QUERY.ids).items())


@pytest.mark.parametrize("given", [(), ("x1",), ("x5",), ("x2", "x3", "x5")])
def test_partial_answers(source, human, given):
    """Every example is either answered or pending, never both, and what is answered is right."""
    source.submit(QUERY)
    human.answer(QUERY, given)
    got, pending = answers(source), source.collect(QUERY).pending
    assert sorted([*got, *pending]) == sorted(QUERY.ids)
    assert set(given) <= set(got)
    assert got == expected(*got)


def test_submit_is_idempotent(source, human):
    """Asking again, before or after some answers came, asks nothing new and loses nothing."""
    source.submit(QUERY)
    source.submit(QUERY)
    human.answer(QUERY, ["x1", "x5"])
    before = source.collect(QUERY)
    source.submit(QUERY)
    after = source.collect(QUERY)
    pd.testing.assert_frame_equal(after.labels, before.labels)
    assert after.pending == before.pending


def test_collect_is_idempotent(source, human):
    """Looking changes nothing."""
    source.submit(QUERY)
    human.answer(QUERY, ["x1"])
    first, second = source.collect(QUERY), source.collect(QUERY)
    pd.testing.assert_frame_equal(first.labels, second.labels)
    assert first.pending == second.pending


def test_another_process_sees_the_same(source, human, name, tmp_path):
    """Nothing is kept in memory alone: a source built anew gives the same answers."""
    source.submit(QUERY)
    human.answer(QUERY, ["x1", "x5"])
    fresh = build(name, tmp_path).collect(QUERY)
    pd.testing.assert_frame_equal(fresh.labels, source.collect(QUERY).labels)
    assert fresh.pending == source.collect(QUERY).pending


def test_the_order_of_the_examples_does_not_matter(source, human):
    """The same examples asked for in another order have the same answers."""
    backwards = make_query(1, "m2-1", "bald", QUERY.ids[::-1], [0.0] * 4)
    for query in (QUERY, backwards):
        source.submit(query)
        human.answer(query, query.ids)
    assert answers(source, backwards) == answers(source)
    assert list(answers(source, backwards)) == list(backwards.ids)


def test_the_order_of_answering_does_not_matter(source, human):
    """Answers that come one by one, in any order, are the answers that come at once."""
    source.submit(QUERY)
    for example in sorted(QUERY.ids, reverse=True):
        human.answer(QUERY, [example])
    assert list(answers(source).items()) == list(expected(*QUERY.ids).items())


def test_no_id_is_invented(source, human):
    """Answers to one query do not show up in another, except where both ask for the example."""
    for query in (QUERY, LATER):
        source.submit(query)
    human.answer(QUERY, QUERY.ids)
    human.answer(LATER, ["x4"])
    assert set(answers(source)) == set(QUERY.ids)
    assert set(answers(source, LATER)) <= set(LATER.ids)


def test_an_empty_query_is_answered(source):
    """Nothing asked, nothing pending, and the ledger takes it."""
    nothing = make_query(3, "m2-3", "bald", [], [])
    source.submit(nothing)
    collected = source.collect(nothing)
    assert (len(collected.labels), collected.pending) == (0, ())
    assert ledgers.append(ledgers.empty(), collected.labels, CLASSES).empty


def test_a_round_ends_with_the_ledger(source, human):
    """As a stage runs it: maybe wait for people once, then the ledger holds the query's answers, and again the same."""
    source.submit(QUERY)
    if source.collect(QUERY).pending:
        with pytest.raises(LabelsPendingError, match="round 1: 0 of 4") as caught:
            label_query(QUERY, source, ledgers.empty(), CLASSES)
        assert source.where(QUERY) in str(caught.value)
    human.answer(QUERY, QUERY.ids)
    ledger = label_query(QUERY, source, ledgers.empty(), CLASSES)
    assert ledgers.consensus(ledger).to_dict() == {"x1": "dog", "x2": "cat", "x3": "horse"}
    assert ledgers.answered(ledger) == set(QUERY.ids)
    pd.testing.assert_frame_equal(label_query(QUERY, source, ledger, CLASSES), ledger)


def test_where_is_one_line(source):
    """The words that tell people where to label fit into a sentence."""
    source.submit(QUERY)
    words = source.where(QUERY)
    assert words
    assert "\n" not in words
