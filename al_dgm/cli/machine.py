"""What `al-dgm doctor` looks at on this machine."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from al_dgm.cli.finding import Finding, fail, ok, warn
from al_dgm.config import load_params
from al_dgm.distributed.address import check_cluster, cluster_address
from al_dgm.learning.layout import Layout

GIB, MIB, DAY = 2**30, 2**20, 24 * 60 * 60
SHOWN = ("torch", "ray", "mlflow", "dvc", "pandas")
INSTALL = "pip install -c constraints.txt -e ."
LOW_DISK, NO_DISK = 2 * GIB, GIB // 4
LOW_SHARED_MEMORY = GIB  # Docker gives 64 MiB unless told otherwise; Ray's object store then moves to the disk


def packages(_: Layout) -> Iterator[Finding]:
    """Python, and every package that al-dgm requires, in a version that it takes."""
    wanted = [Requirement(line) for line in metadata.requires("al-dgm") or []]
    needed = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate()]
    wrong = [problem for requirement in needed if (problem := _problem(requirement))]
    for problem in wrong:
        yield fail("packages", problem, INSTALL)
    if not wrong:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN)
        yield ok("packages", f"Python {platform.python_version()}, {versions}")


def _problem(requirement: Requirement) -> str | None:
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed; expected {requirement.name}{requirement.specifier}"
    if requirement.specifier.contains(found, prereleases=True):
        return None
    return f"expected {requirement.name}{requirement.specifier}, got {found}"


def torch_devices(layout: Layout) -> Iterator[Finding]:
    """What there is to train on, and whether params.yaml asks for more, or for what is slow there."""
    import torch

    from al_dgm.learning.device import bfloat16_cost

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    devices = f"CUDA {', '.join(names)}" if names else "CPU only"
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"
    params = load_params(layout.work / "params.yaml")
    compute, here = params.compute, not params.compute.workers
    if compute.gpu is True and not names and here:
        yield fail("torch", f"{devices}, but params.yaml has compute.gpu: true", "set it to auto, or mend CUDA")
    else:
        yield ok("torch", f"{devices}, {threads}")
    on_cpu = here and not (names and compute.gpu)
    if params.training.precision == "bfloat16" and on_cpu and (cost := bfloat16_cost()) > 1:
        message = f"training.precision is bfloat16, whose products take {cost:.1f} times as long here as float32's"
        yield warn("torch", message, "set it to float32")


def disk(layout: Layout) -> Iterator[Finding]:
    """Room for rounds and checkpoints."""
    for subject, folder in (("disk", layout.work), ("disk for checkpoints", layout.checkpoints)):
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        message = f"{free / GIB:.1f} GiB free at {existing}"
        if not os.access(existing, os.W_OK):
            yield fail(subject, f"{existing} cannot be written", "give yourself write permission, or move the project")
        elif free < NO_DISK:
            yield fail(subject, message, "make room; `dvc gc --workspace` removes the cache of what is no longer used")
        elif free < LOW_DISK:
            yield warn(subject, message, "`dvc gc --workspace` removes the cache of what is no longer used")
        else:
            yield ok(subject, message)


def checkpoints(layout: Layout) -> Iterator[Finding]:
    """Fits that were begun and not ended: asked for again they go on, but nobody asks after a change of code."""
    kept: dict[Path, os.stat_result] = {}
    for folder, _, files in os.walk(layout.checkpoints):  # unlike rglob, it passes over folders that vanish meanwhile
        for path in (Path(folder, file) for file in files):
            with contextlib.suppress(FileNotFoundError):  # a fit that runs replaces its files
                kept[path] = path.stat()
    if not kept:
        yield ok("checkpoints", "no fit is unfinished")
        return
    fits = len({path.relative_to(layout.checkpoints).parts[0] for path in kept})
    size = sum(stat.st_size for stat in kept.values()) / MIB
    newest = max(stat.st_mtime for stat in kept.values())
    message = f"{fits} unfinished {'fit' if fits == 1 else 'fits'}, {size:.0f} MiB in {layout.checkpoints}"
    if time.time() - newest > DAY:
        yield warn("checkpoints", message, "remove the folder, unless you mean to go on with them")
    else:
        yield ok("checkpoints", message)


def shared_memory(_: Layout, folder: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108 - only looked at
    """Where Ray keeps what its workers share."""
    if not folder.exists():
        yield ok("shared memory", f"no {folder} on this system")
        return
    total = shutil.disk_usage(folder).total
    message = f"{total / GIB:.1f} GiB at {folder}"
    if total < LOW_SHARED_MEMORY:
        yield warn("shared memory", message, "for compute.workers >= 1 start the container with --shm-size=4g")
    else:
        yield ok("shared memory", message)


def ray(_: Layout) -> Iterator[Finding]:
    """Whether something listens where RAY_ADDRESS points."""
    check_cluster()
    address = cluster_address()
    meaning = {"local": "a local cluster starts when asked for", "auto": "joins the cluster of this machine"}
    yield ok("ray", f"{address}: {meaning.get(address, 'answers')}")
