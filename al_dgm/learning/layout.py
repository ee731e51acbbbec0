"""Where the loop's files lie, relative to the folder that holds dvc.yaml."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    """The folders of one working copy.

    Attributes:
        work: the folder with dvc.yaml; an experiment's temporary copy has its own.
        home: the user's working copy, the same for every experiment: people's labels, MLflow's database and
            checkpoints live here, since DVC removes a temporary copy when its experiment ends.
    """

    work: Path
    home: Path

    @classmethod
    def here(cls) -> Layout:
        """The layout of the current folder; DVC names the user's working copy in DVC_ROOT."""
        work = Path.cwd()
        return cls(work=work, home=Path(os.environ.get("DVC_ROOT", work)))

    @property
    def prepared(self) -> Path:
        """The prepared data."""
        return self.work / "data" / "prepared"

    @property
    def rounds(self) -> Path:
        """All rounds."""
        return self.work / "rounds"

    def round(self, k: int) -> Path:
        """Round ``k``; 0 is the seed set."""
        return self.rounds / str(k)

    @property
    def report(self) -> Path:
        """Tables and figures."""
        return self.work / "report"

    @property
    def checkpoints(self) -> Path:
        """States of fits in progress; not DVC's, which would remove them before a stage runs again."""
        return self.home / "checkpoints"
