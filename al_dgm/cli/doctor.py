"""`al-dgm doctor`: everything that a `dvc repro` relies on, looked at without changing anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from al_dgm.cli import machine, project
from al_dgm.cli.finding import Finding, Level, fail
from al_dgm.errors import AlDgmError
from al_dgm.learning.layout import Layout

Check = Callable[[Layout], Iterator[Finding]]

CHECKS: dict[str, Check] = {
    "packages": machine.packages,
    "torch": machine.torch_devices,
    "disk": machine.disk,
    "checkpoints": machine.checkpoints,
    "shared memory": machine.shared_memory,
    "params.yaml": project.params,
    "rounds.yaml": project.rounds,
    "data": project.data,
    "labels": project.ledgers,
    "git": project.git,
    "dvc": project.dvc,
    "mlflow": project.mlflow,
    "ray": machine.ray,
}


def examine(layout: Layout) -> Iterator[Finding]:
    """The findings of every check; one that cannot be made is a failure, and the others are made all the same."""
    for subject, check in CHECKS.items():
        try:
            yield from check(layout)
        except (AlDgmError, OSError) as error:
            yield fail(subject, str(error))


__all__ = ["CHECKS", "Finding", "Level", "examine"]
