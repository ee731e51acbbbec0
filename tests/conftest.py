"""What holds for every test."""

import os
import sys

import pytest

# Before torch is imported: the tests' tensors are small, and those of several processes would fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _the_same_whatever_ran_before():
    """Weights that a test draws from torch's own generator do not depend on the tests before it in its process."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
