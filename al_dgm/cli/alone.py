"""`al-dgm train`, `evaluate`, `draw`: from words of the command line to a model alone, and back to words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from al_dgm.config import load_params
from al_dgm.distributed.address import check_cluster
from al_dgm.errors import ConfigError
from al_dgm.learning.layout import Layout

FIGURES = Path("figures")
READ = ("seed", "model", "training", "prediction", "compute")  # sections of params.yaml that a model alone depends on


def train_and_describe(labels: str, out: Path, start: Path | None, changes: Sequence[str]) -> str:
    """Train a model alone; one line on what came out."""
    params = load_params(changes=changes)
    _check_changes(changes, params.model.name)
    if params.compute.workers:
        check_cluster()
    from al_dgm.distributed.train import train
    from al_dgm.learning.alone import train_alone

    measured = train_alone(params, Layout.here(), labels, out, start, train)
    words = [f"accuracy {measured['accuracy']:.1%}", f"NLL {measured['nll']:.3f} nats"] if measured["labels"] else []
    if measured["bound"] is not None:
        words.append(f"ELBO {measured['bound']:.2f} nats")
    return f"{out}: {', '.join(words)} on the holdout"


def draw_and_describe(folder: Path, out: Path | None, wanted: Sequence[str]) -> str:
    """Draw a saved model; a line for each picture. By default each model has a folder of its own for them."""
    params = load_params()
    if out is None:
        out = FIGURES / (folder.name if folder.is_absolute() or ".." in folder.parts else folder)
    from al_dgm.learning.alone import draw_alone

    return "\n".join(draw_alone(params, Layout.here(), folder, out, wanted))


def _check_changes(changes: Sequence[str], model: str) -> None:
    """Refuse changes of what this model alone does not read, so that none is without effect."""
    for change in changes:
        section, *rest = change.partition("=")[0].strip().split(".")
        if section not in READ:
            raise ConfigError(f"--set: expected one of the sections {', '.join(READ)}, got '{change}'")
        if section == "model" and len(rest) > 1 and rest[0] != model:
            raise ConfigError(f"--set: expected options of the model that is trained, {model}, got '{change}'")
        if [section, *rest] == ["training", "start"]:
            raise ConfigError(f"--set: expected --from DIR for weights to start from, got '{change}'")


def evaluate_and_describe(folder: Path, samples: int, out: Path | None) -> str:
    """Measure a saved model on the holdout, write the numbers to ``out``; they in lines."""
    params = load_params()
    from al_dgm.learning.alone import evaluate_alone
    from al_dgm.learning.training import write_json

    measured = evaluate_alone(params, Layout.here(), folder, samples)
    if out is not None:
        write_json(out, measured)
    return "\n".join([f"{folder}: {measured['model']} {measured['version']}", *_lines(measured)])


def _lines(measured: Mapping[str, Any]) -> list[str]:
    lines = [f"holdout   {measured['examples']} examples"]
    if "accuracy" in measured:
        lines += [
            f"accuracy  {measured['accuracy']:.2%}",
            f"NLL       {measured['nll']:.4f} nats",
            f"ECE       {measured['ece']:.4f}",
        ]
    else:
        lines.append("accuracy  not measured: the model was trained without labels")
    if "elbo" not in measured:
        return lines
    elbo = f"ELBO      {measured['elbo']:.2f} ± {measured['elbo_error']:.2f} nats"
    tighter = f"{measured['importance_weighted']:.2f} ± {measured['importance_weighted_error']:.2f} nats"
    return [*lines, elbo, f"log p(x)  at least {tighter}, by {measured['importance_samples']} importance samples"]
