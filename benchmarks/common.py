"""What the benchmarks share: the result file, the statistics, and units of work that survive a stop."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# Before torch and tqdm are imported, here and in child processes: parallel units must not fight for cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TQDM_DISABLE", "1")

import psutil
from pydantic import BaseModel
from scipy import stats

from al_dgm.config import Choice, Params, load_params, parse_params
from al_dgm.errors import DataError, NonFiniteScoreError, TrainingError
from al_dgm.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

Setting = Mapping[str, Any]
Result = Mapping[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line that every benchmark has."""
    # The docstring is the help: what is claimed, and what the rows hold.
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of the result file (default: %(default)s)")
    return made


def add_unit_options(made: argparse.ArgumentParser, seeds: int) -> None:
    """The options of a benchmark that consists of resumable units."""
    made.add_argument("--seeds", type=int, default=seeds, help="paired seeds 0, 1, … (default: %(default)s)")
    made.add_argument("--jobs", type=int, default=1, help="units at a time, one process each (default: %(default)s)")
    made.add_argument("--budget-seconds", type=float, default=math.inf, help="start no unit after this many seconds")


def add_recipe_options(made: argparse.ArgumentParser) -> None:
    """The options of a benchmark that trains by params.yaml; `recipe` reads them."""
    made.add_argument("--params", default="params.yaml", help="the recipe (default: %(default)s)")
    made.add_argument("--compile", action="store_true", help="train compiled: many fits share a program (needs g++)")


def recipe(given: argparse.Namespace) -> Params:
    """The params.yaml that a command line asks for."""
    params = load_params(given.params)
    return with_changes(params, {"compute.compile": True}) if given.compile else params


def one_of(names: Iterable[str]) -> str:
    """The help of an option that takes some of ``names``."""
    return f"among {', '.join(names)} (default: all)"


def progress(message: str) -> None:
    """One line on standard error."""
    print(message, file=sys.stderr, flush=True)


def report(name: str, rows: Sequence[Mapping[str, Any]], folder: Path = RESULTS, **more: Any) -> None:
    """Write ``<folder>/<name>.json`` and print the same as the last line of standard output."""
    content = {"benchmark": name, "commit": commit(), "machine": machine(), **more, "rows": list(rows)}
    write_atomically(folder / f"{name}.json", (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    print(json.dumps(content, allow_nan=False), flush=True)


def commit() -> str:
    """What is measured: the commit, with ``+changes`` where tracked files of the package differ from it."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return f"{head}+changes" if _git("status", "--porcelain", "--", "al_dgm", "pipelines", "*.yaml") else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> dict[str, Any]:
    """Where it is measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "ray", "dvc", "mlflow")},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


# --- statistics ---


