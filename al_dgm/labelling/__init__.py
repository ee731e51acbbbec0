"""Labels: what is asked (`query`), who answers (`source` and its implementations), what is kept (`ledger`).

Nothing here loads torch, so that a labelling stage starts in a second.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from al_dgm.config import Choice
from al_dgm.labelling.csv_folder import CsvFolder
from al_dgm.labelling.oracle import SimulatedOracle
from al_dgm.labelling.source import LabelSource
from al_dgm.registry import build, lookup

LABEL_SOURCES: dict[str, type[LabelSource]] = {"oracle": SimulatedOracle, "csv": CsvFolder}


def build_source(
    choice: Choice, *, truth: Callable[[], Mapping[str, str]], classes: Sequence[str], seed: int, root: Path
) -> LabelSource:
    """The label source that params.yaml names, given those of the keyword arguments that its constructor takes.

    Args:
        choice: the section ``labels`` of params.yaml.
        truth: reads the hidden truth, example id -> class name; only a source that takes it can ever call it.
        classes: the data set's class names.
        seed: the run's seed.
        root: folder that relative paths are resolved against; the same for every experiment of a project.

    Raises:
        ConfigError: the source is unknown, or one of its options is unknown or of the wrong type.
    """
    offered = {"truth": truth, "classes": classes, "seed": seed, "root": root}
    taken = inspect.signature(lookup(LABEL_SOURCES, choice.name, "labels.name")).parameters
    given = {name: value for name, value in offered.items() if name in taken}
    return build(LABEL_SOURCES, choice.name, choice.options, f"labels.{choice.name}", **given)
