"""`al-dgm status`: the rounds as their files show them, and what `dvc repro` would do next.

The files say what is done; whether it is still up to date, after a change of params.yaml say, only DVC knows. It is
asked as a command (0.7 s); where it cannot answer, the first missing file decides.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from al_dgm.config import Params, Rounds, load_params, load_rounds
from al_dgm.errors import DataError
from al_dgm.labelling.ledger import count, read_ledger
from al_dgm.learning.labels import pending
from al_dgm.learning.layout import Layout
from al_dgm.learning.outcome import read_metrics

DVC_SECONDS = 60.0
HEADER = ("round", "trained", "queried", "labelled", "labels", "accuracy")

Stale = Mapping[str, list[Any]]  # stage -> what changed, as `dvc status --json` has it


@dataclass(frozen=True)
class RoundState:
    """What there is of one round; ``labels`` counts the labelled examples so far, None before this round has them."""

    number: int
    trained: bool
    queried: bool
    labels: int | None
    accuracy: float | None

    def row(self) -> tuple[str, ...]:
        """As text, in the order of `HEADER`."""
        first = self.number == 0
        return (
            str(self.number),
            "-" if first else _yes(self.trained),
            "-" if first else _yes(self.queried),
            _yes(self.labels is not None),
            "" if self.labels is None else str(self.labels),
            "" if self.accuracy is None else f"{self.accuracy:.4f}",
        )


def round_state(layout: Layout, k: int) -> RoundState:
    """Round ``k`` as its files show it; 0 is the seed set.

    Raises:
        DataError, LedgerCorruptError: a file is damaged.
    """
    folder = layout.round(k)
    metrics = read_metrics(folder) if (folder / "metrics.json").exists() else None
    ledger = folder / "labels.parquet"
    return RoundState(
        number=k,
        trained=metrics is not None,
        queried=(folder / "query.parquet").exists(),
        labels=count(read_ledger(ledger)) if ledger.exists() else None,
        accuracy=None if metrics is None else float(metrics["accuracy"]),
    )


def describe(layout: Layout) -> str:
    """The whole of what `al-dgm status` prints."""
    params, rounds = load_params(layout.work / "params.yaml"), load_rounds(layout.work / "rounds.yaml")
    states = [round_state(layout, k) for k in range(len(rounds.trainings) + 1)]
    stale = _ask_dvc(layout)
    following = next_stage(layout, rounds, states, stale)
    lines = [
        f"{params.data.name}, {params.model.name}, {params.acquisition.name}: {sum(s.trained for s in states)} of "
        f"{len(rounds.trainings)} rounds trained, {max(s.labels or 0 for s in states)} labels",
        "",
        *_table([HEADER, *(state.row() for state in states)]),
        "",
        f"next `dvc repro`: {_what(following, stale)}",
    ]
    waiting = _waiting(params, layout, following)
    return "\n".join([*lines, f"waiting: {waiting}"] if waiting else lines)


def stages(rounds: Rounds) -> Iterator[str]:
    """The stages of dvc.yaml in the order in which the loop runs them."""
    yield from ("prepare", "seed_set")
    for k in rounds.trainings:
        yield f"train@{k}"
        if k in rounds.queries:
            yield from (f"acquire@{k}", f"label@{k}")
    yield "report"


def next_stage(layout: Layout, rounds: Rounds, states: list[RoundState], stale: Stale | None) -> str | None:
    """The first stage that is not up to date, None if all are."""
    if stale is not None:
        return next((stage for stage in stages(rounds) if stage in stale), None)
    done = {
        "prepare": (layout.prepared / "dataset.json").exists(),
        "seed_set": states[0].labels is not None,
        "report": (layout.report / "metrics.json").exists(),
    }
    for state in states[1:]:
        k = state.number
        done |= {f"train@{k}": state.trained, f"acquire@{k}": state.queried, f"label@{k}": state.labels is not None}
    return next((stage for stage in stages(rounds) if not done[stage]), None)


def _ask_dvc(layout: Layout) -> Stale | None:
    """The stages that are not up to date, by DVC; None where it cannot tell (no repository, or a stage is running)."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, cwd=layout.work, capture_output=True, text=True, timeout=DVC_SECONDS, check=False
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return answer if isinstance(answer, dict) else None


def _what(stage: str | None, stale: Stale | None) -> str:
    if stage is None:
        return "nothing to do, everything is up to date"
    if stale is None:
        return f"goes on with {stage}"
    changed: dict[str, Any] = {}
    for entry in stale[stage]:
        changed |= entry if isinstance(entry, dict) else {str(entry): {}}
    missing = set(changed.get("changed outs", {}).values()) & {"deleted", "not in cache"}
    params = changed.get("changed deps", {}).get("params.yaml")
    if isinstance(params, dict):
        return f"goes on with {stage}, because of another {', '.join(params)} in params.yaml"
    return f"goes on with {stage}" if missing else f"runs {stage} again, because what it reads has changed"


def _waiting(params: Params, layout: Layout, stage: str | None) -> str | None:
    """What the stage that comes next is waiting for, if that is people."""
    if stage is None or not stage.startswith(("label@", "seed_set")):
        return None
    try:
        return pending(params, layout, int(stage.partition("@")[2] or 0))
    except DataError:  # not asked yet
        return None


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _yes(value: bool) -> str:  # noqa: FBT001 - it is what is shown
    return "yes" if value else "no"
