"""The mean over real processes that DistributedDataParallel's own averaging does not replace."""

import socket

import torch
from torch import distributed
from torch import multiprocessing as mp

from al_dgm.distributed.train import _MeanOverWorkers

WORKERS = 2


def work(rank, port, path):
    """L_r = (r + 1) M^2 with M the mean of m_r = r + 3: each worker's M and dL/dm_r; plain, and for two members."""
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=WORKERS)
    found = []
    for mean_of, members in ((_MeanOverWorkers.apply, [1.0]), (torch.vmap(_MeanOverWorkers.apply), [1.0, 2.0])):
        own = ((rank + 3.0) * torch.tensor(members)).requires_grad_()
        mean = mean_of(own)
        ((rank + 1) * mean.square().sum()).backward()
        found.append((mean.detach(), own.grad))

    def loss(own):
        return (rank + 1) * _MeanOverWorkers.apply(own).square()

    found.append(torch.vmap(torch.func.grad(loss))((rank + 3.0) * torch.tensor([1.0, 2.0])))
    torch.save(found, f"{path}/{rank}.pt")
    distributed.destroy_process_group()


def test_the_gradient_of_a_mean_over_workers(tmp_path):
    """M = 3.5; dL/dm_r = (1/2) (dL_0/dM + dL_1/dM) = (1/2) (1 + 2) 2 M, DDP left out."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mp.spawn(work, (port, str(tmp_path)), WORKERS)
    for rank in range(WORKERS):
        (mean, gradient), (means, gradients), inside = torch.load(tmp_path / f"{rank}.pt")
        assert mean.item() == 3.5
        assert gradient.item() == 0.5 * 3 * 2 * 3.5
        assert means.tolist() == [3.5, 7.0]  # the members of an ensemble, mapped: each has its own
        assert gradients.tolist() == [0.5 * 3 * 2 * 3.5, 0.5 * 3 * 2 * 7.0]
        assert inside.tolist() == gradients.tolist()  # a gradient that is part of what is mapped
