"""A working copy of the project, small enough that a whole loop takes seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]


@dataclass(frozen=True)
class WorkingCopy:
    """A git repository with the project's pipeline and short training."""

    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as a user would in this folder."""
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT), "MLFLOW_TRACKING_URI": ""}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, text=True, capture_output=True, timeout=280, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def set(self, **values: object) -> None:
        """Set dotted keys of params.yaml, written with __ for the dot."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for key, value in values.items():
            *parents, last = key.split("__")
            section = params
            for parent in parents:
                section = section[parent]
            section[last] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def stages_run(self, *command: str) -> list[str]:
        """The stages that a DVC command really ran, in order; those restored from the cache do not count."""
        lines = self.run(*command).stdout.splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


@pytest.fixture
def working_copy(tmp_path: Path) -> WorkingCopy:
    """Two queries of the digits with 50 training steps, tracking off."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", "rounds.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(PROJECT / name, folder / name)
    shutil.copytree(PROJECT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp", "config.local"))
    shutil.copytree(PROJECT / "data/raw", folder / "data/raw", ignore=lambda _, names: set(names) - {"README.md"})
    (folder / "pipelines").symlink_to(PROJECT / "pipelines")
    copy = WorkingCopy(folder)
    copy.set(training__steps=50, prediction__weight_samples=2, tracking__enabled=False)
    copy.run(sys.executable, "-m", "al_dgm", "rounds", "2")
    copy.run(*GIT, "init", "--quiet")
    copy.run(*GIT, "add", "--all")
    copy.run(*GIT, "commit", "--quiet", "--message", "start")
    return copy
