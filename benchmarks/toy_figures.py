"""The pictures of the toys, in the report's style: numbers in, figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from al_dgm.learning.figures import INK, class_colours, drawing, principal_plane

Array = npt.NDArray[np.floating]


def density_maps(densities: Mapping[str, Array], edge: float) -> Figure:
    """A panel for each density [n, n] over the square [−edge, edge]², rows from bottom to top, on one scale."""
    most = max(float(values.max()) for values in densities.values())
    with drawing(2.6 * len(densities), 2.9) as figure:
        for axes, (title, values) in zip(figure.subplots(1, len(densities)), densities.items(), strict=True):
            axes.imshow(values, origin="lower", extent=(-edge, edge, -edge, edge), cmap="Blues", vmin=0, vmax=most)
            axes.set(title=title, xlabel="z₁", ylabel="z₂")
            axes.grid(visible=False)
    return figure


@dataclass(frozen=True)
class Moons:
    """What the half-moon figure shows of a trained model.

    Attributes:
        edges: of the map: x from, to, y from, to.
        probability: of the first class over the map, rows from bottom to top.
        labelled: the labelled points, [n, 2].
        labels: their class indices.
        points: others of the pool, [N, 2].
        classes: the class indices of those, which the model was not told.
        auxiliary: the means of q(a | x) of those, [N, A].
    """

    edges: tuple[float, float, float, float]
    probability: Array
    labelled: Array
    labels: npt.NDArray[np.integer]
    points: Array
    classes: npt.NDArray[np.integer]
    auxiliary: Array


def moons(shown: Moons, classes: Sequence[str]) -> Figure:
    """The predictive probability over the plane, and the auxiliary variable's principal components."""
    colours = class_colours(len(classes))
    plane, _ = principal_plane(shown.auxiliary)
    with drawing(7.6, 3.0) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
        between = LinearSegmentedColormap.from_list("classes", [colours[1], "white", colours[0]])
        left.imshow(shown.probability, origin="lower", extent=shown.edges, cmap=between, vmin=0, vmax=1, alpha=0.6)
        for c, (name, colour) in enumerate(zip(classes, colours, strict=True)):
            left.scatter(*shown.points[shown.classes == c].T, s=3, color=colour, alpha=0.6, linewidths=0)
            right.scatter(*plane[shown.classes == c].T, s=5, color=colour, alpha=0.6, linewidths=0, label=name)
            of_class = shown.labelled[shown.labels == c]
            left.scatter(*of_class.T, s=46, color=colour, edgecolors=INK, linewidths=1.0, zorder=3)
        left.set(title=f"p({classes[0]} | x) by ADGM, and its {len(shown.labels)} labels", xlabel="x", ylabel="y")
        left.grid(visible=False)
        right.set(title="Means of q(a | x)", xlabel="principal component 1", ylabel="principal component 2")
        right.legend(markerscale=2)
    return figure


def accuracy_over_labels(labels: Sequence[int], curves: Mapping[str, Array]) -> Figure:
    """Median over seeds of each strategy's accuracies [seeds, points], and the range of the middle 80 %."""
    with drawing(5.6, 3.4) as figure:
        axes = figure.subplots()
        for (name, values), colour in zip(curves.items(), class_colours(10), strict=False):
            low, middle, high = np.percentile(values, [10, 50, 90], axis=0)
            axes.fill_between(labels, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(labels, middle, color=colour, linewidth=1.8, marker="o", markersize=4, label=name)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
        axes.set(xlabel="labels", title="Holdout accuracy: median and 10 to 90 % of the seeds")
        axes.legend(loc="lower right")
    return figure
