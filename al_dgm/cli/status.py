"""`al-dgm status`: the rounds as their files show them, and what `dvc repro` would do next.

The files say what is done; whether it is still up to date, after a change of params.yaml say, only DVC knows. It is
asked as a command (0.7 s); where it cannot answer, the first missing file decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from al_dgm.cli.ask_dvc import TORN_LOCK, Stale, ask_dvc
from al_dgm.config import Params, Rounds, load_params, load_rounds
from al_dgm.errors import DataError, LabelError
from al_dgm.labelling.ledger import count, read_ledger
from al_dgm.learning.labels import corrections, pending
from al_dgm.learning.layout import Layout
from al_dgm.learning.outcome import read_metrics

HEADER = ("round", "trained", "on labels", "accuracy", "queried", "labelled", "labels then")


@dataclass(frozen=True)
class RoundState:
    """What there is of one round, None or false for what is not there yet.

    Attributes:
        number: k.
        trained_on: how many labels its model was trained on.
        accuracy: of that model.
        queried: whether it has chosen what to ask.
        labels: how many examples are labelled after its query was answered.
    """

    number: int
    trained_on: int | None
    accuracy: float | None
    queried: bool
    labels: int | None

    def row(self, stages: Collection[str]) -> tuple[str, ...]:
        """As text, in the order of `HEADER`; ``-`` for what is none of the loop's ``stages``."""
        k = self.number
        return (
            str(k),
            _cell(self.trained_on is not None, f"train@{k}" in stages),
            "" if self.trained_on is None else str(self.trained_on),
            "" if self.accuracy is None else f"{self.accuracy:.4f}",
            _cell(self.queried, f"acquire@{k}" in stages),
            _cell(self.labels is not None, k == 0 or f"label@{k}" in stages),
            "" if self.labels is None else str(self.labels),
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
        trained_on=None if metrics is None else int(metrics["labels"]),
        accuracy=None if metrics is None else float(metrics["accuracy"]),
        queried=(folder / "query.parquet").exists(),
        labels=count(read_ledger(ledger)) if ledger.exists() else None,
    )


def describe(layout: Layout) -> str:
    """The whole of what `al-dgm status` prints."""
    params, rounds = load_params(layout.work / "params.yaml"), load_rounds(layout.work / "rounds.yaml")
    states = [round_state(layout, k) for k in range(len(rounds.trainings) + 1)]
    stale, reason = ask_dvc(layout)
    following = next_stage(layout, rounds, states, stale)
    trained, labels = sum(state.trained_on is not None for state in states), max(state.labels or 0 for state in states)
    strategy = f"{params.data.name}, {params.model.name}, {params.acquisition.name}"
    lines = [
        f"{strategy}: {trained} of {len(rounds.trainings)} rounds trained, {labels} labels",
        "",
        *_table([HEADER, *(state.row(set(stages(rounds))) for state in states)]),
        "",
        "a stage is running now" if "busy" in reason else f"next `dvc repro`: {_what(following, stale)}",
    ]
    lines += [f"dvc: {reason}"] if reason == TORN_LOCK else []
    answers = [line for state in states for line in _corrections(params, layout, state.number)]
    answers += _waiting(params, layout, following)
    return "\n".join([*lines, *dict.fromkeys(answers)])


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
        done |= {
            f"train@{k}": state.trained_on is not None,
            f"acquire@{k}": state.queried,
            f"label@{k}": state.labels is not None,
        }
    return next((stage for stage in stages(rounds) if not done[stage]), None)


def _what(stage: str | None, stale: Stale | None) -> str:
    if stage is None and stale is None:
        return "every file is there; whether all are up to date could not be asked of DVC"
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


def _waiting(params: Params, layout: Layout, stage: str | None) -> list[str]:
    """What the stage that comes next is waiting for, if that is people."""
    if stage is None or not stage.startswith(("label@", "seed_set")):
        return []
    try:
        what = pending(params, layout, int(stage.partition("@")[2] or 0))
    except DataError:  # not asked yet
        return []
    except LabelError as error:
        return [f"wrong: {error}"]
    return [f"waiting: {what}"] if what else []


def _corrections(params: Params, layout: Layout, k: int) -> list[str]:
    try:
        return [f"corrected: {what}" for what in corrections(params, layout, k)]
    except DataError:  # the data are not prepared, or the round's files are from before
        return []
    except LabelError as error:  # what people wrote cannot be read; that hides nothing of the rest
        return [f"wrong: {error}"]


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(done: bool, wanted: bool) -> str:  # noqa: FBT001 - two columns of a table
    return ("yes" if done else "no") if wanted else "-"
