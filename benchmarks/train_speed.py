"""Claim: a training step runs near what the machine's own matrix products take, and several times faster than Pyro's.

M2 (one hidden layer of 500, 50 latents) and SDGM (two of 500, 100 latents and 100 auxiliary variables) on MNIST-like
data, 100 labelled and 100 unlabelled examples a step, whole steps: drawing the minibatch and its noise, objective,
gradient, clipping, Adam. Rows: {model, implementation, device, precision, steps_per_s, ratio_to_pyro,
fraction_of_matmul_bound}.

* pyro: `TraceEnum_ELBO` with parallel enumeration over the very same networks, whose inputs are concatenated as in
  Pyro's own example. Before anything is timed, all bounds are checked to have the same value on the same draws.
* pyro_split: the same with this package's first layer, which multiplies x once and not once for each class.
* naive: this package's step with x repeated for every class instead of multiplied once.
* plain, compiled: this package's step as it comes, and under `compute.compile`.

The matmul bound is the time of the matrix products of one plain step alone, each timed by itself with its own shapes,
layout and precision: the fraction of it is how much of a step is spent on what cannot be avoided. All implementations
are timed in turn, several times, and the medians are reported.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from common import parser, progress, report
from in_pyro import Apply, InPyro, SDGMInPyro, concatenated, split
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from al_dgm.config import TrainingParams, load_params
from al_dgm.errors import one_line_errors
from al_dgm.learning.fit import Fit, TrainingData, Workers
from al_dgm.learning.job import ModelSpec
from al_dgm.models import DeepGenerativeModel
from al_dgm.nn import pairs
from al_dgm.nn.noise import DrawnNoise
from al_dgm.nn.pairs import Label, OfExamples, Pairs
from al_dgm.objectives.bounds import unlabelled_bound

D, C, BATCH = 784, 10, 100
MODELS: dict[str, dict[str, Any]] = {
    "m2": {"hidden": [500], "latent": 50, "bayesian": "none", "likelihood_weight": 1.0},
    "sdgm": {"hidden": [500, 500], "latent": 100, "auxiliary": 100, "bayesian": "none", "likelihood_weight": 1.0},
}
IN_PYRO = {"m2": InPyro, "sdgm": SDGMInPyro}
# The published objective: no regulariser of the classifier beside the cross-entropy, no averaging of the weights.
PLAIN = {"adversarial_weight": 0.0, "balance_weight": 0.0, "weight_average": 0.0, "weighting": "mean"}

Step = Callable[[], object]


def data(device: torch.device) -> TrainingData:
    """Grey values with MNIST's share of black, 100 of them labelled."""
    stream = torch.Generator().manual_seed(0)
    x = (torch.rand(10_000, D, generator=stream) < 0.13).float() * torch.rand(10_000, D, generator=stream)
    return TrainingData(x[:BATCH], torch.arange(BATCH) % C, x[BATCH:]).to(device)


def build(name: str, device: torch.device) -> DeepGenerativeModel:
    """The model with its initial weights."""
    spec = ModelSpec(name, MODELS[name], D, tuple(map(str, range(C))), {"kind": "bernoulli"}, 0.13, 0.31)
    model = spec.build(0).to(device)
    if not isinstance(model, DeepGenerativeModel):
        raise TypeError(name)
    return model


def our_step(name: str, device: torch.device, recipe: TrainingParams, *, compile_step: bool = False) -> Step:
    """One step of this package's own training loop."""
    running = Fit(build(name, device), data(device), recipe, 0, Workers(), compile_step=compile_step)
    return running.step


def pyro_step(name: str, device: torch.device, recipe: TrainingParams, apply: Apply) -> Step:
    """The same objective with Pyro's estimates of the bounds."""
    model, given = build(name, device), data(device)
    theirs = IN_PYRO[name](model, "bernoulli", apply=apply)
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    one_hot = F.one_hot(given.y, C).float()
    weight = recipe.classification_weight * (BATCH + len(given.x_unlabelled)) / BATCH

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        rows = torch.randint(len(given.x_unlabelled), (BATCH,), device=device)
        labelled, unlabelled = torch.bernoulli(given.x_labelled), torch.bernoulli(given.x_unlabelled[rows])
        classification = -classifier(model, labelled, apply).gather(-1, given.y[:, None]).mean()
        bounds = theirs.bound(labelled, one_hot) + theirs.bound(unlabelled)
        (weight * classification - bounds / BATCH).backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
        optimiser.step()

    return step


def classifier(model: DeepGenerativeModel, x: Tensor, apply: Apply) -> Tensor:
    """log q(y | x), or log q(y | a, x) for one draw of a, in plain torch."""
    u = model.space.network_input(x)
    if not hasattr(model, "auxiliary"):
        return F.log_softmax(apply(model.classifier, u), dim=-1)
    mean, log_variance = apply(model.auxiliary, u).chunk(2, -1)
    a = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
    return F.log_softmax(apply(model.classifier, u, a), dim=-1)


