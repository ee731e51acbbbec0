"""The one progress bar."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(total: int, label: str, *, initial: int = 0, shown: bool = True, delay: float = 0.0) -> tqdm:
    """A bar that redraws on a terminal, and adds a line every ten seconds to a log file. TQDM_DISABLE=1 hides it.

    Args:
        total: where it ends.
        label: what is in progress.
        initial: where it begins.
        shown: False hides it.
        delay: seconds before it appears, for work that is mostly short.
    """
    interval = 0.2 if sys.stderr.isatty() else 10.0
    options = {"initial": initial, "desc": label, "mininterval": interval, "miniters": 1, "delay": delay}
    hidden = {} if shown else {"disable": True}  # False would overrule TQDM_DISABLE
    return tqdm(total=total, leave=not delay, **options, **hidden)
