"""One line of `al-dgm doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """Good, worth knowing, or to be mended before the loop can run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What a check found; ``mend`` is what to do about it."""

    level: Level
    subject: str
    message: str
    mend: str = ""

    def line(self) -> str:
        """``fail  data: no prepared data here - run `dvc repro prepare```."""
        return f"{self.level.value:<4}  {self.subject}: {self.message}" + (f" - {self.mend}" if self.mend else "")


def ok(subject: str, message: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, subject, message)


def warn(subject: str, message: str, mend: str = "") -> Finding:
    """The loop runs, but not as well as it could."""
    return Finding(Level.WARN, subject, message, mend)


def fail(subject: str, message: str, mend: str = "") -> Finding:
    """The loop does not run, or not rightly."""
    return Finding(Level.FAIL, subject, message, mend)
