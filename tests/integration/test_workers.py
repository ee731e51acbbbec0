"""Real Ray workers against the fit in one process: the number of workers and their deaths change no result."""

import importlib
import sys
from pathlib import Path

import pytest

from al_dgm.config import load_params
from al_dgm.errors import TrainingError
from al_dgm.learning.fit import WINDOW

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fits():
    """benchmarks/fits.py, the same fit and killer of workers as the benchmarks'; on a cluster of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "TQDM_DISABLE"):
            patch.setenv(name, "1")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("fits")
    for name in ("fits", "common", "digits_data"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def params(fits):
    """The committed recipe, its fits' states kept as often as can be."""
    return fits.with_changes(load_params(ROOT / "params.yaml"), {"compute.checkpoint_seconds": 0.05})


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_training_curve_of_one_process(fits, params, tmp_path, workers):
    """All terms of the objective, of about 75 nats, agree within 0.002, before rounding has been amplified much.

    It decides on which side of 0 a unit falls: initial weights that differ by 1e-7 move a term by 0.0001 and more.
    Weights agree less closely: Adam's first steps of 0.003 are signs of gradients, whatever their size.
    """
    job = fits.digits_job(params, WINDOW)
    alone = fits.run_fit(job, params.compute, 0, tmp_path)
    shared = fits.run_fit(job, params.compute, workers, tmp_path)
    assert len(alone.history) == 1
    assert shared.curve_difference(alone) <= 2e-3
    assert shared.weight_difference(alone) <= 2e-2


def test_a_killed_worker_is_replaced(fits, params, tmp_path):
    """SIGKILL once a checkpoint is kept: curve and weights are those of an undisturbed fit, to the last bit."""
    job = fits.digits_job(params, 10 * WINDOW)
    alone = fits.run_fit(job, params.compute, 0, tmp_path)
    with fits.WorkerKiller(lambda: fits.has_checkpoint(tmp_path)) as killer:
        replaced = fits.run_fit(job, params.compute, 1, tmp_path)
    assert killer.killed is not None
    assert replaced.curve_difference(alone) == 0
    assert replaced.weight_difference(alone) == 0


def test_a_fit_that_diverges_is_not_started_again(fits, params, tmp_path, capfd):
    """It would diverge again; the error is the fit's own."""
    job = fits.digits_job(fits.with_changes(params, {"training.learning_rate": 1e30}), WINDOW)
    with pytest.raises(TrainingError, match="expected a finite number: lower"):
        fits.run_fit(job, params.compute, 1, tmp_path)
    assert capfd.readouterr().err.count("Started training worker group") == 1
