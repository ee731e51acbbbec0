"""The report's pictures: one function a figure, numbers in, a matplotlib `Figure` out. Nothing here reads a file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from al_dgm.files import write_atomically
from al_dgm.learning.report_data import SKIPPED

Array = npt.NDArray[Any]

INK, MUTED, PALE = "#1f2933", "#7b8794", "#d9dee3"
BLUE, ORANGE = "#2b6cb0", "#dd6b20"
_TEN = ["#3b76af", "#ef8636", "#519e3e", "#c53a32", "#8d69b8", "#84584e", "#e288c5", "#263f5a", "#b9bd3c", "#4fb9cc"]
_STYLE: Any = {
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": 150,
    "figure.facecolor": "white",
    "font.size": 9,
    "grid.color": "#edf0f2",
    "legend.fontsize": 8,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "text.color": INK,
    "text.parse_math": False,  # a class that is called $1_$ is no formula
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class QueriedExample:
    """One queried image and what it was called; None where it was skipped."""

    image: Array
    label: str | None


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, atomically; equal figures write equal files."""
    picture = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(picture, format="png", metadata={"Software": None})
    write_atomically(path, picture.getvalue())


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of so many inches; inside, what is drawn has the project's style."""
    with rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def class_colours(count: int) -> list[str]:
    """A colour for each class: ten well apart where they suffice, else evenly spaced ones. None is grey."""
    if count <= len(_TEN):
        return _TEN[:count]
    return [to_hex(colormaps["turbo"](place)) for place in np.linspace(0.05, 0.95, count)]


def learning_curve(curve: pd.DataFrame) -> Figure:
    """Holdout accuracy and NLL over the number of labels; ``curve`` has columns labels, accuracy, nll."""
    with drawing(7.2, 2.9) as figure:
        left, right = figure.subplots(1, 2)
        _line(left, curve["labels"], curve["accuracy"], BLUE, "accuracy", "{:.1%}")
        left.set_ylim(top=min(1.005, left.get_ylim()[1]))
        left.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
        _line(right, curve["labels"], curve["nll"], ORANGE, "negative log-likelihood (nats)", "{:.3f}")
        right.set_ylim(bottom=0)
        return figure


def _line(axes: Axes, x: pd.Series, y: pd.Series, colour: str, title: str, form: str) -> None:
    axes.plot(x, y, color=colour, linewidth=1.8, marker="o", markersize=4, markeredgecolor="white")
    last = x.iloc[-1], y.iloc[-1]
    axes.annotate(form.format(last[1]), last, (6, 0), textcoords="offset points", va="center", color=colour)
    axes.set(xlabel="labels", title=f"Holdout {title}")
    axes.margins(y=0.12)
    low, high = axes.get_xlim()
    axes.set_xlim(right=high + 0.12 * (high - low))  # room for the number beside the last point


def class_balance(counts: pd.DataFrame) -> Figure:
    """Stacked bars: how many examples of each class a query brought; a row a query, a column a class.

    A column `SKIPPED` is drawn grey.
    """
    classes = [name for name in counts.columns if name != SKIPPED]
    colours = {**dict(zip(classes, class_colours(len(classes)), strict=True)), SKIPPED: PALE}
    with drawing(7.2, 2.9) as figure:
        axes = figure.subplots()
        floor = np.zeros(len(counts))
        for name in counts.columns:
            height = counts[name].to_numpy(dtype=float)
            axes.bar(
                counts.index, height, 0.78, floor, color=colours[name], label=name, edgecolor="white", linewidth=0.6
            )
            floor += height
        axes.set(
            xlabel="query after round (0: the seed set)", ylabel="examples", title="Classes of the queried examples"
        )
        axes.set_xticks(counts.index)
        axes.grid(visible=False, axis="x")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside right center", ncols=1 + len(names) // 16)
        return figure


def query_grid(rows: Mapping[str, Sequence[QueriedExample]], classes: Sequence[str]) -> Figure:
    """Queried images, first choice left, a row a query; each with its label in the class's colour above it."""
    colours = dict(zip(classes, class_colours(len(classes)), strict=True))
    columns = max(len(examples) for examples in rows.values())
    everything = np.concatenate([example.image.ravel() for examples in rows.values() for example in examples])
    with drawing(0.9 + 0.56 * columns, 0.35 + 0.74 * len(rows)) as figure:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.015, wspace=0.03, hspace=0.03))
        for line, (name, examples) in zip(grid, rows.items(), strict=True):
            line[0].text(-0.2, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=8)
            for axes in line:
                axes.set_axis_off()
            for axes, example in zip(line, examples, strict=False):
                axes.imshow(example.image, cmap="gray_r", vmin=everything.min(), vmax=everything.max())
                colour = MUTED if example.label is None else colours[example.label]
                axes.set_title(example.label or "skip", loc="center", fontsize=8, pad=2, color=colour, weight="bold")
        return figure


def query_plane(pool: Array, queried: pd.DataFrame, axis_names: tuple[str, str]) -> Figure:
    """Queried examples in the plane of the first two features, over the pool [N, 2].

    Args:
        pool: a sample of the pool's examples.
        queried: columns x, y, label (None: skipped), round.
        axis_names: of the two features.
    """
    rounds = sorted(queried["round"].unique())
    with drawing(5.4, 4.0) as figure:
        axes = figure.subplots()
        axes.scatter(pool[:, 0], pool[:, 1], s=6, color=PALE, linewidths=0, label="pool")
        for (label, rows), marker in zip(queried.groupby("label", dropna=False), "osD^vPX*<>hp8d" * 9, strict=False):
            name = SKIPPED if pd.isna(label) else str(label)
            style: dict[str, Any] = {"s": 34, "edgecolors": "white", "linewidths": 0.7, "marker": marker, "label": name}
            axes.scatter(rows["x"], rows["y"], c=[_round_colour(k, rounds) for k in rows["round"]], **style)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1], title="Queried examples among the pool")
        legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=6)
        for handle in legend.legend_handles[1:]:
            handle.set(facecolor=MUTED, array=None)  # type: ignore[union-attr]
        _round_bar(figure, axes, rounds)
        return figure


