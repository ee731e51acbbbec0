"""The benchmarks' statistics against closed forms and scipy; their raw files against kills and other settings."""

import importlib
import json
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from al_dgm.config import load_params
from al_dgm.errors import ConfigError, DataError, TrainingError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def common():
    """benchmarks/common.py, which is a script's neighbour and no package; child processes must find it too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "TQDM_DISABLE"):
            patch.setenv(name, "1")
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("common")
    sys.modules.pop("common", None)


def work(setting, earlier, *, log):
    """A unit that notes that it ran and adds up what its predecessors gave."""
    with log.open("a") as file:
        file.write(f"{setting['n']}\n")
    if setting["n"] == setting.get("fails"):
        raise TrainingError("training: no")
    return {"value": setting["n"] + sum(result["value"] for result in earlier)}


def chain(common, length, **more):
    """Units 1, 2, …, each after the one before."""
    units = []
    for n in range(1, length + 1):
        units.append(common.Unit({"n": n, **more}, units[-1] if units else None))
    return units


def test_paired_interval_equals_scipys_paired_t_test(common):
    """Mean and limits agree with scipy.stats.ttest_rel, at two levels."""
    generator = np.random.default_rng(0)
    ours, theirs = generator.normal(size=(2, 10))
    for level in (0.95, 0.8):
        mean, (low, high) = common.paired_interval(ours, theirs, level)
        expected = stats.ttest_rel(ours, theirs).confidence_interval(level)
        assert mean == pytest.approx((ours - theirs).mean())
        assert (low, high) == pytest.approx((expected.low, expected.high))


def test_paired_interval_of_two_pairs_has_its_closed_form(common):
    """Differences 0 and 2: mean 1, s/√n = 1, and t of one degree of freedom is the tangent: tan(0.95 π/2)."""
    mean, (low, high) = common.paired_interval([1.0, 4.0], [1.0, 2.0])
    half = math.tan(0.95 * math.pi / 2)
    assert (mean, low, high) == pytest.approx((1.0, 1.0 - half, 1.0 + half))


def test_one_pair_has_a_mean_but_no_interval(common):
    """A single seed says nothing about the spread."""
    assert common.paired_interval([0.9], [0.7]) == (pytest.approx(0.2), None)


def test_unequal_numbers_of_pairs_are_refused(common):
    """Pairing what is no pair would be silent nonsense."""
    with pytest.raises(ValueError, match="shorter"):
        common.paired_interval([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("values", "median"),
    [
        ([30.0, 10.0, 20.0], 20.0),
        ([30.0, 10.0, None], 30.0),
        ([10.0, None, None], None),
        ([10.0, 20.0, 30.0, None], 25.0),
        ([10.0, 20.0, None, None], None),
    ],
)
def test_censored_median_keeps_runs_that_never_arrive(common, values, median):
    """A run that never reaches the target counts as later than all others, and is not dropped."""
    assert common.censored_median(values) == median


def test_finished_units_are_not_done_again(common, tmp_path):
    """A second run with more units does the new ones only, with the old ones' results before them."""
    log, path = tmp_path / "log", tmp_path / "raw.jsonl"
    common.run_units(chain(common, 2), partial(work, log=log), common.RawFile(path), 1, math.inf, ThreadPoolExecutor)
    raw = common.RawFile(path)
    common.run_units(chain(common, 3), partial(work, log=log), raw, 1, math.inf, ThreadPoolExecutor)
    assert log.read_text().split() == ["1", "2", "3"]
    assert [raw.results[unit.key]["value"] for unit in chain(common, 3)] == [1, 3, 7]


def test_another_setting_is_another_unit(common, tmp_path):
    """Results of other parameters are never taken for these."""
    raw = common.RawFile(tmp_path / "raw.jsonl")
    (unit,), (other,) = chain(common, 1, params="a"), chain(common, 1, params="b")
    raw.append(unit, {"value": 1}, 0.1, "commit")
    assert unit.key in raw.results
    assert other.key not in common.RawFile(raw.path).results


def test_a_torn_last_line_is_dropped_and_done_again(common, tmp_path):
    """What a kill in the midst of writing leaves does not spoil the file, nor the next line."""
    path = tmp_path / "raw.jsonl"
    first, second = chain(common, 2)
    raw = common.RawFile(path)
    raw.append(first, {"value": 1}, 0.1, "commit")
    raw.append(second, {"value": 3}, 0.1, "commit")
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    torn = common.RawFile(path)
    assert set(torn.results) == {first.key}
    torn.append(second, {"value": 3}, 0.1, "commit")
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_named(common, tmp_path):
    """Only a last line can be torn by a kill; anything else is damage that nobody may pass over."""
    path = tmp_path / "raw.jsonl"
    path.write_text('{"setting": {"n": 1}}\n{}\n')
    with pytest.raises(DataError, match="line 1: expected a finished unit"):
        common.RawFile(path)


def test_a_spent_budget_starts_nothing(common, tmp_path):
    """Time that is over is over, and the file stays as it was."""
    log, raw = tmp_path / "log", common.RawFile(tmp_path / "raw.jsonl")
    common.run_units(chain(common, 2), partial(work, log=log), raw, 1, 0.0, ThreadPoolExecutor)
    assert not log.exists()
    assert not raw.results


