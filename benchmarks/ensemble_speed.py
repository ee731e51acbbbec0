"""Claim: the members of an ensemble train faster as one program than one after the other.

The default recipe on the digits with 20 labels, whole training steps on one thread of a CPU. Rows: {model, members,
compiled, steps_per_s_alone, steps_per_s_ensemble, speedup}, where a step of the ensemble is one of every member and
speedup = members · steps_per_s_ensemble / steps_per_s_alone. Seconds are of CPU time, compilation left out; both are
timed in turn, several times, and medians count.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from common import parser, progress, report, with_changes
from fits import digits_job

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors
from al_dgm.learning.ensemble_fit import EnsembleFit
from al_dgm.learning.fit import Fit, Workers
from al_dgm.learning.job import TrainingJob

ENDLESS = 10_000_000  # steps of the recipe: more than will be timed

Step = Callable[[], object]


def step_of(job: TrainingJob, members: int, *, compile_step: bool) -> Step:
    """One step of a model alone, or of an ensemble."""
    kind = Fit if members == 1 else EnsembleFit
    model = replace(job.spec, ensemble=members).build(0)
    return kind(model, job.data, job.recipe, 0, Workers(), compile_step=compile_step).step


def rate(step: Step, times: int) -> float:
    """Steps per second of CPU time, over ``times`` steps."""
    began = time.process_time()
    for _ in range(times):
        step()
    return times / (time.process_time() - began)


def row(job: TrainingJob, members: int, rounds: int, *, compile_step: bool) -> dict[str, Any]:
    """What one program saves for this model."""
    alone, together = (step_of(job, n, compile_step=compile_step) for n in (1, members))
    for step in (alone, together):
        rate(step, 10)  # compiled, and its memory warm
    turns = [(rate(alone, 100), rate(together, 50)) for _ in range(rounds)]
    of_one, of_all = (statistics.median(rates) for rates in zip(*turns, strict=True))
    found = {"model": job.spec.name, "members": members, "compiled": compile_step}
    found |= {"steps_per_s_alone": of_one, "steps_per_s_ensemble": of_all, "speedup": members * of_all / of_one}
    progress(f"  {found}")
    return found


def main() -> None:
    """Time every model, plain and compiled, and report."""
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", default=["m2", "sdgm", "vae", "mlp"], help="(default: %(default)s)")
    options.add_argument("--members", type=int, default=5, help="(default: %(default)s)")
    options.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    given = options.parse_args()
    torch.set_num_threads(1)
    params, rows = load_params("params.yaml"), []
    for name in given.models:
        job = digits_job(with_changes(params, {"model.name": name}), ENDLESS)
        rows += [row(job, given.members, given.rounds, compile_step=compile_step) for compile_step in (False, True)]
    report("ensemble_speed", rows, given.results)


if __name__ == "__main__":
    with one_line_errors():
        main()
