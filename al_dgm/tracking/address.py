"""Where the tracking store is, and whether anything answers there. Knows no MLflow, so it answers at once."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path
from urllib.parse import urlsplit

from al_dgm.errors import TrackingError

_SQLITE = "sqlite:///"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_CONNECT_SECONDS = 3.0


def default_uri(root: Path) -> str:
    """``MLFLOW_TRACKING_URI``, or the SQLite file ``mlflow.db`` in ``root``; an SQLite path is made absolute.

    ``root`` is the user's working copy (`Layout.home`), also for an experiment that DVC runs in a temporary copy.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}mlflow.db"
    path = sqlite_path(uri)
    return uri if path is None else f"{_SQLITE}{(root.resolve() / path).as_posix()}"


def default_artifact_location(uri: str, root: Path) -> str | None:
    """``<root>/mlartifacts`` where the client writes artifacts itself; None where a server has its own place."""
    served = urlsplit(uri).scheme in {"http", "https", "databricks"}
    return None if served else (root.resolve() / "mlartifacts").as_uri()


def sqlite_path(uri: str) -> Path | None:
    """The file behind a ``sqlite:///`` address, else None."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def shown(uri: str) -> str:
    """The address without its password."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri


def ui_command(uri: str) -> str:
    """The line to type to look at what is tracked at ``uri``."""
    if urlsplit(uri).scheme in {"http", "https"}:
        return f"python -m webbrowser {shlex.quote(uri)}"
    # Without the job runner the server is 2 processes instead of 10; nothing here uses jobs.
    prefix = "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1"
    return f"{prefix} --backend-store-uri {shlex.quote(shown(uri))}"


def check_reachable(uri: str) -> None:
    """Find out in seconds what MLflow would retry for minutes.

    Raises:
        TrackingError: no server listens there, or the SQLite file is none or cannot be written.
    """
    path = sqlite_path(uri)
    if path is not None:
        _check_sqlite(uri, path)
        return
    address = urlsplit(uri)
    if address.hostname is None:
        return
    try:
        port = address.port or _PORTS.get(address.scheme.split("+")[0])
    except ValueError as error:
        raise TrackingError(f"MLFLOW_TRACKING_URI={shown(uri)}: {error}") from None
    if port is not None:
        _check_server(uri, address.hostname, port)


def _check_server(uri: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise TrackingError(
            f"MLFLOW_TRACKING_URI={shown(uri)}: no server answers at {host}:{port} ({reason}); "
            "start it, or unset the variable to track in a local file"
        ) from None


def _check_sqlite(uri: str, path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb") as file:
        header = file.read(16)
    if header and header != b"SQLite format 3\0":
        raise TrackingError(f"{shown(uri)}: expected an SQLite database, got a file that starts with {header[:8]!r}")
    if not os.access(path, os.W_OK):
        raise TrackingError(f"{shown(uri)}: expected a writable file, got a read-only one")
