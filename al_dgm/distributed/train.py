"""Ray Train around one fit: how it is spread, kept and resumed. What is trained is `al_dgm.learning.fit`.

``compute.workers: 0`` is Ray Train's local mode: the same TorchTrainer in this process, no cluster to start.
With 1 or more, workers start on the cluster that RAY_ADDRESS names, or on a local one; they exchange gradients by
DistributedDataParallel (gloo on CPUs, NCCL on GPUs), a worker that dies is started again from the last checkpoint,
and a driver that dies finds that checkpoint too, because the run's name says what is trained.
"""

from __future__ import annotations

import io
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_weights
from safetensors.torch import save as save_weights
from torch import Tensor, distributed, nn

from al_dgm.config import ComputeParams
from al_dgm.distributed.address import check_cluster, cluster_address
from al_dgm.errors import ConfigError, TrainingError
from al_dgm.files import write_atomically
from al_dgm.learning.device import set_up_torch
from al_dgm.learning.fit import Checkpoints, State, Workers
from al_dgm.learning.job import TrainingJob
from al_dgm.models import Model

STATE = "state.pt"
Trained = tuple[bytes, list[dict[str, float]]]  # safetensors and the training curve

# Set before Ray is imported: no usage statistics; and workers' reports are read every 0.2 s instead of every 2 s.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")


def train(job: TrainingJob, compute: ComputeParams, key: str, storage: Path) -> tuple[Model, list[dict[str, float]]]:
    """Run ``job`` as ``compute`` says.

    Args:
        job: what to train.
        compute: the ``compute`` section of params.yaml.
        key: names the run; equal keys must mean equal jobs, since a run is resumed by its key.
        storage: folder for checkpoints, absolute; shared by all nodes of a cluster. What is kept in its folder
            ``key`` is the caller's to remove, once the model is safe.

    Returns:
        The trained model on the CPU, and its training curve.

    Raises:
        TrainingError: the objective became non-finite, or workers died more often than ``max_failures``.
        ConfigError: ``compute`` asks for what is not there.
    """
    run = _run_local if compute.workers == 0 else _run_cluster
    weights, history = run(job, compute, key, storage)
    model = job.spec.build(seed=0)
    model.load_state_dict(load_weights(weights))
    return model.eval(), history


def _run_local(job: TrainingJob, compute: ComputeParams, key: str, storage: Path) -> Trained:
    """Ray Train's local mode. It keeps no checkpoints, so the state goes to a file of ours."""
    device = set_up_torch(compute)
    file = storage / key / STATE

    def run(_: dict[str, Any]) -> Trained:
        resume = _load_state(file) if file.exists() else None
        checkpoints = Checkpoints(_saver(file), compute.checkpoint_seconds, resume)
        return _fit(job, device, Workers(), checkpoints, compute)

    from ray.train import RunConfig, ScalingConfig  # noqa: PLC0415 - ray costs seconds to import
    from ray.train.torch import TorchTrainer  # noqa: PLC0415

    logging.getLogger("ray").setLevel(logging.WARNING)
    trainer = TorchTrainer(run, scaling_config=ScalingConfig(num_workers=0), run_config=RunConfig(name=key))
    trained: Trained = trainer.fit().return_value
    return trained


def _run_cluster(job: TrainingJob, compute: ComputeParams, key: str, storage: Path) -> Trained:
    """Real workers. The job travels through the object store, so nodes need not share the data's disk."""
    import ray  # noqa: PLC0415 - ray costs seconds to import

    started = _connect(ray)
    try:
        trained = _fit_on_workers(ray, job, compute, key, storage, started)
    except ray.train.TrainingFailedError as error:
        raise TrainingError(f"training on {compute.workers} workers failed: {_root_cause(error)}") from error
    finally:
        if started:
            ray.shutdown()
    if isinstance(trained, str):
        raise TrainingError(trained)
    return trained


