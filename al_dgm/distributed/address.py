"""Where the Ray cluster is, and whether anything listens there. Knows no Ray, so it answers at once."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from al_dgm.errors import TrainingError

_HERE = {"local", "auto"}  # start a cluster in this process; join the one of this machine
_PORTS = {"ray": 10001}  # Ray Client's; otherwise the head's own
_HEAD_PORT = 6379
_CONNECT_SECONDS = 3.0


def cluster_address() -> str:
    """``RAY_ADDRESS``; where it is not set, ``local``: Ray itself would join any cluster it finds on this machine."""
    return os.environ.get("RAY_ADDRESS") or "local"


def check_cluster() -> None:
    """Find out in seconds what Ray would try for minutes.

    Raises:
        TrainingError: ``RAY_ADDRESS`` is no address, or nothing listens there.
    """
    address = cluster_address()
    if address in _HERE:
        return
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        port = parts.port or _PORTS.get(parts.scheme, _HEAD_PORT)
        if not parts.hostname:
            raise TrainingError(f"RAY_ADDRESS={address}: expected host:port, ray://host:port, local or auto")
        socket.create_connection((parts.hostname, port), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainingError(
            f"RAY_ADDRESS={address}: no Ray cluster answers ({reason}); start it, or unset the variable for a local one"
        ) from None