def _round_colour(number: int, rounds: Sequence[int]) -> Any:
    span = max(rounds) - min(rounds)
    return colormaps["viridis"](0.92 * (number - min(rounds)) / span if span else 0.3)


def _round_bar(figure: Figure, axes: Axes | Sequence[Axes], rounds: Sequence[int]) -> None:
    """The scale of a colour a round, where there is more than one."""
    if len(rounds) < 2:
        return
    edges = np.array([*rounds, rounds[-1] + 1]) - 0.5
    colours = ListedColormap([_round_colour(k, rounds) for k in rounds])
    mapped = ScalarMappable(BoundaryNorm(edges, len(rounds)), colours)
    bar = figure.colorbar(mapped, ax=axes, ticks=rounds[:: 1 + len(rounds) // 12], label="round", aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", length=0)


def reliability_diagram(table: pd.DataFrame, ece: float) -> Figure:
    """Accuracy over confidence in bins of `metrics.reliability`, and how many predictions each bin holds."""
    filled = table[table["count"] > 0]
    centre, width = (table["lower"] + table["upper"]) / 2, table["upper"] - table["lower"]
    with drawing(3.9, 4.2) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        top.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
        top.vlines(filled["confidence"], filled["confidence"], filled["accuracy"], color=ORANGE, linewidth=2, alpha=0.6)
        top.plot(
            filled["confidence"], filled["accuracy"], "o", color=BLUE, markersize=5, label="holdout, mean of a bin"
        )
        top.set(xlim=(0, 1.02), ylim=(0, 1.04), ylabel="accuracy", title="Reliability of the predicted class")
        top.legend(loc="best", title=f"ECE {ece:.3f}", alignment="left")
        bottom.bar(centre, table["count"] / table["count"].sum(), 0.9 * width, color=BLUE, alpha=0.8)
        bottom.set(xlabel="confidence", ylabel="share")
        bottom.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        return figure


def latent_plane(
    means: Array, labels: Sequence[str | None], queried: npt.NDArray[np.bool_], classes: Sequence[str]
) -> Figure:
    """The first two principal components of latent means [N, L], coloured by class; queried examples are ringed.

    An example without a label is grey. One latent dimension is drawn against zero.
    """
    plane, shares = principal_plane(means)
    known = np.array([label or "" for label in labels])
    with drawing(5.6, 4.2) as figure:
        axes = figure.subplots()
        x, y = plane.T
        unknown = known == ""
        if unknown.any():
            axes.scatter(x[unknown], y[unknown], s=7, color=PALE, linewidths=0, label="unlabelled")
        for name, colour in zip(classes, class_colours(len(classes)), strict=True):
            own = known == name
            axes.scatter(x[own], y[own], s=11, color=colour, alpha=0.8, linewidths=0, label=name)
        if queried.any():
            rings = axes.scatter(x[queried], y[queried], s=38, facecolors="none", edgecolors=INK, linewidths=0.9)
            rings.set_label("queried")
        first, second = (f"principal component {i} ({share:.0%} of the variance)" for i, share in enumerate(shares, 1))
        axes.set(xlabel=first, ylabel=second, title="Latent means")
        figure.legend(loc="outside right center", markerscale=1.4, ncols=1 + len(classes) // 20)
        return figure


def principal_plane(means: Array) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Coordinates [N, 2] along the first two principal components, and the share of the variance along each.

    The sign of a component, which is arbitrary, is taken so that its largest loading is positive.
    """
    centred = np.asarray(means, dtype=np.float64) - np.mean(means, axis=0, dtype=np.float64)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    total = float((sizes**2).sum()) or 1.0
    plane, variance = np.zeros((len(centred), 2)), np.zeros(2)
    count = min(2, len(axes))
    plane[:, :count], variance[:count] = centred @ axes[:2].T, sizes[:2] ** 2 / total
    return plane, (float(variance[0]), float(variance[1]))


def training_curves(histories: Mapping[int, pd.DataFrame]) -> Figure:
    """A panel a term of the objective, a line a round, over the optimiser's steps."""
    terms = list(dict.fromkeys(name for history in histories.values() for name in history if name != "step"))
    columns = min(3, len(terms))
    lines = -(-len(terms) // columns)
    rounds = sorted(histories)
    with drawing(0.9 + 2.3 * columns, 0.4 + 1.9 * lines) as figure:
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True).ravel()
        for axes, term in zip(grid, terms, strict=False):
            for k in rounds:
                if term in histories[k]:
                    steps, values = histories[k]["step"], histories[k][term]
                    marker = "." if len(steps) == 1 else "None"  # a line of one point would not be seen
                    axes.plot(steps, values, marker=marker, color=_round_colour(k, rounds), linewidth=1.1)
            axes.set_title(str(term).replace("_", " ").replace("kl", "KL"))
        for axes in grid[len(terms) :]:
            axes.set_visible(False)
        for axes in grid[max(0, len(terms) - columns) : len(terms)]:
            axes.tick_params(labelbottom=True)
        figure.supxlabel("step", fontsize=9)
        _round_bar(figure, list(grid), rounds)
        return figure
