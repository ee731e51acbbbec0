"""Where files that users bring lie."""

from __future__ import annotations

import os
from pathlib import Path


def in_working_copy(path: str) -> Path:
    """``path`` with ``~`` resolved; a relative one lies in the working folder, or else in the user's working copy.

    Experiments run in temporary copies of the repository. What is under `dvc add` is there too, as it was when the
    experiment was queued; what git ignores is not, and is found in the user's own, which DVC names in DVC_ROOT.
    """
    relative = Path(path).expanduser()
    own = Path.cwd() / relative
    return own if own.exists() else Path(os.environ.get("DVC_ROOT") or Path.cwd()) / relative
