import pytest

from al_dgm.errors import LabelError, UnknownClassError
from al_dgm.labelling import ledger as ledgers
from al_dgm.labelling.query import make_query
from al_dgm.labelling.rounds import label_query
from al_dgm.labelling.source import Answers, LabelSource, ledger_rows

QUERY = make_query(1, "m", "bald", ["x1", "x2"], [2, 1])


class Canned(LabelSource):
    """Gives the answers it was made with, right or wrong."""

    name = "canned"

    def __init__(self, labels, pending=()):
        self._labels = labels
        self._pending = tuple(pending)

    def submit(self, query):
        """Nobody is asked."""

    def collect(self, query):
        """The canned answers."""
        asked = make_query(query.round, "m", "bald", self._labels, [0.0] * len(self._labels))
        return Answers(ledger_rows(asked, self._labels, annotator="c", source="canned", cost=1.0), self._pending)

    def where(self, query):
        """Nowhere."""
        return "a can"


def test_answers_to_another_question_are_refused():
    """A source that answers for what was not asked would label the wrong example."""
    with pytest.raises(LabelError, match=f"query {QUERY.id}: expected answers for its own examples, got one for 'x3'"):
        label_query(QUERY, Canned({"x1": "a", "x2": "a", "x3": "a"}), ledgers.empty(), ["a"])


def test_examples_passed_over_are_noticed():
    """Neither answered nor pending is a source's fault, not a round that is done."""
    with pytest.raises(LabelError, match="expected 'x2' answered or pending, got neither"):
        label_query(QUERY, Canned({"x1": "a"}), ledgers.empty(), ["a"])


def test_classes_are_checked():
    """Whatever a source checks itself, the ledger takes classes alone."""
    with pytest.raises(UnknownClassError, match="example 'x2'"):
        label_query(QUERY, Canned({"x1": "a", "x2": "b"}), ledgers.empty(), ["a"])


def test_rows_come_by_rank():
    """However a source holds its answers, equal answers make equal ledgers."""
    forwards, backwards = ({"x1": "a", "x2": None}, {"x2": None, "x1": "a"})
    rows = [ledger_rows(QUERY, labels, annotator="c", source="s", cost=1.0) for labels in (forwards, backwards)]
    assert rows[0].equals(rows[1])
    assert list(rows[0]["id"]) == ["x1", "x2"]
