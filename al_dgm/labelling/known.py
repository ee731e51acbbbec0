"""Labels that the data came with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, final

from al_dgm.labelling.query import Query
from al_dgm.labelling.source import Answers, LabelSource, ledger_rows


@final
class KnownLabels(LabelSource):
    """Answers with what is known already. It was paid for before, so it costs nothing, and nobody is asked.

    Args:
        truth: reads the known labels, example id -> class name; an id that is not in it is answered with a skip.
    """

    name: ClassVar[str] = "data"

    def __init__(self, truth: Callable[[], Mapping[str, str]]) -> None:
        self._read_truth = truth

    def submit(self, query: Query) -> None:
        """Nothing to do: the answers are there."""

    def collect(self, query: Query) -> Answers:
        """All answers; nothing is ever pending."""
        known = self._read_truth()
        labels = {example: known.get(example) for example in query.ids}
        return Answers(ledger_rows(query, labels, annotator=self.name, source=self.name, cost=0.0), ())

    def where(self, query: Query) -> str:
        """Nobody labels."""
        return f"no file or page: the data have the labels of {query.id}"
