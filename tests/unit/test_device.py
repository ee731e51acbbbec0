"""How a process is set up to compute."""

import platform
import subprocess
import sys

import pytest

REUSED = """
import resource, torch
from al_dgm.learning.device import use_freed_memory_again

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    three = [torch.ones(2**21) for _ in range(3)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

use_freed_memory_again()
print(*(faults() for _ in range(50)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
def test_freed_memory_is_used_again():
    """In the end three tensors of 8 MiB ask the system for next to none of their 6144 pages."""
    done = subprocess.run([sys.executable, "-c", REUSED], capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split()[-10:])) < 200
