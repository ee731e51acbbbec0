"""What holds for every test."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _the_same_whatever_ran_before():
    """Weights that a test draws from torch's own generator do not depend on the tests before it in its process."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