def _fit_on_workers(
    ray: Any,
    job: TrainingJob,
    compute: ComputeParams,
    key: str,
    storage: Path,
    here: bool,  # noqa: FBT001
) -> Trained | str:
    """The fit, or why it diverged. Whether there are GPUs is the cluster's to say, not this process's."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig  # noqa: PLC0415
    from ray.train.torch import TorchTrainer  # noqa: PLC0415

    resources = ray.cluster_resources()
    use_gpu = resources.get("GPU", 0) > 0 if compute.gpu == "auto" else compute.gpu
    _check_room(resources, compute.workers, "GPU" if use_gpu else "CPU", here)
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"job": [ray.put(job)], "compute": compute},
        scaling_config=ScalingConfig(num_workers=compute.workers, use_gpu=use_gpu),
        run_config=RunConfig(
            name=key,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=compute.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )
    trained: Trained | str = trainer.fit().return_value
    return trained


def _connect(ray: Any) -> bool:
    """Join the cluster that RAY_ADDRESS names or start a local one; whether that made a new connection."""
    if ray.is_initialized():
        return False
    check_cluster()
    address = cluster_address()
    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=True)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise TrainingError(f"RAY_ADDRESS={address}: no Ray cluster answers: {str(error).splitlines()[0]}") from None
    return True


def _check_room(resources: Mapping[str, float], workers: int, kind: str, here: bool) -> None:  # noqa: FBT001
    """Refuse what this machine (``here``) does not have, where Ray would wait for ever; a cluster may still grow."""
    there = int(resources.get(kind, 0))
    if there >= workers:
        return
    wanted = f"compute.workers: expected at most as many as there are {kind}s, {there}, got {workers}"
    if here and cluster_address() == "local":
        raise ConfigError(wanted)
    logging.getLogger(__name__).warning("al-dgm: waiting for the cluster to grow: %s", wanted)


def _worker(config: dict[str, Any]) -> Trained | str:
    """What each Ray worker runs. A fit that diverges is an answer, in words: Ray would start it again in vain."""
    import ray  # noqa: PLC0415 - only ever imported in a worker
    from ray import train as ray_train  # noqa: PLC0415
    from ray.train.torch import get_device, prepare_model  # noqa: PLC0415

    job: TrainingJob = ray.get(config["job"][0])
    compute: ComputeParams = config["compute"]
    if compute.threads is not None:
        torch.set_num_threads(compute.threads)
    context = ray_train.get_context()
    rank, size = context.get_world_rank(), context.get_world_size()

    def wrap(objective: nn.Module) -> nn.Module:
        module: nn.Module = prepare_model(objective)
        return module

    def mean(values: Tensor) -> Tensor:
        return _mean_over_workers(values.to(get_device())) if size > 1 else values

    def differentiable_mean(values: Tensor) -> Tensor:
        apply: Callable[[Tensor], Tensor] = _MeanOverWorkers.apply
        return apply(values) if size > 1 else values

    def save(state: State) -> None:
        # Every worker reports, as Ray requires; the state is the same on all, so one of them brings it.
        with tempfile.TemporaryDirectory() as folder:
            if rank == 0:
                torch.save(state, Path(folder) / STATE)
            checkpoint = ray_train.Checkpoint.from_directory(folder) if rank == 0 else None
            ray_train.report({"step": state["progress"]["step"]}, checkpoint=checkpoint)

    resume = None
    if (last := ray_train.get_checkpoint()) is not None:
        with last.as_directory() as folder:
            resume = _load_state(Path(folder) / STATE)
    checkpoints = Checkpoints(save, compute.checkpoint_seconds, resume)
    try:
        return _fit(job, get_device(), Workers(rank, size, wrap, mean, differentiable_mean), checkpoints, compute)
    except TrainingError as error:
        return str(error)


class _MeanOverWorkers(torch.autograd.Function):
    """M = (1/R) Σ_r m_r over R workers, with its gradient: every worker's loss depends on every m_r through M.

    Worker r's share is ∂(Σ_k L_k)/∂m_r = (1/R) Σ_k ∂L_k/∂M, again a mean over the workers.
    """

    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return _mean_over_workers(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Nothing to keep for the gradient."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], values: Tensor) -> tuple[Tensor, int]:  # noqa: ARG004
        """The members of an ensemble all at once: entry by entry, whatever the dimensions mean."""
        apply: Callable[[Tensor], Tensor] = _MeanOverWorkers.apply
        return apply(values), in_dims[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        # By itself, not by `_mean_over_workers`: a gradient that is taken of an ensemble's members is mapped over too.
        apply: Callable[[Tensor], Tensor] = _MeanOverWorkers.apply
        return apply(gradients[0])


def _mean_over_workers(values: Tensor) -> Tensor:
    total = values.detach().clone()
    distributed.all_reduce(total)
    total /= distributed.get_world_size()
    return total


def _fit(
    job: TrainingJob, device: torch.device, workers: Workers, checkpoints: Checkpoints, compute: ComputeParams
) -> Trained:
    model, history = job.run(device, workers, checkpoints, compile_step=compute.compile)
    return save_weights(
        {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    ), history


def _saver(file: Path) -> Callable[[State], None]:
    def save(state: State) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(file, buffer.getvalue())

    return save


def _load_state(file: Path) -> State:
    # On the CPU first: the worker that wrote it may have had another device. Whoever loads it copies.
    state: State = torch.load(file, weights_only=True, map_location="cpu")
    return state


def _root_cause(error: BaseException) -> str:
    """The last line of the deepest cause: what went wrong, without Ray's frames around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
