"""The stages of dvc.yaml, one file each: read params, call one function of al_dgm, write outs."""

from __future__ import annotations

import argparse
import atexit
import gc

from al_dgm.config import load_rounds
from al_dgm.errors import ConfigError

# torch, Ray and MLflow make a million objects that live as long as the stage. To search them for garbage again and
# again while they load, and once more at the end, takes up to a third of the time that such a process needs to start.
gc.set_threshold(100_000)
atexit.register(gc.freeze)


def parse_round(description: str | None) -> int:
    """The round that the command line of a stage names.

    Raises:
        ConfigError: rounds.yaml is not a chain of rounds, or has no such round.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--round", type=int, required=True)
    k: int = parser.parse_args().round
    last = len(load_rounds().trainings)
    if not 1 <= k <= last:
        raise ConfigError(f"--round: expected 1 to {last}, the rounds of rounds.yaml, got {k}")
    return k
