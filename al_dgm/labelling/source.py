"""The protocol of whoever answers queries: ask, and look, later and as often as wanted, what has come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from al_dgm.labelling.query import Query


@dataclass(frozen=True)
class Answers:
    """What has come so far.

    Attributes:
        labels: rows as in the ledger, those of skipped examples with a null label.
        pending: ids of the query that nobody has answered yet.
    """

    labels: pd.DataFrame
    pending: tuple[str, ...]


class LabelSource(ABC):
    """Two phases, so that a stage may end between them; what a label costs and how errors come in is the source's own.

    A class's ``name`` stands in the ledger's column ``source`` and is its name in params.yaml. Answers of a source that
    is not ``simulated`` outlive the data they were given for, so its examples need permanent ids.
    """

    name: ClassVar[str]
    simulated: ClassVar[bool] = False

    @abstractmethod
    def submit(self, query: Query) -> None:
        """Ask for labels; asking again the same query (by its id) changes nothing."""

    @abstractmethod
    def collect(self, query: Query) -> Answers:
        """What has come for ``query``; every id of it is either in ``labels`` or in ``pending``, and no other id."""

    @abstractmethod
    def where(self, query: Query) -> str:
        """Where people answer ``query``, in words that complete "label in …"."""


def ledger_rows(
    query: Query,
    labels: Mapping[str, str | None],
    *,
    annotator: str,
    source: str,
    cost: float,
    times: Mapping[str, pd.Timestamp] | None = None,
) -> pd.DataFrame:
    """One annotator's answers to ``query`` as rows of the ledger, by rank.

    Args:
        query: what was asked.
        labels: example id -> class name, or None where it was skipped; ids outside the query are left out.
        annotator: who answered.
        source: the label source's name.
        cost: what one answer costs, a skip too (somebody looked at the example).
        times: example id -> when it was answered; None for simulated answers.
    """
    ids = [name for name in query.ids if name in labels]
    moments = [times[name] if times else None for name in ids]
    return pd.DataFrame(
        {
            "id": pd.Series(ids, dtype="str"),
            "label": pd.Series([labels[name] for name in ids], dtype="object"),
            "annotator": annotator,
            "source": source,
            "round": query.round,
            "time": pd.Series(moments, dtype="datetime64[us, UTC]"),
            "query_id": query.id,
            "model_version": query.model_version,
            "cost": cost,
        }
    )
