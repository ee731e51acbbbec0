"""Pictures of one model: one function a figure, numbers in, a matplotlib `Figure` out. Nothing here reads a file.

Images are [H, W] or [H, W, 3] with values in 0..1; a grid [R, C, H, W, ...] of them is drawn as one picture.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from al_dgm.learning.figures import BLUE, INK, MUTED, ORANGE, PALE, class_colours, drawing, principal_plane

Array = npt.NDArray[Any]

CELL = 0.44  # inches, of an image in a grid
APART = 0.4  # of a cell, between groups of images
LETTERS, MIN_LETTERS = 14, 24  # of a note in a line: by the inch, and at least
LINE = 0.17  # inches, of a note
FITTING = 4  # letters of a name that fit above an image; more are slanted
SLANTED = 0.055  # inches, of width and height that a letter then takes
GAP = 12  # an image's width over the gap beside it
ACTIVE = 0.01  # variance of its mean over x from which a latent unit counts as active (Burda et al. 2016)
NAMED = 20  # features that have room for their names, and letters of them
FAINTEST = 1e-6  # where the axis of variances ends at the latest
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
LAYERS = (BLUE, ORANGE, "#519e3e", "#8d69b8", "#84584e")  # colours of latents, from x upwards


def image_grid(images: Array, rows: Sequence[str], title: str, note: str) -> Figure:
    """Images [R, C, H, W, ...]; where ``rows`` names the R rows, in the colours of as many classes."""
    height = len(images) * _tall(images)
    with _grid(images.shape[1], height, title, note) as (figure, axes):
        _show(axes, images)
        for row, (name, colour) in enumerate(zip(rows, class_colours(len(rows)), strict=True)):
            _name_row(axes, name, (row + 0.5) * _tall(images), colour)
        return figure


def analogies(originals: Array, decoded: Array, own: Sequence[int], classes: Sequence[str]) -> Figure:
    """Each original [R, H, W, ...], and right of it what its latent gives as every class [R, C, H, W, ...].

    Args:
        originals: of the classes ``own``.
        decoded: a column a class.
        own: class of each original; the image decoded as that class is framed.
        classes: names.
    """
    colours, tall, left = class_colours(len(classes)), _tall(decoded), 1 + APART
    longest = min(NAMED, max(map(len, classes)))
    slanted = longest if longest > FITTING else 0
    slant: dict[str, Any] = {"rotation": 45, "ha": "left"} if slanted else {"ha": "center"}
    note, more = "left: x; then its z, inferred with its own class, decoded as every class", SLANTED * slanted
    with _grid(left + len(classes), len(originals) * tall, "Analogies", note, more) as (figure, axes):
        _show(axes, originals[:, None])
        _show(axes, decoded, left=left)
        for row, y in enumerate(own):
            _frame(axes, decoded, left + y, row * tall, colours[y])
        for y, name in enumerate(classes):
            middle, shown = left + y + 0.46, name[:NAMED]
            axes.text(middle, -0.12, shown, va="bottom", color=colours[y], weight="bold", **slant)
        axes.set_title("Analogies", pad=20 + 4 * slanted)
        return figure


def reconstructions(originals: Array, reconstructed: Array, note: str) -> Figure:
    """Originals [R, C, H, W, ...], each with its reconstruction below it."""
    tall = _tall(originals)
    pitch = 2 * tall + APART
    with _grid(originals.shape[1], len(originals) * pitch - APART, "Reconstructions", note) as (figure, axes):
        for row, (above, below) in enumerate(zip(originals, reconstructed, strict=True)):
            _show(axes, above[None], top=row * pitch)
            _show(axes, below[None], top=row * pitch + tall)
            _name_row(axes, "x", row * pitch + 0.5 * tall, INK)
            _name_row(axes, "x̂", row * pitch + 1.5 * tall, MUTED)
        return figure


@contextmanager
def _grid(width: float, height: float, title: str, note: str, more: float = 0.0) -> Iterator[tuple[Figure, Axes]]:
    """Axes in widths of an image, y downwards, with nothing on them yet, and ``more`` inches of width and height."""
    inches = 0.6 + CELL * width + more
    lines = textwrap.wrap(note, max(MIN_LETTERS, int(LETTERS * inches)))
    with drawing(inches, 0.65 + LINE * len(lines) + CELL * height + more) as figure:
        axes = figure.subplots()
        axes.set(xticks=[], yticks=[], xlabel="\n".join(lines))
        axes.set_title(title, pad=8)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        yield figure, axes
        axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")


def _tall(images: Array) -> float:
    """Height of a cell of a grid, its width being 1."""
    height, width = images.shape[2:4]
    gap = _gap(images)
    return float((height + gap) / (width + gap))


def _gap(images: Array) -> int:
    return max(1, int(images.shape[3]) // GAP)


def _frame(axes: Axes, images: Array, left: float, top: float, colour: str) -> None:
    """Around the image of a grid whose cell begins there."""
    height, width = images.shape[2:4]
    share, edge = 1 / (width + _gap(images)), 0.03
    size = (width * share + 2 * edge, height * share + 2 * edge)
    frame = Rectangle((left - edge, top - edge), *size, fill=False, edgecolor=colour, linewidth=1.3)
    axes.add_patch(frame).set_clip_on(False)


def _show(axes: Axes, images: Array, left: float = 0.0, top: float = 0.0) -> None:
    rows, columns = images.shape[:2]
    extent = (left, left + columns, top + rows * _tall(images), top)
    axes.imshow(mosaic(images, _gap(images)), cmap="gray_r", vmin=0, vmax=1, extent=extent)


def mosaic(images: Array, gap: int) -> Array:
    """Images [R, C, H, W, ...] side by side in one, ``gap`` white pixels below and to the right of each."""
    white = 1.0 if images.ndim == 5 else 0.0  # a grey value is ink
    edges = [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)]
    padded = np.pad(images, edges[: images.ndim], constant_values=white)
    rows, columns, height, width = padded.shape[:4]
    whole: Array = padded.swapaxes(1, 2).reshape(rows * height, columns * width, *images.shape[4:])
    return whole


def _name_row(axes: Axes, name: str, middle: float, colour: str) -> None:
    axes.text(-0.15, middle, name, ha="right", va="center", color=colour, weight="bold")


def generated_points(real: Array, generated: Mapping[str, Array], axis_names: Sequence[str]) -> Figure:
    """Generated points [n, 2] by name, over real ones [N, 2]."""
    with drawing(5.4, 4.0) as figure:
        axes = figure.subplots()
        axes.scatter(real[:, 0], real[:, 1], s=7, color=PALE, linewidths=0, label="holdout")
        for (name, points), colour in zip(generated.items(), class_colours(len(generated)), strict=True):
            axes.scatter(points[:, 0], points[:, 1], s=9, color=colour, alpha=0.75, linewidths=0, label=name)
        axes.set(xlabel=axis_names[0], ylabel=axis_names[1], title="Generated examples")
        figure.legend(loc="outside right center", markerscale=1.6, ncols=1 + len(generated) // 20)
        return figure


def generated_bands(real: Mapping[str, Array], generated: Mapping[str, Array], features: Sequence[str]) -> Figure:
    """A panel a name: median and central 80 % of each feature, generated ones [n, D] in colour, real ones in grey."""
    columns = min(3, len(generated))
    rows = -(-len(generated) // columns)
    with drawing(0.6 + 2.9 * columns, 1.1 + 1.9 * rows) as figure:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, name, colour in zip(grid, generated, class_colours(len(generated)), strict=False):
            _band(axes, real[name], MUTED, "holdout")
            _band(axes, generated[name], colour, "generated")
            axes.set_title(name)
            if 0 < len(features) <= NAMED:
                axes.set_xticks(range(len(features)), [name[:NAMED] for name in features], rotation=90, fontsize=7)
        for axes in grid[len(generated) :]:
            axes.set_visible(False)
        for axes in grid[::columns]:
            axes.set_ylabel("standardised")
        title = "Median and central 80 % of examples:\ngenerated in colour, the holdout in grey"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        return figure


def _band(axes: Axes, x: Array, colour: str, name: str) -> None:
    if len(x):
        low, middle, high = np.quantile(x, [0.1, 0.5, 0.9], axis=0)
        axes.fill_between(range(len(low)), low, high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(middle, color=colour, linewidth=1.4, label=name)


def latent_planes(layers: Sequence[Array], labels: npt.NDArray[np.integer], classes: Sequence[str]) -> Figure:
    """First two principal components of each layer's latent means [N, Z_l], coloured by class index [N]."""
    colours = class_colours(len(classes))
    with drawing(1.2 + 3.4 * len(layers), 3.7) as figure:
        for axes, (number, means) in zip(
            figure.subplots(1, len(layers), squeeze=False)[0], enumerate(layers, 1), strict=True
        ):
            plane, shares = principal_plane(means)
            # All classes at once, in the order of the examples: else the last one covers the others.
            axes.scatter(*plane.T, s=9, c=[colours[y] for y in labels], alpha=0.75, linewidths=0)
            first, second = (f"component {i} ({share:.0%} of the variance)" for i, share in enumerate(shares, 1))
            axes.set(xlabel=first, ylabel=second, title=_layer_name("Latent means", number, len(layers)))
        dots = [axes.scatter([], [], s=22, color=colour, linewidths=0) for colour in colours]
        figure.legend(dots, classes, loc="outside right center", ncols=1 + len(classes) // 20)
        return figure


def unit_activity(layers: Sequence[Array]) -> Figure:
    """Variance over x of each latent unit's mean, [Z_l] for each layer, the most active of a layer first."""
    active = sum(int((variances > ACTIVE).sum()) for variances in layers)
    units = sum(map(len, layers))
    with drawing(max(3.6, 1.4 + 0.16 * units), 3.0) as figure:
        axes = figure.subplots()
        place = 0
        for number, (variances, colour) in enumerate(zip(layers, LAYERS * len(layers), strict=False), 1):
            heights = np.sort(np.maximum(variances, FAINTEST))[::-1]
            name = f"{_layer_name('z', number, len(layers))}: {(variances > ACTIVE).sum()} of {len(variances)}"
            axes.bar(place + np.arange(len(heights)), heights, 0.82, color=colour, label=name)
            place += len(heights) + 1
        axes.axhline(ACTIVE, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=f"active above {ACTIVE}")
        faintest = max(FAINTEST, min(ACTIVE, *(variances.min() for variances in layers)) / 3)
        axes.set(yscale="log", ylim=(faintest, None), xticks=[], xlabel="latent units, sorted")
        axes.yaxis.set_major_formatter("{x:g}")  # powers would be formulas
        axes.set(ylabel="variance over x of the mean", title=f"{active} of {units} latent units are active")
        axes.grid(visible=False, axis="x")
        figure.legend(loc="outside right center")
        return figure


def _layer_name(name: str, number: int, layers: int) -> str:
    if layers == 1:
        return name
    layer = f"z{number}".translate(SUBSCRIPTS)
    return layer if name == "z" else f"{name} of {layer}"
