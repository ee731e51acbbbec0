"""The mean over real processes that DistributedDataParallel's own averaging does not replace."""

import socket

import torch
from torch import distributed
from torch import multiprocessing as mp

from al_dgm.distributed.train import _MeanOverWorkers

WORKERS = 2


def work(rank, port, path):
    """L_r = (r + 1) M^2 with M the mean of m_r = r + 3: each worker's M and dL/dm_r."""
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORKERS)
    own = torch.tensor([rank + 3.0], requires_grad=True)
    mean = _MeanOverWorkers.apply(own)
    ((rank + 1) * mean.square().sum()).backward()
    torch.save((mean.detach(), own.grad), f"{path}/{rank}.pt")
    distributed.destroy_process_group()


def test_the_gradient_of_a_mean_over_workers(tmp_path):
    """M = 3.5; dL/dm_r = (1/2) (dL_0/dM + dL_1/dM) = (1/2) (1 + 2) 2 M, DDP left out."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.spawn(work, (port, str(tmp_path)), WORKERS)
    for rank in range(WORKERS):
        mean, gradient = torch.load(tmp_path / f"{rank}.pt")
        assert mean.item() == 3.5
        assert gradient.item() == 0.5 * 3 * 2 * 3.5
