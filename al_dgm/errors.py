"""Every failure that al-dgm raises on purpose.

::

    AlDgmError                      the root: catch this to catch them all
    ├── ConfigError                 params.yaml or a component's options are wrong
    ├── DataError                   a data file is missing, malformed or not what it claims to be
    │   └── ChecksumError           a downloaded file is not the published one
    ├── LabelError                  a label cannot be taken
    │   ├── UnknownClassError       the label is not one of the data set's classes
    │   ├── LabelConflictError      one annotator labelled one example twice, differently
    │   └── LedgerCorruptError      the ledger file is not a ledger
    ├── LabelsPendingError          people have not answered yet (not a failure: exit code 75)
    ├── PoolExhaustedError          a query asks for more examples than are left
    ├── NonFiniteScoreError         an acquisition score is NaN or infinite
    ├── TrainingError               the objective became non-finite, or every worker died
    └── TrackingError               the MLflow server does not answer

A message says what was expected and what came, on one line. Every command prints it to standard error as
``al-dgm: error: <message>`` and exits with the class's ``exit_code``; nothing already written is removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_ERROR = 1
EXIT_PENDING = os.EX_TEMPFAIL  # 75, sysexits.h: "temporary failure, the user is invited to retry"
EXIT_INTERRUPTED = 130  # what shells give a process that Ctrl-C ended


class AlDgmError(Exception):
    """Root of all deliberate failures; ``exit_code`` is what a command ends with."""

    exit_code: int = EXIT_ERROR


class ConfigError(AlDgmError):
    """A parameter is unknown, of the wrong type or out of its range; the message names its path."""


class DataError(AlDgmError):
    """A data file is missing, malformed or not what it claims to be."""


class ChecksumError(DataError):
    """A file's checksum differs from the published one."""


class LabelError(AlDgmError):
    """A label cannot be taken."""


class UnknownClassError(LabelError):
    """A label is not one of the data set's classes."""


class LabelConflictError(LabelError):
    """One annotator gave one example two different labels."""


class LedgerCorruptError(LabelError):
    """A ledger file has not the ledger's columns or breaks its rules."""


class LabelsPendingError(AlDgmError):
    """Labels that a round needs have not arrived; the next ``dvc repro`` asks again."""

    exit_code = EXIT_PENDING


class PoolExhaustedError(AlDgmError):
    """A query asks for more examples than the pool still holds."""

    def __init__(self, requested: int, available: int) -> None:
        super().__init__(f"pool exhausted: requested {requested} examples, available {available}")


class NonFiniteScoreError(AlDgmError):
    """An acquisition score is NaN or infinite; a sort would silently put it first."""


class TrainingError(AlDgmError):
    """Training cannot go on: a non-finite objective, or no worker left."""


class TrackingError(AlDgmError):
    """The tracking server does not answer or refuses what is logged."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a deliberate failure, or one of the operating system, into one line on standard error and an exit code."""
    try:
        yield
    except AlDgmError as error:
        word = "waiting" if isinstance(error, LabelsPendingError) else "error"
        print(f"al-dgm: {word}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"al-dgm: error: {where}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(EXIT_ERROR) from None
    except KeyboardInterrupt:
        print("al-dgm: interrupted", file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
