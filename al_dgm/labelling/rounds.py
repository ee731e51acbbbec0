"""One round's labelling: ask, look what has come, keep it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from al_dgm.errors import LabelError, LabelsPendingError
from al_dgm.labelling.ledger import append
from al_dgm.labelling.query import Query
from al_dgm.labelling.source import Answers, LabelSource


def label_query(query: Query, source: LabelSource, ledger: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """``ledger`` and the answers to ``query``, once all have come; safe to call again until they have.

    Raises:
        LabelsPendingError: answers are missing; the message says how many and where to give them.
        LabelError: the source answered for an example that was not asked for, or passed one over.
        UnknownClassError, LabelConflictError: as `ledger.append`; raised while others are still pending too, so that
            a slip is seen early.
    """
    source.submit(query)
    answers = source.collect(query)
    _check(query, answers)
    longer = append(ledger, answers.labels, classes)
    if answers.pending:
        raise LabelsPendingError(describe_pending(query, answers, source))
    return longer


def describe_pending(query: Query, answers: Answers, source: LabelSource) -> str:
    """How many answers have come, and where to give the others."""
    asked = len(query.ids)
    return (
        f"round {query.round}: {asked - len(answers.pending)} of {asked} answers have come; "
        f"label in {source.where(query)}; then `dvc repro` goes on from here"
    )


def _check(query: Query, answers: Answers) -> None:
    accounted = {*answers.labels["id"], *answers.pending}
    strange, passed_over = accounted - set(query.ids), set(query.ids) - accounted
    if strange:
        raise LabelError(f"query {query.id}: expected answers for its own examples, got one for '{min(strange)}'")
    if passed_over:
        raise LabelError(f"query {query.id}: expected '{min(passed_over)}' answered or pending, got neither")
