"""The simplest human: a folder of CSV files whose column ``label`` people fill in with any editor.

::

    id,rank,label
    digits-01204,1,7        a class name: labelled
    digits-00033,2,skip     looked at, cannot tell: never asked again
    digits-00518,3,         not answered yet

One folder holds one data set's labels, of all its queries and experiments: a label once given counts wherever the
example is asked for again.
"""

from __future__ import annotations

import csv
import getpass
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import pandas as pd

from al_dgm.errors import ConfigError, LabelConflictError, LabelError, UnknownClassError
from al_dgm.files import write_atomically
from al_dgm.labelling.ledger import describe_unknown
from al_dgm.labelling.query import Query
from al_dgm.labelling.source import Answers, LabelSource, ledger_rows

SKIP = "skip"
SHOWN = 20  # classes in a message
COST = 1.0  # the unit is one answer


@dataclass(frozen=True)
class _Row:
    """One row as somebody left it; ``label`` is empty where nobody has answered."""

    path: Path
    line: int
    id: str
    label: str

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@final
class CsvFolder(LabelSource):
    """Asks by writing ``<folder>/<query id>.csv``; a file once written is people's own and is never changed.

    An example's answer is looked for in every CSV file of the folder, so `submit` asks only for what has none there. An
    example that is answered in two files must have the same label in both; a label goes before a skip.

    Spreadsheets may leave their marks (byte order mark, CRLF, quotes, blanks, blank lines, further columns, semicolons
    or tabs for commas).

    Args:
        folder: the folder; if relative, then under ``root``.
        annotator: who labels; the name of the user who runs the stage, if not given.
        classes: the data set's class names.
        root: the project's folder, the same for experiments that run in temporary copies.

    Raises:
        ConfigError: a class is called ``skip``.
    """

    name: ClassVar[str] = "csv"

    def __init__(
        self, folder: str = "labels", annotator: str | None = None, *, classes: Sequence[str], root: Path
    ) -> None:
        if SKIP in classes:
            raise ConfigError(f"labels.csv: expected no class named '{SKIP}', the word that skips an example, got one")
        self._folder = root / Path(folder).expanduser()
        self._annotator = annotator or _user_name()
        self._classes = tuple(classes)

    def submit(self, query: Query) -> None:
        """Write the ids that nobody has answered and no file of this query asks for; raises as `collect` does."""
        rows = self._rows(query)
        known = {row.id for row in rows if row.label or _belongs(row.path, query)}
        asked = [(name, rank) for rank, name in enumerate(query.ids, start=1) if name not in known]
        if asked:
            write_atomically(self._unused_path(query), _content(asked))

    def collect(self, query: Query) -> Answers:
        """What the files of the folder say about the examples of ``query``.

        Raises:
            UnknownClassError: a cell is neither a class, ``skip`` nor empty; with file, line and nearest class.
            LabelConflictError: two files give one example different labels; with both files and lines.
            LabelError: a file is unreadable, or has an id twice or one that was not asked for; with file and line.
        """
        found: dict[str, _Row] = {}
        for row in self._rows(query):
            if row.label:
                found[row.id] = _better(found.get(row.id), row)
        labels = {name: None if row.label == SKIP else row.label for name, row in found.items()}
        times = {name: _modified(row.path) for name, row in found.items()}
        rows = ledger_rows(query, labels, annotator=self._annotator, source=self.name, cost=COST, times=times)
        return Answers(rows, tuple(name for name in query.ids if name not in found))

    def where(self, query: Query) -> str:
        """The query's own files, and what may be written there."""
        own = [path for path in self._paths() if _belongs(path, query)]
        more = ", …" if len(self._classes) > SHOWN else ""
        words = f"{', '.join(self._classes[:SHOWN])}{more} or {SKIP}"
        return f"column 'label' of {' and '.join(map(str, own)) or self._folder}, as {words}"

    def _paths(self) -> list[Path]:
        # Names with a dot in front are other programs' own: "._x.csv" of macOS, temporary files.
        return sorted(path for path in self._folder.glob("*.csv") if not path.name.startswith("."))

    def _unused_path(self, query: Query) -> Path:
        number, path = 1, self._folder / f"{query.id}.csv"
        while path.exists():
            number += 1
            path = self._folder / f"{query.id}-{number}.csv"
        return path

    def _rows(self, query: Query) -> list[_Row]:
        """The checked rows about examples of ``query``, from all files."""
        asked = set(query.ids)
        return [self._checked(row) for path in self._paths() for row in _read(path, query) if row.id in asked]

    def _checked(self, row: _Row) -> _Row:
        if row.label in self._classes or not row.label:
            return row
        if row.label.casefold() == SKIP:
            return _Row(row.path, row.line, row.id, SKIP)
        known = [*self._classes, SKIP]
        raise UnknownClassError(f"{row.place}: expected a class or '{SKIP}', {describe_unknown(row.label, known)}")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "annotator"


def _belongs(path: Path, query: Query) -> bool:
    return path.stem == query.id or path.stem.startswith(f"{query.id}-")


def _content(asked: Sequence[tuple[str, int]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "rank", "label"])
    writer.writerows([name, rank, ""] for name, rank in asked)
    return text.getvalue().encode()


def _modified(path: Path) -> pd.Timestamp:
    return pd.Timestamp(path.stat().st_mtime_ns // 1000, unit="us", tz="UTC")


def _better(known: _Row | None, row: _Row) -> _Row:
    """The row that answers for the example: a label before a skip, of two equal ones the first."""
    if known is None or known.label == SKIP:
        return row
    if row.label not in {known.label, SKIP}:
        raise LabelConflictError(
            f"{row.place}: example '{row.id}': expected '{known.label}' as in {known.place}, got '{row.label}'"
        )
    return known


def _read(path: Path, query: Query) -> Iterator[_Row]:
    """The rows of one file; an id may not occur twice, nor, in the query's own file, be one that was not asked for."""
    own, asked = _belongs(path, query), set(query.ids)
    lines: dict[str, int] = {}
    for row in _parse(path):
        if row.id in lines:
            raise LabelError(f"{row.place}: expected each id once, got '{row.id}' as in line {lines[row.id]}")
        if own and row.id not in asked:
            raise LabelError(f"{row.place}: expected an id that query {query.id} asks for, got '{row.id}'")
        lines[row.id] = row.line
        yield row


def _parse(path: Path) -> Iterator[_Row]:
    records = _records(path)
    first, header = next(records, (1, []))
    names = [name.casefold() for name in header]
    if not {"id", "label"} <= set(names):
        raise LabelError(f"{path}:{first}: expected the columns id, rank, label, got {header or 'an empty file'}")
    for line, cells in records:
        if len(cells) > len(names) and any(cells[len(names) :]):
            raise LabelError(f"{path}:{line}: expected {len(names)} cells, got {len(cells)}")
        row = dict(zip(names, cells, strict=False))
        if not row.get("id"):
            raise LabelError(f"{path}:{line}: expected an id, got none")
        yield _Row(path, line, row["id"], row.get("label", ""))


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(first line, stripped cells) of each record that is not blank."""
    text = _text(path)
    delimiter = next((mark for mark in ",;\t" if mark in text.partition("\n")[0]), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    line = 1
    try:
        for record in reader:
            cells = [cell.strip() for cell in record]
            if any(cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise LabelError(f"{path}:{line}: expected comma-separated values, got: {error}") from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LabelError(f"{path}:{line}: expected text in UTF-8, got byte 0x{content[error.start]:02x}") from None
    except OSError as error:
        raise LabelError(f"{path}:1: cannot be read: {error.strerror or error}") from None
