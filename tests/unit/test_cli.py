import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from small_project import PROJECT, make_project

from al_dgm.cli import app, main
from al_dgm.cli.doctor import CHECKS, Level, examine
from al_dgm.cli.finding import warn
from al_dgm.cli.machine import checkpoints, disk, packages, ray, shared_memory
from al_dgm.config import load_rounds
from al_dgm.files import read_table, write_table
from al_dgm.labelling.ledger import read_ledger, write_ledger
from al_dgm.learning.labels import label_round


def all_commands(command, path=()):
    """(words, command) for every command below ``command``."""
    for name, inner in getattr(command, "commands", {}).items():
        yield (*path, name), inner
        yield from all_commands(inner, (*path, name))


COMMANDS = dict(all_commands(typer.main.get_command(app)))
LEAVES = {words: command for words, command in COMMANDS.items() if not hasattr(command, "commands")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project as the current folder, with no services named."""
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    made = make_project(tmp_path / "project")
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def al_dgm(monkeypatch, capsys):
    """Run the command line in this process: exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["al-dgm", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


def findings(project, level):
    """Subjects and lines of what doctor finds at that level."""
    return {finding.subject: finding.line() for finding in examine(project.layout) if finding.level is level}


def test_the_commands_are_those_that_are_promised():
    """Nobody loses a command unnoticed."""
    loop = {("rounds",), ("data", "fetch"), ("status",), ("report",), ("doctor",), ("version",)}
    assert set(LEAVES) == {*loop, ("train",), ("evaluate",), ("draw",)}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words, al_dgm):
    """`--help` works, and says more than the usage."""
    code, out, err = al_dgm(*words, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: al-dgm {' '.join(words)}" in out
    assert COMMANDS[words].help


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_an_example_that_names_it(words, al_dgm):
    """The help of a command shows a line to type."""
    _, out, _ = al_dgm(*words, "--help")
    assert f"Example: al-dgm {' '.join(words)}" in out


@pytest.mark.parametrize("words", [(), ("data",)], ids=["al-dgm", "al-dgm data"])
def test_alone_it_lists_the_commands(words, al_dgm):
    """Whoever types the bare name is helped, not scolded."""
    code, out, err = al_dgm(*words)
    assert (code, err) == (0, "")
    assert "Commands:" in out


@pytest.mark.parametrize(
    ("words", "complaint", "command"),
    [
        (["round"], "No such command 'round'. Did you mean 'rounds'?", "al-dgm"),
        (["rounds"], "Missing argument 'N'", "al-dgm rounds"),
        (["rounds", "many"], "Invalid value for 'N'", "al-dgm rounds"),
        (["status", "--nope"], "No such option: --nope", "al-dgm status"),
        (["train", "--out", "x"], "Missing option '--labels'", "al-dgm train"),
        (["data", "fetch"], "Missing argument 'name'", "al-dgm data fetch"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, complaint, command, al_dgm):
    """Exit code 2, what was wrong, and whose help says more."""
    code, out, err = al_dgm(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"al-dgm: error: {complaint}")
    assert err.count("\n") == 1
    assert err.endswith(f"; see {command} --help\n")


def test_help_answers_at_once():
    """Neither torch nor pandas nor any other heavy package is loaded for it."""
    heavy = {"torch", "ray", "mlflow", "pandas", "numpy", "pyarrow", "pydantic", "yaml"}
    code = (
        "import sys; from al_dgm.cli import main; sys.argv = ['al-dgm', '--help']\n"
        "try: main()\n"
        f"except SystemExit: sys.exit(str(sorted({heavy!r} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, text=True, capture_output=True, check=False)
    assert done.stderr.strip() == "[]"


def test_python_dash_m_is_the_same():
    """`python -m al_dgm` is the command line."""
    command = [sys.executable, "-m", "al_dgm", "version"]
    done = subprocess.run(command, cwd=PROJECT, text=True, capture_output=True, check=True)
    assert done.stdout.startswith("al-dgm ")


def test_rounds_says_what_changes(project, al_dgm):
    """More, fewer, equally many, and a broken file."""
    assert al_dgm("rounds", "5")[1] == (
        "rounds.yaml: 5 rounds; added rounds 3 to 5; finished rounds stay cached, `dvc repro` runs the new\n"
    )
    assert list(load_rounds().queries.values()) == [0, 1, 2, 3, 4]
    assert al_dgm("rounds", "4")[1].startswith("rounds.yaml: 4 rounds; removed round 5; their files stay")
    assert al_dgm("rounds", "4")[1] == "rounds.yaml: 4 rounds, as before\n"
    (project.folder / "rounds.yaml").write_text("trainings: {'1': 7}\nqueries: {}\n")
    assert al_dgm("rounds", "1")[1] == "rounds.yaml: 1 round, written anew\n"


def test_rounds_refuses_a_strange_folder(tmp_path, monkeypatch, al_dgm):
    """Where no dvc.yaml would read it, nothing is written."""
    monkeypatch.chdir(tmp_path)
    code, _, err = al_dgm("rounds", "3")
    assert (code, err) == (1, f"al-dgm: error: {tmp_path}: no dvc.yaml here; expected the project's own folder\n")
    assert not list(tmp_path.iterdir())


def test_status_shows_the_rounds_and_what_comes_next(project, al_dgm):
    """The table follows the files; without DVC the first missing one decides what is next."""
    code, out, err = al_dgm("status")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "half_moons, m2, bald: 1 of 3 rounds trained, 6 labels",
        "",
        "round  trained  on labels  accuracy  queried  labelled  labels then",
        "    0        -                             -       yes            6",
        "    1      yes          6    0.7500      yes        no",
        "    2       no                            no        no",
        "    3       no                             -         -",
        "",
        "next `dvc repro`: goes on with label@1",
    ]


def test_status_knows_its_limits(project, al_dgm, monkeypatch):
    """Without DVC's word it does not claim that all is up to date; while a stage runs it says so."""
    import al_dgm.cli.status as module  # noqa: PLC0415

    monkeypatch.setattr(module, "next_stage", lambda *_: None)
    assert al_dgm("status")[1].endswith("every file is there; whether all are up to date could not be asked of DVC\n")
    monkeypatch.setattr(
        module, "ask_dvc", lambda _: (None, "'rounds/1/model' is busy, it is being blocked by: (PID 7)")
    )
    assert al_dgm("status")[1].endswith("\n\na stage is running now\n")


def asked_of_people(project):
    """The file of round 1's query, which nobody has answered yet."""
    project.set("labels.name", "csv")
    project.set("seed_set.strategy", "random")
    assert project.run("pipelines.label", "--round", "1").returncode == 75
    (file,) = (project.folder / "labels").iterdir()
    return file


def test_status_says_who_is_waited_for(project, al_dgm):
    """A query that people have half answered is counted, and its file named."""
    file = asked_of_people(project)
    file.write_text(file.read_text().replace("1,\n", "1,upper\n", 1))
    _, out, _ = al_dgm("status")
    assert out.splitlines()[-1] == (
        f"waiting: round 1: 1 of 4 answers have come; label in column 'label' of {file}, as upper, lower or skip; "
        "then `dvc repro` goes on from here"
    )


def test_status_sees_an_answer_that_was_corrected_after_its_round(project, al_dgm):
    """The ledger keeps what it took; nobody would know that a later correction is not in it."""
    file = asked_of_people(project)
    file.write_text(file.read_text().replace(",\n", ",upper\n"))
    assert project.run("pipelines.label", "--round", "1").returncode == 0
    assert "corrected" not in al_dgm("status")[1]
    name = file.read_text().splitlines()[2].partition(",")[0]
    for said, now in (("lower", "'lower'"), ("skip", "a skip"), ("", "nothing")):
        file.write_text(re.sub("2,.*\n", f"2,{said}\n", file.read_text()))
        (line,) = [line for line in al_dgm("status")[1].splitlines() if line.startswith("corrected")]
        assert line == (
            f"corrected: round 1 took 'upper' for {name}, which now says {now}; `dvc repro -f -s label@1` takes that"
        )


def test_status_shows_the_rounds_though_an_answer_is_wrong(project, al_dgm):
    file = asked_of_people(project)
    file.write_text(file.read_text().replace("1,\n", "1,uper\n", 1))
    code, out, _ = al_dgm("status")
    assert code == 0
    assert out.splitlines()[2].startswith("round  trained")
    assert out.splitlines()[-1].startswith(f"wrong: {file}:2: expected a class or 'skip', got 'uper'")


def test_status_asks_dvc_what_is_out_of_date(project, al_dgm):
    """A changed parameter runs a stage again although its files are there; afterwards DVC finds nothing to do."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    dvc_yaml = project.folder / "dvc.yaml"
    dvc_yaml.write_text("stages:\n  prepare:\n    cmd: mkdir -p x && touch x/y\n    params: [seed]\n    outs: [x]\n")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], check=True)
    assert al_dgm("status")[1].endswith("next `dvc repro`: nothing to do, everything is up to date\n")
    project.set("seed", 1)
    assert al_dgm("status")[1].endswith(
        "next `dvc repro`: goes on with prepare, because of another seed in params.yaml\n"
    )
    project.set("seed", 0)
    (project.folder / "x" / "y").unlink()
    (project.folder / "x").rmdir()
    assert al_dgm("status")[1].endswith("next `dvc repro`: goes on with prepare\n")


def test_a_lock_that_a_killed_dvc_left_half_written_is_named_with_its_remedy(project, al_dgm):
    """DVC refuses to start with it, and does not say what to do."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    (project.folder / "dvc.yaml").write_text("stages:\n  prepare:\n    cmd: mkdir -p x\n    outs: [x]\n")
    lock = project.folder / ".dvc" / "tmp" / "rwlock"
    lock.write_text("")
    assert "`rm .dvc/tmp/rwlock`" in al_dgm("status")[1]
    assert "`rm .dvc/tmp/rwlock`" in findings(project, Level.FAIL)["dvc"]
    lock.unlink()
    assert "dvc" in findings(project, Level.OK)


def test_report_prints_the_report_and_how_to_open_mlflow(project, al_dgm):
    """Without a report it says how to get one; with one the last line opens MLflow."""
    code, _, err = al_dgm("report")
    assert code == 1
    assert err.startswith("al-dgm: error: ")
    project.layout.report.mkdir()
    summary = {
        "rounds": 1,
        "labels": 6,
        "accuracy": 0.75,
        "area_under_curve": 0.75,
        "labels_to_95": None,
        "holdout": 80,
    }
    (project.layout.report / "metrics.json").write_text(json.dumps(summary))
    (project.layout.report / "curve.csv").write_text("round,labels,accuracy,nll,ece,brier\n1,6,0.75,0.5,0.1,0.3\n")
    code, out, err = al_dgm("report")
    assert (code, err) == (0, "")
    assert "75.0%" in out
    assert out.splitlines()[-2].startswith("MLflow: MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui")


def test_an_unknown_data_set_cannot_be_fetched(al_dgm):
    """The message lists those that can."""
    code, _, err = al_dgm("data", "fetch", "mnits")
    assert (code, err.count("\n")) == (1, 1)
    assert "did you mean 'mnist'?" in err


def test_fetch_passes_name_and_folder_on(tmp_path, monkeypatch, al_dgm):
    """What comes back is printed, a path a line."""
    from al_dgm.data import fetch  # noqa: PLC0415

    def fake(name, folder, say):
        say(f"fetching {name}")
        return [folder / "a", folder / "b"]

    monkeypatch.setattr(fetch, "fetch", fake)
    out = al_dgm("data", "fetch", "mnist", "--folder", str(tmp_path))[1]
    assert out == f"fetching mnist\n{tmp_path}/a\n{tmp_path}/b\n"
    assert "data/raw/mnist/a" in al_dgm("data", "fetch", "mnist")[1]


# doctor


def test_doctor_finds_a_good_project_good(project):
    """Only that it is no git or DVC repository is told."""
    assert findings(project, Level.FAIL) == {
        "dvc": "fail  dvc: not initialised - `dvc init`, or `dvc init --no-scm` without git"
    }
    assert set(findings(project, Level.WARN)) <= {"git", "disk", "disk for checkpoints", "shared memory"}
    assert set(findings(project, Level.OK)) >= {"packages", "torch", "params.yaml", "rounds.yaml", "data", "labels"}


def test_doctor_exits_1_if_anything_failed(project, monkeypatch, al_dgm):
    """One line a finding; a warning is no failure."""
    import al_dgm.cli.doctor as module  # noqa: PLC0415

    monkeypatch.setattr(module, "CHECKS", {name: CHECKS[name] for name in ("rounds.yaml", "dvc")})
    code, out, _ = al_dgm("doctor")
    assert code == 1
    assert [line.split()[0] for line in out.splitlines()] == ["ok", "fail"]
    monkeypatch.setattr(module, "CHECKS", {"git": lambda _: iter([warn("git", "not a repository")])})
    assert al_dgm("doctor")[:2] == (0, "warn  git: not a repository\n")


def without_data(project):
    (project.layout.prepared / "dataset.json").unlink()


def with_one_id_twice(project):
    frame = read_table(project.layout.prepared / "pool" / "00000.parquet").to_pandas()
    shard = project.layout.prepared / "pool" / "00001.parquet"
    table = __import__("pyarrow.parquet").parquet.read_table(shard)
    ids = [frame["id"][0], *table["id"].to_pylist()[1:]]
    write_table(shard, table.set_column(0, "id", [ids]))


def with_a_lost_shard(project):
    (project.layout.prepared / "pool" / "00001.parquet").unlink()


def with_a_broken_ledger(project):
    (project.layout.round(0) / "labels.parquet").write_bytes(b"PAR1 no more")


def with_a_strange_example(project):
    path = project.layout.round(0) / "labels.parquet"
    ledger = read_ledger(path)
    ledger.loc[0, "id"] = "digits-0001"
    write_ledger(path, ledger)


def with_broken_mlflow(project):
    project.set_all({"tracking.enabled": True})
    (project.folder / "mlflow.db").write_text("not a database")


def with_an_unchained_loop(project):
    (project.folder / "rounds.yaml").write_text("trainings: {'1': 0, '2': 0}\nqueries: {'1': 0}\n")


BREAKS = {
    "unknown key": (lambda p: p.set("modle", 1), "params.yaml", "modle: unknown key (did you mean 'model'?)"),
    "unknown model": (lambda p: p.set("model.name", "m3"), "params.yaml", "model.name: unknown name 'm3'"),
    "unknown option": (lambda p: p.set("model.sdgm.latnet", 1), "params.yaml", "model.sdgm.latnet: unknown option"),
    "unknown network": (lambda p: p.set("model.m2.bayesian", "encodr"), "params.yaml", "did you mean 'encoder'?"),
    "elbo, supervised": (
        lambda p: p.set_all({"model.name": "mlp", "acquisition.name": "elbo"}),
        "params.yaml",
        "needs a bound",
    ),
    "no params.yaml": (lambda p: (p.folder / "params.yaml").unlink(), "params.yaml", "file not found"),
    "not a chain": (with_an_unchained_loop, "rounds.yaml", "write it with `al-dgm rounds N`"),
    "no dataset.json": (without_data, "data", "no prepared data here"),
    "id twice": (with_one_id_twice, "data", "occurs 2 times"),
    "lost shard": (with_a_lost_shard, "data", "expected 60 and 20 examples in pool and holdout, got 50 and 20"),
    "broken ledger": (with_a_broken_ledger, "labels", "expected a Parquet file"),
    "strange example": (with_a_strange_example, "labels", "1 examples are not in the pool, such as 'digits-0001'"),
    "mlflow.db": (with_broken_mlflow, "mlflow", "expected an SQLite database"),
    "GPU": (lambda p: p.set_all({"compute.gpu": True}), "torch", "compute.gpu: true"),
    "no dvc.yaml": (lambda p: (p.folder / "dvc.yaml").unlink(), "dvc", "no dvc.yaml here"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_doctor_names_what_is_broken(name, project, monkeypatch):
    """Each broken thing fails under its own subject, and the other checks are made all the same."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    breaks, subject, fragment = BREAKS[name]
    breaks(project)
    found = list(examine(project.layout))
    assert any(
        fragment in finding.line() for finding in found if (finding.level, finding.subject) == (Level.FAIL, subject)
    )
    assert {finding.subject for finding in found} >= set(CHECKS)


def test_doctor_warns_of_a_precision_that_is_slow_here(project, monkeypatch):
    """Measured only where it is asked for and would be used: a GPU or workers elsewhere may be fast."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    measured = []

    def costs(cost):
        monkeypatch.setattr("al_dgm.learning.device.bfloat16_cost", lambda: measured.append(cost) or cost)
        return findings(project, Level.WARN).get("torch", "")

    assert not costs(60.0)
    project.set("training.precision", "bfloat16")
    assert "bfloat16, whose products take 60.0 times as long" in costs(60.0)
    assert not costs(0.5)
    assert measured == [60.0, 0.5]
    project.set("compute.workers", 2)
    assert not costs(60.0)
    assert measured == [60.0, 0.5]


def test_the_cost_of_bfloat16_is_a_ratio_of_times(monkeypatch):
    """A product that takes one second in float32 and three in bfloat16 costs 3; and products do take time."""
    from al_dgm.learning import device  # noqa: PLC0415

    seconds = {torch.float32: 1.0, torch.bfloat16: 3.0}
    monkeypatch.setattr(device, "_fastest_product", lambda _, precision: seconds[precision])
    assert device.bfloat16_cost() == 3.0
    monkeypatch.undo()
    assert 0 < device._fastest_product(8, torch.bfloat16) < 60


def test_doctor_sees_a_ledger_that_forgets(project):
    """A round's ledger begins with that of the round before."""
    from al_dgm.config import load_params  # noqa: PLC0415

    label_round(load_params(), project.layout, 1)
    assert "labels" in findings(project, Level.OK)
    path = project.layout.round(1) / "labels.parquet"
    write_ledger(path, read_ledger(path).iloc[1:].reset_index(drop=True))
    assert "does not begin with" in findings(project, Level.WARN)["labels"]


def test_doctor_leaves_a_longer_loops_ledgers_alone(project):
    """Rounds beyond rounds.yaml stay on disk; they need not go on from what the loop says now."""
    from al_dgm.config import load_params  # noqa: PLC0415

    label_round(load_params(), project.layout, 1)
    newer = project.layout.round(3) / "labels.parquet"
    newer.parent.mkdir()
    write_ledger(newer, read_ledger(project.layout.round(1) / "labels.parquet").iloc[1:].reset_index(drop=True))
    assert findings(project, Level.OK)["labels"].startswith("ok    labels: 2 ledgers")


def test_doctor_sees_uncommitted_parameters(project):
    """A repository is fine once what decides the result is committed."""
    for words in (["init", "-q"], ["add", "params.yaml", "rounds.yaml", "dvc.yaml"]):
        subprocess.run(["git", *words], check=True)
    commit = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "x"]
    subprocess.run(commit, check=True)
    assert "git" in findings(project, Level.OK)
    project.set("seed", 7)
    assert "params.yaml not committed" in findings(project, Level.WARN)["git"]


def test_doctor_sees_a_data_set_that_is_not_prepared_yet(project):
    """That is the ordinary state of a fresh clone: a warning, and the parameters are checked all the same."""
    for path in sorted(project.layout.prepared.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    project.layout.prepared.rmdir()
    assert "not prepared yet" in findings(project, Level.WARN)["data"]
    assert "params.yaml" in findings(project, Level.OK)


def test_doctor_connects_to_ray(project, monkeypatch):
    """An address with a listener is fine; without one it fails and names it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for form in (address, f"ray://{address}"):
            monkeypatch.setenv("RAY_ADDRESS", form)
            assert [finding.level for finding in ray(project.layout)] == [Level.OK]
    assert f"RAY_ADDRESS=ray://{address}: no Ray cluster answers (Connection" in findings(project, Level.FAIL)["ray"]
    for form in ("host:port", "ray://", "http://"):
        monkeypatch.setenv("RAY_ADDRESS", form)
        assert "ray" in findings(project, Level.FAIL)


def test_doctor_compares_installed_with_required_versions(project, monkeypatch):
    """A missing package and one that is too old are named, with how to install them."""
    required = ["torch>=99", "no-such-package>=1", "pytest>=8; extra == 'dev'", "numpy>=2"]
    monkeypatch.setattr("al_dgm.cli.machine.metadata.requires", lambda _: required)
    old, missing = packages(project.layout)
    assert old.message.startswith("expected torch>=99, got ")
    assert missing.message == "no-such-package is not installed; expected no-such-package>=1"
    assert {old.level, missing.level} == {Level.FAIL}


def test_doctor_counts_unfinished_fits(project):
    """And warns of them when nobody has gone on with any for a day."""
    assert [finding.message for finding in checkpoints(project.layout)] == ["no fit is unfinished"]
    for name in ("train-a", "alone-b/deeper"):
        folder = project.layout.checkpoints / name
        folder.mkdir(parents=True)
        (folder / "state.pt").write_bytes(bytes(2**20))
    (found,) = checkpoints(project.layout)
    assert (found.level, found.message) == (Level.OK, f"2 unfinished fits, 2 MiB in {project.layout.checkpoints}")
    for path in project.layout.checkpoints.rglob("state.pt"):
        os.utime(path, (0, 0))
    assert [finding.level for finding in checkpoints(project.layout)] == [Level.WARN]


def test_doctor_counts_while_fits_end(project, monkeypatch):
    """Files and folders that were listed and are gone when they are looked at count for nothing."""
    for name in ("train-a", "train-b"):
        (project.layout.checkpoints / name).mkdir(parents=True)
        (project.layout.checkpoints / name / "state.pt").touch()
    look = Path.stat

    def look_too_late(path, **options):
        if project.layout.checkpoints in path.parents:
            shutil.rmtree(project.layout.checkpoints, ignore_errors=True)
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", look_too_late)
    assert [finding.message for finding in checkpoints(project.layout)] == ["no fit is unfinished"]


def test_doctor_watches_disk_and_shared_memory(project, monkeypatch):
    """Plenty, little and next to nothing."""
    usage = pytest.importorskip("shutil")._ntuple_diskusage
    for free, level in ((10 * 2**30, Level.OK), (2**30, Level.WARN), (2**20, Level.FAIL)):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: usage(2**40, 0, free))
        assert {finding.level for finding in disk(project.layout)} == {level}
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2**26, 0, 2**26))
    assert [finding.level for finding in shared_memory(project.layout, project.folder)] == [Level.WARN]
    assert [finding.level for finding in shared_memory(project.layout, project.folder / "no")] == [Level.OK]
