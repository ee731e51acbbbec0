"""Where torch computes: the section ``compute`` of params.yaml, for training and for scoring alike."""

from __future__ import annotations

import time

import torch

from al_dgm.config import ComputeParams
from al_dgm.errors import ConfigError


def set_up_torch(compute: ComputeParams) -> torch.device:
    """Limit torch to ``compute.threads``; this process's device, as ``compute.gpu`` says.

    Raises:
        ConfigError: a GPU is asked for where torch finds none, and no workers elsewhere could have it.
    """
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    use_freed_memory_again()
    there = torch.cuda.is_available()
    if compute.gpu is True and not there and not compute.workers:
        raise ConfigError("compute.gpu: expected a GPU that torch can use, got none; set it to auto or false")
    return torch.device("cuda" if there and compute.gpu else "cpu")


def use_freed_memory_again() -> None:
    """Have glibc's malloc keep freed tensors of up to 32 MiB for those to come, instead of giving them back.

    It does so up to the size of the largest that was ever freed (mallopt(3), M_MMAP_THRESHOLD), so one is freed here.
    Otherwise the system clears each tensor's pages anew, which took half of the time of scoring on a virtual machine.
    """
    torch.empty(2**25 - 2**14, dtype=torch.uint8)


def bfloat16_cost(size: int = 256) -> float:
    """How many times as long as a float32's a bfloat16 matrix product takes on the CPU: the best of five of each.

    Below 1 where the processor has such products; where it lacks them (AVX2 alone, say) some ten or hundred.
    """
    return _fastest_product(size, torch.bfloat16) / _fastest_product(size, torch.float32)


def _fastest_product(size: int, precision: torch.dtype) -> float:
    """In seconds."""
    factor = torch.ones(size, size, dtype=precision)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        factor @ factor
        taken.append(time.perf_counter() - began)
    return min(taken)
