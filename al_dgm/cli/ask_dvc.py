"""What is up to date, only DVC knows: it is asked as a command, never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from al_dgm.learning.layout import Layout

# DVC writes this file in place, so that killing it can leave it empty, and then refuses to start.
TORN_LOCK = (
    ".dvc/tmp/rwlock was left half written by a dvc that was killed; `rm .dvc/tmp/rwlock`, it holds nothing else"
)
SECONDS = 60.0  # it hashes what has changed, which may be much

Stale = Mapping[str, list[Any]]  # stage -> what changed, as `dvc status --json` has it


def ask_dvc(layout: Layout) -> tuple[Stale | None, str]:
    """(the stages that are not up to date, ""), or (None, why DVC cannot tell)."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, cwd=layout.work, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer to `dvc status` in {SECONDS:.0f} s"
    try:
        answer = json.loads(done.stdout or "{}") if done.returncode == 0 else None
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer, ""
    lines = done.stderr.strip().splitlines() or ["`dvc status` fails without a word"]
    return None, TORN_LOCK if "RWLock-file" in lines[0] else lines[0].removeprefix("ERROR: ")
