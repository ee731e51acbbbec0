"""What a user may get wrong, met as the user meets it: the real stage, its exit code, and one line that says why.

Nothing that was there before may be touched, above all no ledger.
"""

import ctypes
import math
import os
import re
import resource
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass

import pytest
from small_project import add_model, make_project

ROUND_1 = ("--round", "1")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The project that every test breaks a copy of."""
    made = make_project(tmp_path_factory.mktemp("template") / "project")
    add_model(made)
    return made


@pytest.fixture
def project(template, tmp_path):
    """A copy to break."""
    return template.copy(tmp_path / "project")


@dataclass(frozen=True)
class Case:
    """How something is broken, what is run then, and the line that it ends with; ``…`` stands for anything."""

    name: str
    breaks: object
    command: tuple[str, ...]
    line: str
    code: int = 1


def sets(**values):
    """A change of params.yaml; ``__`` stands for the dot."""
    return lambda project: project.set_all({path.replace("__", "."): value for path, value in values.items()})


def writes(path, content):
    """A file with other content."""

    def change(project):
        file = project.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    return change


def removes(path):
    """A file or folder less."""

    def change(project):
        file = project.folder / path
        shutil.rmtree(file) if file.is_dir() else file.unlink()

    return change


def all_of(*changes):
    """Several changes."""

    def change(project):
        for one in changes:
            one(project)

    return change


def appends(path, line):
    """A text file with a line more."""

    def change(project):
        with (project.folder / path).open("a") as file:
            file.write(line)

    return change


def asks_people(project):
    """A query that people are to answer, asked and not answered."""
    project.set_all({"labels.name": "csv", "seed_set.strategy": "random"})
    assert project.run("pipelines.label", *ROUND_1).returncode == 75


def answers(label):
    """The query asked, and its first example answered so."""

    def change(project):
        asks_people(project)
        (file,) = (project.folder / "labels").iterdir()
        file.write_text(file.read_text().replace("1,\n", f"1,{label}\n", 1))

    return change


def damages_weights(project):
    """Round 1's weights are all NaN."""
    import torch  # noqa: PLC0415

    from al_dgm.learning.model_files import load_model, save_model  # noqa: PLC0415

    folder = project.layout.round(1) / "model"
    model, spec, _ = load_model(folder)
    model.load_state_dict({name: torch.full_like(value, torch.nan) for name, value in model.state_dict().items()})
    save_model(folder, spec, model)


OWN_DATA = sets(data__name="table", data__table__path="mine.csv", data__table__holdout=0.5)
TABLE = "id,length,label\na,1.0,big\nb,2.0,small\nc,3.0,big\nd,4.0,small\n"


def prepares(table):
    """The user's own data, prepared."""

    def change(project):
        all_of(OWN_DATA, writes("mine.csv", table))(project)
        assert project.run("pipelines.prepare").returncode == 0

    return change


ALONE = ("al_dgm", "train", "--out", "alone", "--labels", "6")
PREPARE, SEED_SET = ("pipelines.prepare",), ("pipelines.seed_set",)
TRAIN, ACQUIRE, LABEL = (("pipelines.train", *ROUND_1), ("pipelines.acquire", *ROUND_1), ("pipelines.label", *ROUND_1))

