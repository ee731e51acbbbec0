"""Two half-moons: where the six labels lie, the error that no classifier is below, and a trained ADGM to look at."""

from __future__ import annotations

import numpy as np
import torch
from digits_data import Split, load_split, training_job
from matplotlib.figure import Figure
from toy_figures import Moons, moons

from al_dgm.config import Params
from al_dgm.learning.rounds import predictor
from al_dgm.models import Model
from al_dgm.models.auxiliary import AuxiliaryModel
from al_dgm.nn.noise import NoNoise
from al_dgm.objectives.densities import gaussian

EDGES = (-1.6, 2.6, -1.1, 1.6)  # of the map: x from, to, y from, to
SHOWN = 2000  # points of the pool


def arcs(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Both moons without noise, upper and lower, each [points, 2] from end to end."""
    angle = np.linspace(0, np.pi, points)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return upper, np.array([1.0, 0.5]) - upper


def stored(x: np.ndarray, split: Split) -> np.ndarray:
    """Model space -> the plane."""
    plane: np.ndarray = x * np.array(split.info.scale.sd) + np.array(split.info.scale.mean)
    return plane


def six_labels(split: Split, placed: str, seed: int) -> list[str]:
    """Three ids of each class."""
    if placed == "random":
        return list(split.balanced(6, seed))
    plane, chosen = stored(split.pool.x, split), []
    label = np.array([split.truth[name] for name in split.pool.ids])
    for name, arc in zip(split.info.classes, arcs(3), strict=True):
        far = np.where(label == name, 0.0, np.inf)
        chosen += [str(split.pool.ids[(np.square(plane - point).sum(1) + far).argmin()]) for point in arc]
    return chosen


def best_possible_error(split: Split, noise: float) -> float:
    """In % of the holdout, of the classifier that knows both densities."""
    plane = stored(split.holdout.x, split)
    distance = [np.square(plane[:, None] - arc).sum(-1) for arc in arcs(400)]
    upper, lower = (np.logaddexp.reduce(-d / (2 * noise**2), axis=1) for d in distance)
    return 100 * float(((lower > upper) != split.holdout.labels).mean())


def trained_adgm(params: Params) -> Figure:
    """An ADGM with labels at the moons' ends and middles: its prediction over the plane, and what it infers as a."""
    split = load_split(params)
    ids = six_labels(split, "ends_and_middles", params.seed)
    model, _ = training_job(params, split, split.labels(ids)).run(torch.device("cpu"))
    chosen, classes = np.isin(split.pool.ids, ids), list(split.info.classes)
    of_pool = np.array([classes.index(split.truth[name]) for name in split.pool.ids])
    shown = Moons(
        edges=EDGES,
        probability=_over_the_plane(model, split, params),
        labelled=stored(split.pool.x[chosen], split),
        labels=of_pool[chosen],
        points=stored(split.pool.x[:SHOWN], split),
        classes=of_pool[:SHOWN],
        auxiliary=_auxiliary_means(model, split.pool.x[:SHOWN]),
    )
    return moons(shown, classes)


def _over_the_plane(model: Model, split: Split, params: Params) -> np.ndarray:
    """p(first class | x) on a grid, rows from bottom to top."""
    across, up = np.meshgrid(np.linspace(*EDGES[:2], 160), np.linspace(*EDGES[2:], 100))
    plane = np.stack([across.ravel(), up.ravel()], axis=1)
    x = torch.from_numpy((plane - np.array(split.info.scale.mean)) / np.array(split.info.scale.sd)).float()
    return predictor(params, 1, "drawing").moments(model, x, 2).mean_p[:, 0].view(across.shape).numpy()


@torch.no_grad()
def _auxiliary_means(model: Model, x: np.ndarray) -> np.ndarray:
    if not isinstance(model, AuxiliaryModel):
        raise TypeError(f"expected a model with an auxiliary variable, got {type(model).__name__}")
    inputs = model.space.network_input(torch.from_numpy(x))
    return gaussian(model.auxiliary(inputs, noise=NoNoise()))[0].numpy()