@contextmanager
def repeated_inputs() -> Iterator[None]:
    """Inside, x and a are repeated for every class before they are multiplied, and y is multiplied one-hot."""
    kept = OfExamples.times, Label.times

    def tiled(self: OfExamples, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        return pairs.product(self.pairs.spread(self.values), weight, matmul)

    def one_hot(self: Label, weight: Tensor, matmul: torch.dtype | None) -> Tensor:
        return pairs.product(self.scale * F.one_hot(self.pairs.labels, C).float(), weight, matmul)

    OfExamples.times, Label.times = tiled, one_hot  # type: ignore[method-assign]
    try:
        yield
    finally:
        OfExamples.times, Label.times = kept  # type: ignore[method-assign]


def check_same_bound(name: str, device: torch.device) -> None:
    """Refuse to time two different things: U(x) of both sides on the same draws, plain and with repeated inputs."""
    model, x = build(name, device), (data(device).x_unlabelled[:7] > 0).float()
    sizes = [MODELS[name]["auxiliary"]] if name == "sdgm" else []
    a = [torch.randn(len(x), size, device=device) for size in sizes]
    z = torch.randn(C, len(x), MODELS[name]["latent"], device=device)
    every = Pairs(len(x), torch.empty(0, dtype=torch.int64, device=device), None, C)

    def ours() -> Tensor:
        noise = DrawnNoise([*(eps[None] for eps in a), z.transpose(0, 1).flatten(0, 1)[None]])
        seen = model.recognise(x, noise, 1)
        bound, _ = every.split(model.bounds(x, seen, every, noise, 1, closed_form=False))
        return unlabelled_bound(bound, seen.log_q).sum()

    with torch.no_grad():
        plain = ours()
        with repeated_inputs():
            others = [ours()]
        for apply in (split, concatenated):
            theirs = IN_PYRO[name](model, "bernoulli", eps=[*a, z], apply=apply)
            others += [theirs.bound(x).to(plain)]
    for other in others:
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-2)


class Products(TorchDispatchMode):
    """Counts the matrix products that run inside, by shape, layout and type of the factors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[tuple[Any, ...]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.mm.default:
            self.found[tuple((tuple(x.shape), x.stride(), x.dtype) for x in args)] += 1
        return func(*args, **(kwargs or {}))


def matmul_seconds(name: str, device: torch.device, recipe: TrainingParams) -> float:
    """Seconds that the matrix products of one plain step take, each by itself."""
    running = Fit(build(name, device), data(device), recipe, 0, Workers())
    running.step()
    products = Products()
    with products:
        running.step()
    return sum(count * product_seconds(factors, device) for factors, count in products.found.items())


def product_seconds(factors: tuple[Any, ...], device: torch.device, repeats: int = 30) -> float:
    """Median seconds of one product of two matrices with the given shapes, strides and types."""
    first, second = (
        torch.empty_strided(shape, strides, dtype=dtype, device=device).fill_(0.5) for shape, strides, dtype in factors
    )
    return statistics.median(seconds_of(lambda: first @ second, device, 1) for _ in range(repeats))


def seconds_of(work: Step, device: torch.device, times: int) -> float:
    """Seconds of ``times`` repetitions."""
    wait(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait(device)
    return time.perf_counter() - began


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steps_per_second(steps: dict[str, Step], device: torch.device, rounds: int, seconds: float) -> dict[str, float]:
    """Median over ``rounds`` of each implementation's rate; they take turns of about ``seconds``."""
    rates: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        taken = seconds_of(step, device, 5)  # compiled, and its memory warm
        progress(f"  {name}: first five steps {taken:.1f} s")
    for _ in range(rounds):
        for name, step in steps.items():
            times = max(3, round(seconds / seconds_of(step, device, 3) * 3))
            rates[name].append(times / seconds_of(step, device, times))
    return {name: statistics.median(values) for name, values in rates.items()}


def model_rows(name: str, device: torch.device, recipe: TrainingParams, given: Any) -> list[dict[str, Any]]:
    """The rows of one model."""
    check_same_bound(name, device)
    recipes = {precision: recipe.model_copy(update={"precision": precision}) for precision in ("float32", "bfloat16")}
    steps: dict[str, Step] = {
        "pyro float32": pyro_step(name, device, recipe, concatenated),
        "pyro_split float32": pyro_step(name, device, recipe, split),
    }
    plain = our_step(name, device, recipe)

    def naive() -> None:
        with repeated_inputs():
            plain()

    steps["naive float32"] = naive
    for precision, own in recipes.items():
        steps[f"plain {precision}"] = our_step(name, device, own)
        steps[f"compiled {precision}"] = our_step(name, device, own, compile_step=True)
    rates = steps_per_second(steps, device, given.rounds, given.seconds)
    bounds = {precision: matmul_seconds(name, device, own) for precision, own in recipes.items()}
    rows = []
    for step, rate in rates.items():
        implementation, precision = step.split()
        row: dict[str, Any] = {
            "model": name,
            "implementation": implementation,
            "device": device.type,
            "precision": precision,
        }
        row |= {"steps_per_s": rate, "ratio_to_pyro": rate / rates["pyro float32"]}
        rows.append(row | {"fraction_of_matmul_bound": rate * bounds[precision]})
        progress(f"  {rows[-1]}")
    return rows


def main() -> None:
    """Time every model and report."""
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="(default: all)")
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    options.add_argument("--device", default=devices[-1], choices=devices, help="(default: %(default)s)")
    options.add_argument("--threads", type=int, default=None, help="of torch on a CPU (default: as many as cores)")
    options.add_argument("--rounds", type=int, default=5, help="turns of each implementation (default: %(default)s)")
    options.add_argument("--seconds", type=float, default=3.0, help="of a turn (default: %(default)s)")
    given = options.parse_args()
    threads = given.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    recipe = load_params("params.yaml").training.model_copy(
        update=PLAIN | {"labelled_batch": BATCH, "unlabelled_batch": BATCH, "steps": 1_000_000}
    )
    device, rows = torch.device(given.device), []
    for name in given.models:
        progress(f"{name} on {device.type}")
        rows += model_rows(name, device, recipe, given)
    report("train_speed", rows, given.results, threads=threads)


if __name__ == "__main__":
    with one_line_errors():
        main()