CASES = [
    # params.yaml
    Case(
        "unknown key",
        sets(trainning={}),
        PREPARE,
        "params.yaml: trainning: unknown key (did you mean 'training'?); expected one of: seed, data, …",
    ),
    Case(
        "unknown key below",
        sets(training__step=7),
        SEED_SET,
        "params.yaml: training.step: unknown key (did you mean 'steps'?); expected one of: steps, …",
    ),
    Case(
        "wrong type",
        sets(training__steps="many"),
        PREPARE,
        "params.yaml: training.steps: input should be a valid integer, …, got 'many'",
    ),
    Case(
        "out of range",
        sets(training__weight_average=1.5),
        LABEL,
        "params.yaml: training.weight_average: input should be less than 1, got 1.5",
    ),
    Case("missing key", writes("params.yaml", "seed: 0\n"), PREPARE, "params.yaml: data: field required (and 8 more)"),
    Case(
        "not a mapping",
        writes("params.yaml", "- 1\n"),
        PREPARE,
        "params.yaml: expected sections (key: value), got list",
    ),
    Case("broken YAML", appends("params.yaml", "x: [1\n"), TRAIN, "params.yaml: line … not valid YAML: expected …"),
    Case("no params.yaml", removes("params.yaml"), PREPARE, "params.yaml: file not found; expected it in …/project"),
    Case(
        "contradiction",
        sets(labels__name="csv"),
        SEED_SET,
        "params.yaml: seed_set.strategy 'balanced' reads the true labels, so it needs labels.name 'oracle', got 'csv'…",
    ),
    # rounds.yaml
    Case(
        "not a chain",
        writes("rounds.yaml", "trainings: {'1': 0, '2': 0}\nqueries: {'1': 0}\n"),
        LABEL,
        "rounds.yaml: the rounds are not a chain 1, 2, 3, …; write the file with `al-dgm rounds N`",
    ),
    Case(
        "no such round",
        sets(),
        ("pipelines.train", "--round", "9"),
        "--round: expected 1 to 3, the rounds of rounds.yaml, got 9",
    ),
    # components
    Case(
        "unknown data set",
        sets(data__name="half_moon"),
        PREPARE,
        "data.name: unknown name 'half_moon' (did you mean 'half_moons'?); expected one of: digits, …",
    ),
    Case(
        "unknown option",
        sets(data__half_moons__exampels=7),
        PREPARE,
        "data.half_moons.exampels: unknown option (did you mean 'examples'?); expected one of: examples, …",
    ),
    Case(
        "option out of range",
        sets(data__half_moons__noise=-1),
        PREPARE,
        "data.half_moons.noise: input should be greater than or equal to 0, got -1",
    ),
    Case(
        "unknown model",
        sets(model__name="m3"),
        TRAIN,
        "model.name: unknown name 'm3' (did you mean 'm2'?); expected one of: …",
    ),
    Case(
        "unknown option of a model",
        sets(model__m2__latents=3),
        TRAIN,
        "model.m2.latents: unknown option (did you mean 'latent'?); expected one of: hidden, latent, …",
    ),
    Case(
        "unknown network",
        sets(model__m2__bayesian=["encoder", "decodr"]),
        TRAIN,
        "model.m2.bayesian: unknown network 'decodr' (did you mean 'decoder'?); expected none, all, or among: …",
    ),
    Case(
        "noise of one standard deviation",
        sets(model__m2__corruption=[0.3]),
        TRAIN,
        "model.m2.corruption: expected [input, units], as [1.0, 0.3], or [], got [0.3]",
    ),
    Case(
        "consistency under no noise",
        sets(training__consistency_weight=1.0),
        TRAIN,
        "training.consistency_weight: expected 0, got 1.0: the classifier of model 'm2' has no corruption to be …",
    ),
    Case(
        "consistency of no example",
        sets(training__consistency_weight=1.0, training__unlabelled_batch=0),
        TRAIN,
        "training.consistency_weight: expected 0, got 1.0: it is taken over unlabelled examples, and …",
    ),
    Case(
        "labels to spread where nothing spreads them",
        sets(training__label_neighbours=5, training__responsibility_start=0.0, training__responsibility_end=0.0),
        TRAIN,
        "training.label_neighbours: expected 0, got 5: training.responsibility_end, until which labels are spread, …",
    ),
    Case(
        "unknown acquisition function, before training",
        sets(acquisition__name="blad"),
        TRAIN,
        "acquisition.name: unknown name 'blad' (did you mean 'bald'?); expected one of: …",
    ),
    Case(
        "elbo of a supervised model, before training",
        sets(model__name="mlp", acquisition__name="elbo"),
        TRAIN,
        "acquisition.name 'elbo' needs a bound on log p(x), which model 'mlp' does not have; expected a generative …",
    ),
    Case(
        "bald where other networks than the Bayesian ones predict, before training",
        sets(acquisition__name="bald", model__m2__prediction="bayes"),
        TRAIN,
        "acquisition.name 'bald' needs weight samples that predict differently, and those of model 'm2' do not; …",
    ),
    Case(
        "bald of a single weight sample, of a model that is there already",
        sets(acquisition__name="bald", prediction__weight_samples=1),
        ACQUIRE,
        "acquisition.name 'bald' needs weight samples that predict differently, and those of model 'm2' do not; …",
    ),
    Case(
        "infinite beta",
        sets(acquisition__selector__power__beta=math.inf),
        TRAIN,
        "acquisition.selector.power.beta: input should be a finite number, got inf",
    ),
    Case(
        "power of negative scores, before training",
        sets(acquisition__name="margin", acquisition__selector__name="power"),
        TRAIN,
        "acquisition.selector.name 'power' needs scores >= 0, which 'margin' does not give; softmax and softrank …",
    ),
    Case(
        "query larger than the pool, before training",
        sets(acquisition__query_size=1000),
        TRAIN,
        "acquisition.query_size: expected at most the pool's 60 examples, got 1000",
    ),
    Case(
        "query larger than what is left of the pool",
        sets(acquisition__query_size=55),
        ACQUIRE,
        "pool exhausted: requested 55 examples, available 54",
    ),
    Case(
        "fewer candidates than a query",
        sets(acquisition__max_candidates=3),
        TRAIN,
        "params.yaml: acquisition: max_candidates: expected at least query_size, 4, got 3",
    ),
    Case(
        "a warm-up that ends before it begins",
        sets(training__responsibility_start=0.6),
        TRAIN,
        "params.yaml: training: responsibility_start: expected at most responsibility_end, 0.5, got 0.6",
    ),
    Case(
        "people to be asked about row numbers, before training",
        all_of(
            prepares("length,label\n1.0,big\n2.0,small\n3.0,big\n4.0,small\n"),
            sets(labels__name="csv", seed_set__strategy="given", acquisition__query_size=1),
        ),
        TRAIN,
        "labels.name 'csv': expected examples with permanent ids, got numbers of rows, …",
    ),
    # data
    Case("not prepared", removes("data"), SEED_SET, "…/data/prepared: no prepared data here; `dvc repro prepare` …"),
    Case("not prepared, at training", removes("data"), TRAIN, "…/data/prepared: no prepared data here; `dvc repro …"),
    Case("no file of the user's", OWN_DATA, PREPARE, "…/mine.csv: file not found; data.table in params.yaml names it"),
    Case(
        "id twice in the user's file",
        all_of(OWN_DATA, writes("mine.csv", TABLE + "a,5.0,big\n")),
        PREPARE,
        "mine: expected unique ids, got 'a' twice …",
    ),
    Case(
        "NaN in the user's file",
        all_of(OWN_DATA, writes("mine.csv", TABLE + "e,nan,big\n")),
        PREPARE,
        "mine: example 'e': 'length': expected a finite number, got nan",
    ),
    Case(
        "text in the user's file",
        all_of(OWN_DATA, writes("mine.csv", TABLE + "e,long,big\n")),
        PREPARE,
        "…/mine.csv: column 'length': expected numbers, got 'long' in row 5 …",
    ),
    # models
    Case(
        "no model",
        removes("rounds/1/model"),
        ACQUIRE,
        "…: no model here; `dvc repro` or `al-dgm train` makes one",
    ),
    Case(
        "damaged model",
        writes("rounds/1/model/model.safetensors", "not safetensors"),
        ACQUIRE,
        "…/rounds/1/model: not a model of al-dgm: …",
    ),
    Case(
        "a description of no model",
        writes("rounds/1/model/model.json", '{"version": "1", "ensemble": 0}'),
        ACQUIRE,
        "…/rounds/1/model: not a model of al-dgm: model.json: …",
    ),
    Case(
        "people asked about row numbers",
        all_of(
            prepares("length,label\n1.0,big\n2.0,small\n3.0,big\n4.0,small\n"),
            sets(labels__name="csv", seed_set__strategy="random", seed_set__size=1),
        ),
        SEED_SET,
        "labels.name 'csv': expected examples with permanent ids, got numbers of rows, …",
    ),
    Case(
        "an oracle that does not know",
        all_of(prepares(TABLE + "e,5.0,\n"), sets(seed_set__strategy="random", seed_set__size=1)),
        SEED_SET,
        "labels.name 'oracle': expected data whose labels are all known, …, got 2 labels of 3 examples; …",
    ),
    Case("NaN scores", damages_weights, ACQUIRE, "54 of 54 scores are not finite: moons-… (nan), …"),
    # labels
    Case(
        "people have not answered",
        asks_people,
        LABEL,
        "round 1: 0 of 4 answers have come; label in column 'label' of …/r001-….csv, as upper, lower or skip; then …",
        code=75,
    ),
    Case(
        "no such class",
        answers("uper"),
        LABEL,
        "…/labels/r001-….csv:2: expected a class or 'skip', got 'uper' (did you mean 'upper'?)",
    ),
    Case(
        "no ledger",
        removes("rounds/0/labels.parquet"),
        LABEL,
        "…/rounds/0/labels.parquet: file not found; expected a label ledger",
    ),
    Case(
        "corrupt ledger",
        writes("rounds/0/labels.parquet", "PAR1"),
        LABEL,
        "…/rounds/0/labels.parquet: expected a Parquet file, got: …",
    ),
    Case(
        "corrupt ledger, at training",
        writes("rounds/0/labels.parquet", "PAR1"),
        TRAIN,
        "…/rounds/0/labels.parquet: expected a Parquet file, got: …",
    ),
    Case(
        "no query",
        removes("rounds/1/query.parquet"),
        LABEL,
        "…/rounds/1/query.parquet: file not found",
    ),
    # a model alone
    Case(
        "a change of what a model alone does not read",
        sets(),
        (*ALONE, "--set", "data.name=digits"),
        "--set: expected one of the sections seed, model, training, prediction, compute, got 'data.name=digits'",
    ),
    Case(
        "a change of a model that is not trained",
        sets(),
        (*ALONE, "--set", "model.vae.latents=[3]"),
        "--set: expected options of the model that is trained, m2, got 'model.vae.latents=[3]'",
    ),
    Case(
        "a change of where rounds start",
        sets(),
        (*ALONE, "--set", "training.start=warm"),
        "--set: expected --from DIR for weights to start from, got 'training.start=warm'",
    ),
    Case(
        "a change of an unknown option",
        sets(),
        (*ALONE, "--set", "model.m2.latents=7"),
        "model.m2.latents: unknown option (did you mean 'latent'?); expected one of: hidden, latent, …",
    ),
    Case(
        "labels that are none",
        sets(),
        ("al_dgm", "train", "--out", "alone", "--labels", "some"),
        "--labels: expected a number, all, none, or the file of a ledger, got 'some'",
    ),
    Case(
        "no label for a supervised model",
        sets(model__name="mlp"),
        ("al_dgm", "train", "--out", "alone", "--labels", "none"),
        "--labels: expected at least one, since model 'mlp' is supervised, got none",
    ),
    Case(
        "a model in the way",
        sets(),
        ("al_dgm", "train", "--out", "rounds/1/model", "--labels", "6"),
        "--out rounds/1/model: a model is there already; name another folder, or remove it",
    ),
    Case(
        "starting from another size",
        sets(),
        (*ALONE, "--from", "rounds/1/model", "--set", "model.m2.latent=3"),
        "--from rounds/1/model: expected a model with the sizes of model.m2: latent 3, got …",
    ),
    Case(
        "a picture that there is none of",
        sets(),
        ("al_dgm", "draw", "rounds/1/model", "--only", "analogies"),
        "figures/rounds/1/model/analogies.png is not drawn: examples of shape [2] are no images",
    ),
    Case(
        "a model of other data",
        prepares(TABLE),
        ("al_dgm", "evaluate", "rounds/1/model"),
        "rounds/1/model: expected a model with features 1, got 2",
    ),
    # the command line
    Case("no rounds", sets(), ("al_dgm", "rounds", "0"), "rounds: expected at least 1, got 0"),
    Case("status of nothing", removes("params.yaml"), ("al_dgm", "status"), "…/params.yaml: file not found; …"),
    Case(
        "corrupt ledger, at status",
        writes("rounds/0/labels.parquet", "PAR1"),
        ("al_dgm", "status"),
        "…/rounds/0/labels.parquet: expected a Parquet file, got: …",
    ),
]


