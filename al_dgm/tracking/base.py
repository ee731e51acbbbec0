"""What a tracker is: a mirror of the loop that people look at. Knows no MLflow.

The loop's files are the truth; a tracker shows them. So everything here may be said twice: a stage that was killed
and ran again, or a round that DVC restored from its cache, is logged again and changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd


@dataclass(frozen=True)
class LoopRecord:
    """One loop: one setting of everything that can change a result, under one experiment name.

    Attributes:
        key: finds the loop again; equal for equal loops.
        name: what people read.
        tags: facts to filter by, for the loop and each of its rounds.
        params: the settings, flat: dotted path -> value.
    """

    key: str
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """One finished round.

    Attributes:
        round: its number, from 1.
        labels: how many examples were labelled when it trained; the step of its metrics.
        metrics: what it reached, name -> finite value.
        history: the training curve: a column ``step``, every other column one curve.
        artifacts: files and folders to keep with the round, such as its model.
        timings: seconds, name -> value; not part of the content: equal results at another speed are equal rounds.
    """

    round: int
    labels: int
    metrics: Mapping[str, float]
    history: pd.DataFrame | None = None
    artifacts: Sequence[Path] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def content(self) -> str:
        """Sixteen hex digits that change when the labels, metrics, history or artifacts' bytes do."""
        digest = hashlib.sha256(repr((self.labels, sorted(self.metrics.items()))).encode())
        if self.history is not None:
            digest.update(self.history.to_csv(index=False).encode())
        for root in self.artifacts:
            for path in files_under(root):
                with path.open("rb") as file:
                    inner = hashlib.file_digest(file, "sha256").hexdigest()
                digest.update(f"{path.relative_to(root.parent).as_posix()} {inner}\n".encode())
        return digest.hexdigest()[:16]

    def curve(self) -> list[tuple[str, float, int]]:
        """The training curve as points (``train/<column>``, value, step); what is not finite has no point."""
        if self.history is None:
            return []
        long = self.history.melt(id_vars="step").replace([float("inf"), float("-inf")], float("nan")).dropna()
        return [
            (f"train/{name}", float(value), int(step))
            for step, name, value in zip(long["step"], long["variable"], long["value"], strict=True)
        ]


def files_under(path: Path) -> list[Path]:
    """The file itself, or all files of a folder, sorted."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


@runtime_checkable
class Tracker(Protocol):
    """Mirrors loops. Call `open_loop` first; every method may be repeated without effect.

    Every method raises ``TrackingError`` when what it mirrors to does not answer or refuses.
    """

    def open_loop(self, loop: LoopRecord) -> None:
        """Find the loop by its key, or create it."""

    def log_round(self, record: RoundRecord) -> None:
        """Show one round. Known with the same content it is left alone; with another content it is replaced."""

    def log_files(self, paths: Sequence[Path]) -> None:
        """Keep files or folders with the loop, such as its figures, replacing those of the same name."""

    def close(self) -> None:
        """Say that nothing more comes for now."""
