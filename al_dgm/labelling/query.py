"""A query: the examples that one round asks labels for, best first."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from al_dgm.errors import DataError, NonFiniteScoreError
from al_dgm.files import read_table, write_table

_METADATA = b"al_dgm"
_COLUMNS = pa.schema([("id", pa.string()), ("rank", pa.int32()), ("score", pa.float64())])


@dataclass(frozen=True)
class Query:
    """What is asked, by which model and why.

    Attributes:
        id: name of the query, equal for equal questions.
        round: round of the loop, 0 for the seed set.
        model_version: the model that chose the examples.
        acquisition: the acquisition function that chose them.
        ids: example ids by rank, the first choice first.
        scores: a score for each of ``ids``; larger is better.
    """

    id: str
    round: int
    model_version: str
    acquisition: str
    ids: tuple[str, ...]
    scores: tuple[float, ...]


def make_query(
    round: int,  # noqa: A002  the loop's word for it
    model_version: str,
    acquisition: str,
    ids: Iterable[str],
    scores: Iterable[float],
) -> Query:
    """A query whose id is ``r<round>-<12 hex of SHA-256(round, model version, ids)>``.

    Raises:
        DataError: an example occurs twice, or there is not one score for each.
        NonFiniteScoreError: a score is NaN.
    """
    names, values = tuple(ids), tuple(float(score) for score in scores)
    _check(names, values)
    digest = hashlib.sha256(json.dumps([round, model_version, names]).encode()).hexdigest()[:12]
    return Query(f"r{round:03d}-{digest}", round, model_version, acquisition, names, values)


def _check(ids: tuple[str, ...], scores: tuple[float, ...]) -> None:
    if len(ids) != len(scores):
        raise DataError(f"query: expected one score for each of {len(ids)} examples, got {len(scores)} scores")
    if len(set(ids)) != len(ids):
        twice = next(name for position, name in enumerate(ids) if name in ids[:position])
        raise DataError(f"query: expected each example once, got '{twice}' twice")
    undefined = [name for name, score in zip(ids, scores, strict=True) if math.isnan(score)]
    if undefined:
        raise NonFiniteScoreError(f"query: expected a number as score, got NaN for {len(undefined)}: {undefined[:5]}")


def write_query(path: Path, query: Query) -> None:
    """Write ``query`` as Parquet (id, rank, score), its other attributes in the schema's metadata."""
    ranks = range(1, len(query.ids) + 1)
    table = pa.table([list(query.ids), ranks, list(query.scores)], schema=_COLUMNS)
    origin = {
        "query_id": query.id,
        "round": query.round,
        "model_version": query.model_version,
        "acquisition": query.acquisition,
    }
    write_table(path, table.replace_schema_metadata({_METADATA: json.dumps(origin)}))


def read_query(path: Path) -> Query:
    """The query that `write_query` wrote.

    Raises:
        DataError: the file is missing or is not a query.
    """
    table = read_table(path, _COLUMNS.names).sort_by("rank")
    origin = _origin(path, table)
    ids, ranks, scores = (table[name].to_pylist() for name in _COLUMNS.names)
    if ranks != list(range(1, len(ids) + 1)):
        raise DataError(f"{path}: expected the ranks 1 to {len(ids)}, got {ranks[:5]}…")
    try:
        _check(tuple(ids), tuple(scores))
    except (DataError, NonFiniteScoreError, TypeError) as error:
        raise DataError(f"{path}: {error}") from None
    return Query(
        origin["query_id"], origin["round"], origin["model_version"], origin["acquisition"], tuple(ids), tuple(scores)
    )


def _origin(path: Path, table: pa.Table) -> dict[str, Any]:
    expected = {"query_id", "round", "model_version", "acquisition"}
    try:
        origin = json.loads((table.schema.metadata or {})[_METADATA])
    except (KeyError, ValueError):
        raise DataError(f"{path}: expected a query's metadata ('al_dgm'), got none") from None
    if not isinstance(origin, dict) or expected - set(origin):
        raise DataError(f"{path}: expected a query's metadata {sorted(expected)}, got {origin}")
    return origin