def check(project, case, before, done):
    """Exit code, one line and no more, and everything as it was."""
    assert done.returncode == case.code, done.stderr
    assert "Traceback" not in done.stderr
    word = "waiting" if case.code == 75 else "error"
    expected = ".*".join(map(re.escape, f"al-dgm: {word}: {case.line}".split("…")))
    *others, last = done.stderr.splitlines()
    assert re.fullmatch(expected, last), f"{last!r} is not {case.line!r}"
    assert others == []
    after = project.digests()
    assert {path: after.get(path) for path in before} == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_one_line_and_costs_nothing(case, project):
    """Exit code, the last line, no traceback, and all files as they were."""
    case.breaks(project)
    before = project.digests()
    check(project, case, before, project.run(*case.command))


def closed_port():
    """A port of this machine at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_dead_mlflow_server_is_noticed_before_training(project):
    """Within seconds, and before anything is written."""
    project.set_all({"tracking.enabled": True})
    uri = f"http://127.0.0.1:{closed_port()}"
    line = (
        f"MLFLOW_TRACKING_URI={uri}: no server answers at …; start it, or unset the variable to track in a local file"
    )
    before, began = project.digests(), time.monotonic()
    done = project.run(*TRAIN, MLFLOW_TRACKING_URI=uri)
    assert time.monotonic() - began < 10
    check(project, Case("dead MLflow", None, TRAIN, line), before, done)


def test_a_dead_ray_cluster_is_noticed_before_training(project):
    """Within seconds; Ray itself would look for it for minutes."""
    project.set("compute.workers", 1)
    address = f"127.0.0.1:{closed_port()}"
    line = f"RAY_ADDRESS={address}: no Ray cluster answers (Connection refused); start it, or unset the variable …"
    before, began = project.digests(), time.monotonic()
    done = project.run(*TRAIN, RAY_ADDRESS=address)
    assert time.monotonic() - began < 10
    check(project, Case("dead Ray", None, TRAIN, line), before, done)


@pytest.mark.parametrize("words", [LABEL, ACQUIRE, PREPARE], ids=lambda words: words[0])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(words, project):
    """A limit on the size of files stands for the full disk; what is derived may be gone, what people did may not."""
    before = {path: digest for path, digest in project.digests().items() if path.startswith("rounds/")}
    done = project.run(*words, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
    line = "….parquet: cannot be written: …File too large"
    check(project, Case("full disk", None, words, line), before, done)
    assert {path for path in project.digests() if path.startswith("rounds/")} == set(before)


def without_root_rights():
    """In the child before its command starts: root may no longer write what permissions forbid (Linux)."""
    drop_from_bounding_set, dac_override = 24, 1
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0) != 0:
        raise OSError("the capability cannot be dropped")


def test_a_folder_that_cannot_be_written_is_one_line(project):
    """As a user without the right to write the folder of the round."""
    folder = project.layout.round(1)
    folder.chmod(0o555)
    before = project.digests()
    try:
        done = project.run(*LABEL, before=without_root_rights)
    except subprocess.SubprocessError:
        pytest.skip("root cannot give up its rights here")
    finally:
        folder.chmod(0o755)
    check(project, Case("read only", None, LABEL, "…/rounds/1/labels.parquet: cannot be written: …"), before, done)


def test_a_file_where_a_folder_should_be_is_one_line(project):
    """Even for root, who may write everything."""
    shutil.rmtree(project.layout.round(1) / "model")
    for path in project.layout.round(1).iterdir():
        path.unlink()
    project.layout.round(1).rmdir()
    project.layout.round(1).write_text("not a folder")
    before = project.digests()
    case = Case("a file", None, LABEL, "…/rounds/1/query.parquet: file not found")
    check(project, case, before, project.run(*LABEL))


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "unknown key"], ids=lambda case: case.name)
def test_the_check_notices_a_lost_file(case, project):
    """The test of the tests: a file that is changed or gone meanwhile is found out."""
    case.breaks(project)
    before = project.digests()
    done = project.run(*case.command)
    (project.layout.round(0) / "labels.parquet").unlink()
    with pytest.raises(AssertionError):
        check(project, case, before, done)
