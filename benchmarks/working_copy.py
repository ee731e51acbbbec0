"""A copy of the working tree to run `dvc repro` in: benchmarks never touch the user's own rounds."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from common import ROOT, progress, with_changes

from al_dgm.config import load_params, load_rounds, write_rounds

SHIM = """#!/bin/sh
# Stands before Python in PATH: notes when each stage's command ran.
began=$(date +%s.%N)
"{python}" "$@"
code=$?
if [ -n "$DVC_STAGE" ]; then echo "$DVC_STAGE $began $(date +%s.%N)" >> "{log}"; fi
exit $code
"""
RAN = re.compile(r"^Running stage '([^']+)'", re.MULTILINE)
CACHED = re.compile(r"^Stage '([^']+)' is cached", re.MULTILINE)
_OWN = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_EXP_NAME", "DVC_STAGE")


@dataclass
class WorkingCopy:
    """A repository of its own with the same files.

    Attributes:
        folder: of the copy.
        output: what the last `dvc repro` printed.
    """

    folder: Path
    output: str = field(default="", repr=False)

    @classmethod
    def make(cls, folder: Path, changes: Mapping[str, Any], rounds: int) -> WorkingCopy:
        """Copy tracked and untracked files, but no results; then change params.yaml and unroll ``rounds``."""
        listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT).split("\0")
        for name in listed:
            source, target = ROOT / name, folder / name
            if source.is_file() and name != "dvc.lock":
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        copy = cls(folder)
        copy.change(changes)
        write_rounds(rounds, folder / "rounds.yaml")
        for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=b", "-c", "user.email=b@b", "commit", "-qmb"]):
            _run(["git", *command], folder)
        copy._write_shim()
        return copy

    def change(self, changes: Mapping[str, Any]) -> None:
        """Other values in params.yaml at dotted paths."""
        path = self.folder / "params.yaml"
        content = with_changes(load_params(path), changes).model_dump()
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")

    def add_round(self) -> None:
        """One more round in rounds.yaml."""
        path = self.folder / "rounds.yaml"
        write_rounds(len(load_rounds(path).queries) + 1, path)

    def start(self) -> subprocess.Popen[str]:
        """Start `dvc repro` in a session of its own; standard output and error come together, line by line."""
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro"],
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def repro(self) -> float:
        """Run `dvc repro` to its end; returns its seconds.

        Raises:
            RuntimeError: it failed; the message is the end of what it printed.
        """
        began = time.monotonic()
        process = self.start()
        self.output, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"dvc repro failed in {self.folder}:\n{self.output[-3000:]}")
        return time.monotonic() - began

    def mend_lock(self) -> bool:
        """Remove DVC's lock file if a kill left it half written, as `al-dgm doctor` advises; whether it was."""
        path = self.folder / ".dvc" / "tmp" / "rwlock"
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except ValueError:
            path.unlink()
            return True
        return False

    def follow(self, process: subprocess.Popen[str]) -> Iterator[str]:
        """The stages that a started `dvc repro` runs, as it begins them; all that it prints goes to ``output``."""
        self.output = ""
        for line in process.stdout or ():
            self.output += line
            if found := RAN.match(line):
                progress(f"  {found[1]}")
                yield found[1]

    @property
    def ran(self) -> list[str]:
        """Stages that the last `repro` ran."""
        return RAN.findall(self.output)

    @property
    def cached(self) -> list[str]:
        """Stages that the last `repro` took from the cache."""
        return CACHED.findall(self.output)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds of each stage's command since the last call, by stage; the log is emptied."""
        seconds: dict[str, float] = {}
        for line in self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else []:
            stage, began, ended = line.split()
            seconds[stage] = seconds.get(stage, 0.0) + float(ended) - float(began)
        self._log.unlink(missing_ok=True)
        return seconds

    @property
    def _log(self) -> Path:
        return self.folder / ".git" / "stages.log"

    def _write_shim(self) -> None:
        folder = self.folder / ".git" / "shim"
        folder.mkdir()
        for name in ("python", "python3"):
            shim = folder / name
            shim.write_text(SHIM.format(python=sys.executable, log=self._log), encoding="utf-8")
            shim.chmod(0o755)

    def _environment(self) -> dict[str, str]:
        path = f"{self.folder / '.git' / 'shim'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if name not in _OWN}
        return {**kept, "PATH": path, "PYTHONPATH": str(self.folder), "DVC_NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}


def kill_session(pid: int) -> None:
    """SIGKILL a session's leader and all that it started, at once, so that nobody can clean up."""
    try:
        started = psutil.Process(pid).children(recursive=True)
        os.killpg(pid, signal.SIGKILL)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
    for process in started:  # those that left the process group
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
