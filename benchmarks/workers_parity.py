"""Claim: the number of workers changes no result beyond rounding.

One fit on digits, in this process (0) and on Ray workers that exchange gradients by gloo. Rows: {workers,
max_abs_difference, first_window_difference, max_abs_weight_difference, seconds}. Differences are to the fit in this
process: of the training curve in nats, over all terms of the objective, in all windows of 50 steps and in the first;
and of the final weights. Seconds contain the start of the local cluster.

Training amplifies rounding. The row "0, initial weights off by 1e-7" is the yardstick: one process, one rounding error
per weight at the start. Sums in another order, which is what workers do, differ by as much.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import parser, progress, report
from fits import Fitted, digits_job, perturbed, run_fit

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors

ROUNDING = 1e-7  # of float32, relative


def make_row(workers: int | str, fitted: Fitted, alone: Fitted) -> dict[str, Any]:
    """Differences of one fit to that in this process."""
    row = {
        "workers": workers,
        "max_abs_difference": fitted.curve_difference(alone),
        "first_window_difference": fitted.first_window().curve_difference(alone.first_window()),
        "max_abs_weight_difference": fitted.weight_difference(alone),
        "seconds": fitted.seconds,
    }
    progress(f"  {row}")
    return row


def main() -> None:
    """Fit with each number of workers and report."""
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=300, help="gradient steps (default: %(default)s)")
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="beside 0 (default: %(default)s)")
    options.add_argument("--params", default="params.yaml", help="the recipe (default: %(default)s)")
    given = options.parse_args()
    params = load_params(given.params)
    job = digits_job(params, given.steps)
    with tempfile.TemporaryDirectory(prefix="workers_parity-") as name:
        alone = run_fit(job, params.compute, 0, Path(name))
        rows = [make_row(0, alone, alone)]
        moved = run_fit(perturbed(job, ROUNDING), params.compute, 0, Path(name), "perturbed")
        rows.append(make_row(f"0, initial weights off by {ROUNDING:g}", moved, alone))
        for workers in given.workers:
            progress(f"{workers} workers")
            rows.append(make_row(workers, run_fit(job, params.compute, workers, Path(name)), alone))
    report("workers_parity", rows, given.results, steps=given.steps)


if __name__ == "__main__":
    with one_line_errors():
        main()
