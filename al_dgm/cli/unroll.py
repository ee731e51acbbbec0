"""`al-dgm rounds N`: write the unrolled loop and say what that changes."""

from __future__ import annotations

from pathlib import Path

from al_dgm.config import load_rounds, write_rounds
from al_dgm.errors import ConfigError


def unroll(count: int, root: Path) -> str:
    """Write ``root/rounds.yaml`` for ``count`` rounds; returns one line about what changed.

    Raises:
        ConfigError: ``count`` is below 1, or ``root`` holds no dvc.yaml that would read the file.
    """
    if not (root / "dvc.yaml").exists():
        raise ConfigError(f"{root}: no dvc.yaml here; expected the project's own folder")
    path = root / "rounds.yaml"
    before = _queries(path)
    write_rounds(count, path)
    written = f"{path.name}: {count} round{'s' if count > 1 else ''}"
    if before is None:
        return f"{written}, written anew"
    if count > before:
        return f"{written}; added {_range(before + 1, count)}; finished rounds stay cached, `dvc repro` runs the new"
    if count < before:
        return f"{written}; removed {_range(count + 1, before)}; their files stay, and are found again when added again"
    return f"{written}, as before"


def _queries(path: Path) -> int | None:
    """How many rounds the file has; None for one that is missing or broken."""
    try:
        return len(load_rounds(path).queries)
    except ConfigError:
        return None


def _range(first: int, last: int) -> str:
    return f"round {first}" if first == last else f"rounds {first} to {last}"
