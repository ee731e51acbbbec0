"""Where files that users bring lie."""

from __future__ import annotations

import os
from pathlib import Path


def in_working_copy(path: str) -> Path:
    """``path`` with ``~`` resolved; a relative one lies in the user's working copy.

    Experiments run in temporary copies of the repository, without what git ignores; DVC names the user's own in
    DVC_ROOT.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()) / Path(path).expanduser()