def mean_and_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (None for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired_interval(
    ours: Sequence[float], theirs: Sequence[float], level: float = 0.95
) -> tuple[float, tuple[float, float] | None]:
    """Mean of d_i = ours_i − theirs_i and its paired-t interval  d̄ ± t_{(1+level)/2, n−1} s_d / √n.

    The interval is None for fewer than two pairs.
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, sd = mean_and_sd(differences)
    if sd is None:
        return mean, None
    half = float(stats.t.ppf((1 + level) / 2, len(differences) - 1)) * sd / math.sqrt(len(differences))
    return mean, (mean - half, mean + half)


def censored_median(values: Iterable[float | None]) -> float | None:
    """Median where None means "not reached, so larger than all others"; None if the median itself is not reached."""
    median = statistics.median(math.inf if value is None else value for value in values)
    return median if math.isfinite(median) else None


# --- parameters ---


def with_changes(params: Params, changes: Mapping[str, Any]) -> Params:
    """``params`` with other values at dotted paths such as ``model.m2.bayesian``, checked anew."""
    content = params.model_dump()
    for path, value in changes.items():
        *sections, last = path.split(".")
        block = content
        for section in sections:
            block = block[section]
        block[last] = value
    return parse_params(content)


# Options that came after the first results, each with the value at which those stand.
LATER = {"restarts": 0, "consistency_temperature": 1.0, "pixelcnn": []}


def digest(*sections: BaseModel) -> str:
    """Twelve hex digits of the sections that decide a result; of a choice, the component that is chosen."""
    content = [
        [s.name, _as_before(s.options)] if isinstance(s, Choice) else _as_before(s.model_dump()) for s in sections
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _as_before(options: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` without those of `LATER` that change nothing."""
    return {name: value for name, value in options.items() if name not in LATER or value != LATER[name]}


# --- resumable units ---


@dataclass(frozen=True)
class Unit:
    """One piece of work that is kept once it is done: its full setting, and the unit it continues."""

    setting: Setting
    after: Unit | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        """The setting as one string."""
        return json.dumps(dict(self.setting), sort_keys=True)

    def chain(self) -> list[Unit]:
        """All units before this one, the first first."""
        return [] if self.after is None else [*self.after.chain(), self.after]


class RawFile:
    """Finished units, one JSON line each: ``setting``, ``result``, ``seconds``, ``commit``.

    Raises:
        DataError: a line other than a torn last one is no such record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results: dict[str, Result] = {}
        self.commits: dict[str, str] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self._drop_torn_line()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                record = json.loads(line)
                key = Unit(record["setting"]).key
                self.results[key], self.commits[key] = record["result"], record["commit"]
            except (ValueError, KeyError, TypeError):
                raise DataError(f"{path}: line {number}: expected a finished unit, got: {line[:60]}") from None

    def _drop_torn_line(self) -> None:
        """A kill in the midst of writing leaves a last line without its end; that unit is computed again."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)

    def append(self, unit: Unit, result: Result, seconds: float, measured: str) -> None:
        """Keep one finished unit."""
        record = {"setting": unit.setting, "result": result, "seconds": round(seconds, 3), "commit": measured}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        self.results[unit.key], self.commits[unit.key] = result, measured

    def units(self, current: Callable[[Setting], bool]) -> list[Unit]:
        """Those that are done, of whatever run, whose setting is ``current``."""
        return [unit for key in self.results if current((unit := Unit(json.loads(key))).setting)]

    def measured(self, units: Sequence[Unit]) -> dict[str, int]:
        """Commit -> how many of ``units`` were measured at it: the report may come from a later one."""
        return dict(Counter(self.commits[unit.key] for unit in units if unit.key in self.commits))


def results_by(units: Sequence[Unit], raw: RawFile, *names: str) -> dict[tuple[Any, ...], dict[Any, Result]]:
    """The results of ``units`` that are done: values of all ``names`` but the last -> value of the last -> result.

    A name that a setting lacks has the value None.
    """
    found: dict[tuple[Any, ...], dict[Any, Result]] = {}
    for unit in units:
        if unit.key in raw.results:
            *group, member = (unit.setting.get(name) for name in names)
            found.setdefault(tuple(group), {})[member] = raw.results[unit.key]
    return found


def compared_rows(units: Sequence[Unit], raw: RawFile, what: str, reference: str) -> list[dict[str, Any]]:
    """One row for each value of ``what`` at each number of labels, over the seeds that are done.

    {<what>, labels, mean, sd, n, gain, gain_ci}: accuracy in 0..1, its mean paired difference from the value
    ``reference``, and that difference's 95 % interval (`paired_interval`); ``failures`` where fits failed.
    """
    found = results_by(units, raw, what, "labels", "seed")
    accuracies = {
        group: {seed: result["accuracy"] for seed, result in results.items() if "accuracy" in result}
        for group, results in found.items()
    }
    rows = []
    for (name, labels), ours in accuracies.items():
        theirs = accuracies.get((reference, labels), {}) if name != reference else {}
        pairs = sorted(set(ours) & set(theirs))
        mean, sd = mean_and_sd(list(ours.values())) if ours else (None, None)
        gain, interval = (
            paired_interval([ours[s] for s in pairs], [theirs[s] for s in pairs]) if pairs else (None, None)
        )
        row = {what: name, "labels": labels, "mean": mean, "sd": sd, "n": len(ours), "gain": gain, "gain_ci": interval}
        failed = len(found[name, labels]) - len(ours)
        rows.append(row | ({"failures": failed} if failed else {}))
    return rows


Work = Callable[[Setting, Sequence[Result]], Result]  # (setting, results of the units before it) -> result


def child_processes(jobs: int) -> Executor:
    """Processes that share nothing with this one and end with it."""
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_child)


def run_units(
    units: Sequence[Unit],
    work: Work,
    raw: RawFile,
    jobs: int,
    budget_seconds: float,
    executor: Callable[[int], Executor] = child_processes,
) -> None:
    """Do the units that ``raw`` lacks, in order, ``jobs`` at a time, each after the one it continues.

    A fit that fails is kept as ``{"failure": message}``, and what would continue it is left out. Any other error, such
    as data that are not there, ends the run, and nothing is kept of that unit.
    """
    began, measured = time.monotonic(), commit()
    pending = [unit for unit in units if unit.key not in raw.results]
    progress(f"{raw.path.name}: {len(units) - len(pending)} of {len(units)} units are done already")
    running: dict[Future[tuple[Result, float]], Unit] = {}
    with executor(jobs) as pool:
        while True:
            while len(running) < jobs and time.monotonic() - began < budget_seconds:
                unit = next((unit for unit in pending if _is_ready(unit, raw)), None)
                if unit is None:
                    break
                pending.remove(unit)
                earlier = [raw.results[before.key] for before in unit.chain()]
                running[pool.submit(_timed, work, unit.setting, earlier)] = unit
            if not running:
                break
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                unit = running.pop(done)
                result, seconds = done.result()
                raw.append(unit, result, seconds, measured)
                progress(_line(unit, result, seconds, len(pending) + len(running)))


def _is_ready(unit: Unit, raw: RawFile) -> bool:
    return unit.after is None or "failure" not in raw.results.get(unit.after.key, {"failure": "not done yet"})


def _line(unit: Unit, result: Result, seconds: float, left: int) -> str:
    setting = " ".join(f"{name}={value}" for name, value in unit.setting.items() if name != "params")
    shown = " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in result.items() if k != "chosen")
    return f"{setting}: {shown} ({seconds:.1f} s; {left} units left)"


def _start_child() -> None:
    """One thread a process; and a child whose parent was killed ends, instead of waiting for work for ever."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _timed(work: Work, setting: Setting, earlier: Sequence[Result]) -> tuple[Result, float]:
    began = time.monotonic()
    try:
        result = work(setting, earlier)
    except (TrainingError, NonFiniteScoreError) as error:
        result = {"failure": str(error)}
    return result, time.monotonic() - began
