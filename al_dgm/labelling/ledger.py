"""The ledger: every answer that anybody ever gave, append-only, in the order it was appended.

One row is one answer: who (annotator, source) said what (label, or null for "skipped") about which example, asked by
which query of which model, when and at what cost. Its rules:

- several annotators may answer for one example, but one annotator gives one example one label;
- the same annotator's same answer again is a repeat and is dropped, so appending twice is appending once;
- a skip carries no vote, so the same annotator may label afterwards what was skipped first (both rows stay).

The ledger is a pandas frame with the columns and types of `SCHEMA`; functions return new frames and change none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from al_dgm.errors import DataError, LabelConflictError, LabelError, LedgerCorruptError, UnknownClassError
from al_dgm.files import read_table, write_table
from al_dgm.registry import nearest

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null: the annotator skipped the example
        pa.field("annotator", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("round", pa.int32(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC")),  # null: simulated, so that equal runs write equal files
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("model_version", pa.string(), nullable=False),
        pa.field("cost", pa.float64(), nullable=False),  # in the user's unit
    ]
)
_ANSWER = ["id", "annotator", "label"]  # equal in these: the same answer again


def empty() -> pd.DataFrame:
    """A ledger without rows."""
    return _frame(SCHEMA.empty_table())


def read_ledger(path: Path) -> pd.DataFrame:
    """The ledger that `write_ledger` wrote.

    Raises:
        DataError: there is no such file.
        LedgerCorruptError: it is not Parquet, has not the ledger's columns or breaks its rules.
    """
    if not path.exists():
        raise DataError(f"{path}: file not found; expected a label ledger")
    try:
        table = read_table(path)
    except DataError as error:
        raise LedgerCorruptError(str(error)) from None
    if table.column_names != SCHEMA.names:
        raise LedgerCorruptError(f"{path}: expected the columns {SCHEMA.names}, got {table.column_names}")
    try:
        ledger = _frame(_checked_nulls(table.cast(_nullable(SCHEMA))))
        _refuse_conflicts(ledger)
    except (pa.ArrowException, ValueError, LabelError) as error:
        raise LedgerCorruptError(f"{path}: {str(error).splitlines()[0]}") from None
    if ledger.duplicated(_ANSWER).any():
        twice = ledger.loc[ledger.duplicated(_ANSWER), "id"].iloc[0]
        raise LedgerCorruptError(f"{path}: expected each answer once, got example '{twice}' twice by one annotator")
    return ledger


def write_ledger(path: Path, ledger: pd.DataFrame) -> None:
    """Write the ledger as Parquet, atomically; equal ledgers write equal files."""
    write_table(path, _table(ledger))


def append(ledger: pd.DataFrame, answers: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """``ledger`` followed by those of ``answers`` that are not in it yet.

    Raises:
        UnknownClassError: a label is not one of ``classes``.
        LabelConflictError: an annotator labels an example that the same annotator labelled differently.
        LabelError: ``answers`` has not the columns and types of `SCHEMA`.
    """
    new = _frame(_table(answers))
    _refuse_unknown(new, classes)
    joined = pd.concat([_frame(_table(ledger)), new], ignore_index=True)
    _refuse_conflicts(joined)
    return joined.drop_duplicates(_ANSWER, ignore_index=True)


def consensus(ledger: pd.DataFrame) -> pd.Series:
    """Example id -> the label most annotators gave, of equally many the one given first; ids sorted.

    Skipped rows carry no vote, so an example that everybody skipped is absent.
    """
    given = ledger[ledger["label"].notna()]
    votes = given.assign(position=range(len(given))).groupby(["id", "label"], as_index=False)["position"]
    tally = votes.agg(["size", "min"]).sort_values(["id", "size", "min"], ascending=[True, False, True])
    return tally.drop_duplicates("id").set_index("id")["label"]


def answered(ledger: pd.DataFrame) -> set[str]:
    """Ids that somebody labelled or skipped; they are never queried again."""
    return set(ledger["id"])


def count(ledger: pd.DataFrame) -> int:
    """Number of examples that have a label: the horizontal axis of a learning curve."""
    return int(ledger.loc[ledger["label"].notna(), "id"].nunique())


def total_cost(ledger: pd.DataFrame) -> float:
    """What all answers cost together, skips included, in the user's unit."""
    return math.fsum(ledger["cost"])


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(nullable=True) for field in schema])


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _table(frame: pd.DataFrame) -> pa.Table:
    missing = [name for name in SCHEMA.names if name not in frame.columns]
    if missing:
        raise LabelError(f"labels: expected the columns {SCHEMA.names}, got {list(frame.columns)}")
    try:
        return _checked_nulls(pa.Table.from_pandas(frame, schema=_nullable(SCHEMA), preserve_index=False))
    except (pa.ArrowException, ValueError) as error:
        raise LabelError(f"labels: {str(error).splitlines()[0]}") from None


def _checked_nulls(table: pa.Table) -> pa.Table:
    """``table`` under `SCHEMA` itself: without foreign metadata, and without a null in a required column."""
    for field in SCHEMA:
        if not field.nullable and table[field.name].null_count:
            row = table[field.name].is_null().to_pylist().index(True)
            raise LabelError(f"expected a value in column '{field.name}', got none in row {row}")
    return table.cast(SCHEMA)


def _refuse_unknown(rows: pd.DataFrame, classes: Sequence[str]) -> None:
    unknown = rows[rows["label"].notna() & ~rows["label"].isin(list(classes))]
    if not unknown.empty:
        example, label = unknown.iloc[0][["id", "label"]]
        raise UnknownClassError(f"example '{example}': expected one of the classes, {describe_unknown(label, classes)}")


def describe_unknown(label: str, classes: Sequence[str]) -> str:
    """``got 'xat' (did you mean 'cat'?)``, or what classes there are where none is near."""
    near = nearest(label, classes)
    if near:
        return f"got '{label}'{near}"
    shown = ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
    return f"got '{label}'; there are: {shown}"


def _refuse_conflicts(rows: pd.DataFrame) -> None:
    given = rows[rows["label"].notna()]
    first = given.groupby(["id", "annotator"])["label"].transform("first")
    different = given[given["label"] != first]
    if not different.empty:
        example, annotator, label = different.iloc[0][_ANSWER]
        before = first.loc[different.index[0]]
        raise LabelConflictError(
            f"example '{example}': expected '{before}', annotator '{annotator}' gave it before, got '{label}'"
        )
