"""Where torch computes: the section ``compute`` of params.yaml, for training and for scoring alike."""

from __future__ import annotations

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
    there = torch.cuda.is_available()
    if compute.gpu is True and not there and not compute.workers:
        raise ConfigError("compute.gpu: expected a GPU that torch can use, got none; set it to auto or false")
    return torch.device("cuda" if there and compute.gpu else "cpu")
