"""What `al-dgm doctor` looks at in the project's own folder."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import numpy as np
import pandas as pd

from al_dgm.cli.ask_dvc import ask_dvc
from al_dgm.cli.finding import Finding, fail, ok, warn
from al_dgm.config import Params, load_params, load_rounds
from al_dgm.data.prepared import DatasetInfo, load_holdout, load_ids, load_info
from al_dgm.data.raw import Observation
from al_dgm.errors import AlDgmError, ConfigError, DataError, TrackingError
from al_dgm.labelling.ledger import count, read_ledger
from al_dgm.learning.layout import Layout
from al_dgm.tracking.address import check_reachable, default_uri, shown

DECISIVE = ("params.yaml", "rounds.yaml", "dvc.yaml")


def params(layout: Layout) -> Iterator[Finding]:
    """Every key, and every component that is named or could be."""
    from al_dgm.learning.components import check_components

    try:
        own = load_params(layout.work / "params.yaml")
        check_components(own, _info(own, layout))
    except ConfigError as error:
        yield fail("params.yaml", str(error), "correct it there")
        return
    yield ok("params.yaml", f"{own.data.name}, {own.model.name}, {own.acquisition.name}, labels by {own.labels.name}")


def _info(own: Params, layout: Layout) -> DatasetInfo:
    """The data that the model is built for; where they are not prepared yet, some that nothing is wrong with."""
    try:
        return load_info(layout.prepared)
    except DataError:
        observation = Observation(kind="bernoulli")
        sizes = {"examples": 10**9, "holdout": 2, "shape": (2, 1), "classes": ("a", "b"), "feature_names": None}
        scale = {"scale": {"mean": (0.0,), "sd": (1.0,)}, "centre": 0.0, "spread": 1.0}
        labels = {"labelled": 10**9, "permanent_ids": True}
        return DatasetInfo.model_validate(
            {"name": own.data.name, "observation": observation, **sizes, **scale, **labels}
        )


def rounds(layout: Layout) -> Iterator[Finding]:
    """A chain, and long enough."""
    try:
        chain = load_rounds(layout.work / "rounds.yaml")
    except ConfigError as error:
        yield fail("rounds.yaml", str(error), "write it with `al-dgm rounds N`")
        return
    yield ok("rounds.yaml", f"{len(chain.queries)} queries, {len(chain.trainings)} trainings")


def data(layout: Layout) -> Iterator[Finding]:
    """Prepared, whole, and no example twice."""
    if not layout.prepared.exists():
        yield warn("data", "not prepared yet", "`dvc repro` does it")
        return
    again = "dvc repro -f prepare"
    try:
        info = load_info(layout.prepared)
        pool, holdout = load_ids(layout.prepared), load_holdout(layout.prepared, info).ids
    except DataError as error:
        yield fail("data", str(error), again)
        return
    unique, counts = np.unique(np.concatenate([pool, holdout]), return_counts=True)
    if (counts > 1).any():
        yield fail("data", f"example '{unique[counts > 1][0]}' occurs {counts.max()} times in pool and holdout", again)
    elif (len(pool), len(holdout)) != (info.examples, info.holdout):
        expected = f"{info.examples} and {info.holdout}"
        yield fail(
            "data", f"expected {expected} examples in pool and holdout, got {len(pool)} and {len(holdout)}", again
        )
    else:
        yield ok("data", f"{info.name}: {info.examples} examples in the pool, {info.holdout} in the holdout")


def ledgers(layout: Layout) -> Iterator[Finding]:
    """Each readable, of examples of the pool, and begun with the one before it: labels are only ever added."""
    asked = [0, *map(int, load_rounds(layout.work / "rounds.yaml").queries)]  # there may be files of a longer loop
    paths = {k: path for k in asked if (path := layout.round(k) / "labels.parquet").exists()}
    if not paths:
        yield warn("labels", "none yet", "`dvc repro` gets the first ones")
        return
    pool = set(load_ids(layout.prepared).tolist()) if layout.prepared.exists() else None
    before: pd.DataFrame | None = None
    for k, path in sorted(paths.items()):
        again = f"dvc repro -f -s {f'label@{k}' if k else 'seed_set'}"
        try:
            ledger = read_ledger(path)
        except AlDgmError as error:
            yield fail("labels", str(error), again)
            return
        strange = [name for name in ledger["id"] if pool is not None and name not in pool]
        if strange:
            yield fail("labels", f"{path}: {len(strange)} examples are not in the pool, such as '{strange[0]}'", again)
            return
        if before is not None and not ledger.head(len(before)).equals(before):
            yield warn("labels", f"{path} does not begin with the labels of the round before", "`dvc repro` mends it")
            return
        before = ledger
    labels = count(before) if before is not None else 0
    yield ok("labels", f"{len(paths)} ledgers readable, {labels} examples labelled")


def git(layout: Layout) -> Iterator[Finding]:
    """A repository, and nothing decisive uncommitted."""
    command = ["git", "status", "--porcelain", "--", *DECISIVE]
    try:
        done = subprocess.run(command, cwd=layout.work, capture_output=True, text=True, check=False)  # noqa: S603
        changed = [line[3:] for line in done.stdout.splitlines()] if done.returncode == 0 else None
    except FileNotFoundError:
        changed = None
    if changed is None:
        yield warn("git", "not a git repository", "`git init` and a commit: DVC and experiments (`dvc exp`) need one")
        return
    if changed:
        yield warn("git", f"{', '.join(changed)} not committed", "commit, so that a result can be told to its settings")
    else:
        yield ok("git", "parameters are committed")


def dvc(layout: Layout) -> Iterator[Finding]:
    """Initialised, and dvc.yaml one that it can read."""
    if not (layout.work / "dvc.yaml").exists():
        yield fail("dvc", f"{layout.work}: no dvc.yaml here", "go to the project's own folder")
        return
    if not (layout.work / ".dvc").is_dir():
        yield fail("dvc", "not initialised", "`dvc init`, or `dvc init --no-scm` without git")
        return
    stale, reason = ask_dvc(layout)
    if stale is None:
        busy = "busy" in reason
        yield warn("dvc", "a stage is running") if busy else fail("dvc", reason, "see `dvc status`")
        return
    yield ok("dvc", f"{len(stale)} stages to run" if stale else "everything is up to date")


def mlflow(layout: Layout) -> Iterator[Finding]:
    """A server that answers, or a file that is a database."""
    if not load_params(layout.work / "params.yaml").tracking.enabled:
        yield ok("mlflow", "tracking is off in params.yaml")
        return
    uri = default_uri(layout.home)
    try:
        check_reachable(uri)
    except TrackingError as error:
        yield fail("mlflow", str(error))
        return
    yield ok("mlflow", shown(uri))