def test_a_failed_unit_is_kept_and_ends_its_chain_only(common, tmp_path):
    """A fit that diverges is a result; what would continue it is left out, other chains go on."""
    log, raw = tmp_path / "log", common.RawFile(tmp_path / "raw.jsonl")
    failing, healthy = chain(common, 3, fails=2), chain(common, 2)
    common.run_units([*failing, *healthy], partial(work, log=log), raw, 1, math.inf, ThreadPoolExecutor)
    assert raw.results[failing[1].key] == {"failure": "training: no"}
    assert failing[2].key not in raw.results
    assert raw.results[healthy[1].key] == {"value": 3}


def test_what_is_no_failure_of_a_fit_ends_the_run_and_is_not_kept(common, tmp_path):
    """Data that are not there today may be tomorrow."""
    raw = common.RawFile(tmp_path / "raw.jsonl")
    with pytest.raises(DataError, match="no data"):
        common.run_units(chain(common, 2), missing_data, raw, 1, math.inf, ThreadPoolExecutor)
    assert not raw.results


def missing_data(setting, earlier):
    """A unit that cannot begin."""
    raise DataError("no data")


def test_units_of_other_runs_are_found_by_their_setting(common, tmp_path):
    log, path = tmp_path / "log", tmp_path / "raw.jsonl"
    common.run_units(chain(common, 3), partial(work, log=log), common.RawFile(path), 1, math.inf, ThreadPoolExecutor)
    found = common.RawFile(path).units(lambda setting: setting["n"] > 1)
    assert [unit.setting for unit in found] == [{"n": 2}, {"n": 3}]


def slow_work(setting, earlier):
    """A unit that takes a while, and says when."""
    began = time.time()
    time.sleep(1.0)
    return {"began": began, "ended": time.time(), "earlier": len(earlier)}


def test_two_jobs_overlap_but_keep_the_order_of_a_chain(common, tmp_path):
    """Independent units run side by side; a unit waits for the one it continues."""
    raw = common.RawFile(tmp_path / "raw.jsonl")
    left, right = chain(common, 2, side="left"), chain(common, 1, side="right")
    common.run_units([*left, *right], slow_work, raw, 2, math.inf)
    first, second, other = (raw.results[unit.key] for unit in [*left, *right])
    assert other["began"] < first["ended"]
    assert first["began"] < other["ended"]
    assert second["began"] >= first["ended"]
    assert second["earlier"] == 1


def test_results_are_found_by_setting(common, tmp_path):
    """Units of other settings, and those that are not done, are left out."""
    units = [common.Unit({"n": n, "seed": seed}) for n in (1, 2) for seed in (0, 1)]
    raw = common.RawFile(tmp_path / "raw.jsonl")
    for unit in (*units[:3], common.Unit({"n": 9, "seed": 0})):
        raw.append(unit, {"value": 10 * unit.setting["n"] + unit.setting["seed"]}, 1.0, "abc")
    found = common.results_by(units, raw, "n", "seed")
    assert found == {(1,): {0: {"value": 10}, 1: {"value": 11}}, (2,): {0: {"value": 20}}}


def test_rows_compare_each_method_with_the_reference_on_the_seeds_that_both_have(common, tmp_path):
    found = {("a", 0): 0.5, ("a", 1): 0.7, ("b", 0): 0.6, ("b", 1): 0.9, ("b", 2): 0.1, ("b", 3): None}
    units = [common.Unit({"method": name, "labels": 10, "seed": seed}) for name, seed in found]
    raw = common.RawFile(tmp_path / "raw.jsonl")
    for unit, accuracy in zip(units, found.values(), strict=True):
        raw.append(unit, {"failure": "diverged"} if accuracy is None else {"accuracy": accuracy}, 1.0, "abc")
    reference, row = common.compared_rows(units, raw, "method", "a")
    assert (reference["n"], reference["gain"], reference["gain_ci"]) == (2, None, None)
    assert row["mean"] == pytest.approx(1.6 / 3)
    assert row["gain"] == pytest.approx(0.15)
    low, high = row["gain_ci"]
    assert (low + high) / 2 == pytest.approx(0.15)
    assert (row["n"], row["failures"]) == (3, 1)


def test_the_digest_sees_what_decides_and_nothing_else(common):
    """Options of the model in use count, those of a model that is not used do not."""
    params = load_params(ROOT / "params.yaml")
    other = common.with_changes(params, {"model.sdgm.latent": 99})
    changed = common.with_changes(params, {"model.m2.latent": 99})
    assert params.model.name == "m2"
    assert common.digest(params.model, params.training) == common.digest(other.model, other.training)
    assert common.digest(params.model, params.training) != common.digest(changed.model, changed.training)


def test_changed_parameters_are_checked(common):
    """A benchmark cannot run with a parameter that params.yaml would not take."""
    with pytest.raises(ConfigError, match=r"training\.steps"):
        common.with_changes(load_params(ROOT / "params.yaml"), {"training.steps": 0})


def test_the_report_is_one_json_object_last_and_in_the_file(common, tmp_path, capsys):
    """What is printed last is what is written, and names commit and machine."""
    common.report("name", [{"a": 1.5}], tmp_path, steps=3)
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed == json.loads((tmp_path / "name.json").read_text())
    assert printed["benchmark"] == "name"
    assert printed["rows"] == [{"a": 1.5}]
    assert {"cpu", "cores", "memory_gib", "python", "torch"} <= set(printed["machine"])


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py")))
def test_every_script_says_what_it_claims(script):
    """A file with a main is a benchmark: its help starts with its claim."""
    text = (ROOT / "benchmarks" / f"{script}.py").read_text()
    if "def main()" in text:
        assert text.startswith('"""Claim: ')
        assert "parser(__doc__)" in text
