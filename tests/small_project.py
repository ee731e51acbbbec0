"""A project of 60 half moons, one round in: made once without a training, copied for each test that breaks it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from al_dgm.config import load_params, write_rounds
from al_dgm.data.half_moons import half_moons
from al_dgm.data.prepared import load_info, load_pool, prepare
from al_dgm.labelling.query import make_query, write_query
from al_dgm.learning.labels import label_seed_set
from al_dgm.learning.layout import Layout

PROJECT = Path(__file__).parents[1]
SETTINGS = {
    "data.name": "half_moons",
    "data.half_moons.examples": 60,
    "data.half_moons.holdout": 20,
    "seed_set.size": 6,
    "model.m2.hidden": [8],
    "model.m2.latent": 2,
    "training.steps": 50,
    "prediction.weight_samples": 2,
    "acquisition.query_size": 4,
    "tracking.enabled": False,
}
QUERY = 4  # acquisition.query_size above


@dataclass(frozen=True)
class Project:
    """A project's folder, and what a user does there."""

    folder: Path

    def run(
        self, *command: str, before: Callable[[], None] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m <command>``, in the child after ``before``; an environment variable "" is unset."""
        variables = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        variables |= dict.fromkeys(("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DVC_ROOT", "DVC_EXP_NAME"), "") | environment
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env={name: value for name, value in variables.items() if value},
            text=True,
            capture_output=True,
            timeout=200,
            check=False,
            preexec_fn=before,
        )

    def set(self, path: str, value: object) -> None:
        """Set a dotted key of params.yaml, made if need be."""
        self.set_all({path: value})

    def set_all(self, values: dict[str, object]) -> None:
        """Set dotted keys of params.yaml."""
        file = self.folder / "params.yaml"
        params = yaml.safe_load(file.read_text())
        for path, value in values.items():
            *parents, last = path.split(".")
            section = params
            for parent in parents:
                section = section.setdefault(parent, {})
            section[last] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def digests(self) -> dict[str, str]:
        """Relative path -> SHA-256, of every file."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def copy(self, folder: Path) -> "Project":
        """The same project in ``folder``."""
        shutil.copytree(self.folder, folder)
        return Project(folder)

    @property
    def layout(self) -> Layout:
        """Where its files lie."""
        return Layout(work=self.folder, home=self.folder)


def make_project(folder: Path) -> Project:
    """Prepared data, the seed set, and round 1 as far as its query; its model's files are left to `add_model`."""
    (folder / "data" / "raw").mkdir(parents=True)
    shutil.copy(PROJECT / "dvc.yaml", folder)
    shutil.copy(PROJECT / "params.yaml", folder)
    project = Project(folder)
    project.set_all(SETTINGS)
    write_rounds(2, folder / "rounds.yaml")
    params, layout = load_params(folder / "params.yaml"), project.layout
    prepare(half_moons(0, examples=60, holdout=20), layout.prepared, shard_size=50, seed=0)
    label_seed_set(params, layout)
    measured = {"round": 1, "labels": 6, "accuracy": 0.75, "nll": 0.5, "ece": 0.1, "brier": 0.3}
    layout.round(1).mkdir()
    (layout.round(1) / "metrics.json").write_text(json.dumps(measured))
    write_query(
        layout.round(1) / "query.parquet", make_query(1, "v1", "bald", load_pool(layout.prepared).ids[:4], [0] * 4)
    )
    return project


def add_model(project: Project) -> None:
    """Round 1's model, as it is before training; loads torch."""
    from al_dgm.learning.model_files import save_model  # noqa: PLC0415
    from al_dgm.learning.rounds import model_spec  # noqa: PLC0415

    params, layout = load_params(project.folder / "params.yaml"), project.layout
    spec = model_spec(params.model, load_info(layout.prepared))
    save_model(layout.round(1) / "model", spec, spec.build(seed=0))
