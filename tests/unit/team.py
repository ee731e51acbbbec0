"""Workers that share a fit as threads of this process, for the tests of training."""

import threading

import torch
from small_fit import SPEC

from al_dgm.learning.fit import Workers, fit


class Exchange(torch.autograd.Function):
    """Mean over the workers; its gradient is the mean over the workers' gradients."""

    @staticmethod
    def forward(values, team, rank):
        """Mean of every worker's values."""
        return team.mean(values, rank)

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Whom to exchange gradients with."""
        _, ctx.team, ctx.rank = inputs

    @staticmethod
    def vmap(info, in_dims, values, team, rank):
        """The members of an ensemble all at once."""
        return Exchange.apply(values, team, rank), in_dims[0]

    @staticmethod
    def backward(ctx, gradient):
        """Mean of every worker's gradients."""
        return ctx.team.mean(gradient, ctx.rank), None, None


class Team:
    """Workers as threads that meet at a barrier: what DistributedDataParallel does, without processes."""

    def __init__(self, size):
        self.size, self.slots, self.barrier = size, [None] * size, threading.Barrier(size, timeout=30)

    def mean(self, values, rank):
        """The mean of what all workers bring."""
        self.slots[rank] = values.detach().clone()
        self.barrier.wait()
        mean = torch.stack(self.slots).mean(0)
        self.barrier.wait()
        return mean

    def worker(self, rank):
        """The `Workers` of one thread: gradients are averaged as each parameter's is ready."""

        def average(parameter):
            parameter.grad.copy_(self.mean(parameter.grad, rank))

        def wrap(objective):
            for parameter in objective.parameters():
                parameter.register_post_accumulate_grad_hook(average)
            return objective

        return Workers(
            rank, self.size, wrap, lambda v: self.mean(v, rank), lambda v: Exchange.apply(v, self, rank)
        )  # fmt: skip

    def fit(self, data, settings, spec=SPEC):
        """Every worker's model and history."""
        models = [spec.build(0) for _ in range(self.size)]  # here, since torch's global seed is the process's
        curves = [None] * self.size

        def work(rank):
            curves[rank] = fit(models[rank], data, settings, 1, workers=self.worker(rank))

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return list(zip(models, curves, strict=True))
