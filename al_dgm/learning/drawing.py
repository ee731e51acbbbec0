"""What a saved model generates, infers and reconstructs, as pictures. Weights are at their mean throughout.

generation.png      draws from the prior decoded: a row a class, a column a draw (Kingma et al. 2014, seed 002)
analogies.png       z of an example, inferred with its class, decoded as every class
reconstruction.png  x, and the mean of p(x | z) at the latent means of x
latents.png         latent means of the holdout in their first two principal components, layer by layer
activity.png        variance over x of each latent unit's mean (Burda, Grosse & Salakhutdinov 2016)

Data that are images, by dataset.json's shape, are drawn as images; generated points in a plane as points; other
generated rows of numbers feature by feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from al_dgm.data.prepared import DatasetInfo, Holdout
from al_dgm.errors import DataError
from al_dgm.learning import figures, model_figures
from al_dgm.learning.latents import represented
from al_dgm.learning.report_data import as_image
from al_dgm.models import DeepGenerativeModel, GenerativeModel
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.noise import BatchNoise, CommonDraws, Noise, NoNoise, generator
from al_dgm.registry import lookup
from al_dgm.seeding import integer_seed, rng

Array = npt.NDArray[Any]

ROWS, COLUMNS = 10, 12  # of a grid of images
CLASSES = 20  # rows or columns of classes in a picture; more are not looked at
SHOWN = 2000  # latent means
DRAWS = 300  # of each class that are no images
ANY = "generated"  # where p(x | ·) is not given the class


class NotDrawnError(DataError):
    """A picture that makes no sense for this model or these data."""


@dataclass(frozen=True)
class Subject:
    """A model, the data it is of, and the seed of what is drawn."""

    model: GenerativeModel
    info: DatasetInfo
    holdout: Holdout
    seed: int

    def noise(self, name: str) -> Noise:
        """The numbers of that name, the same each time."""
        return BatchNoise(generator(integer_seed(self.seed, "draw", name)))

    @property
    def classes(self) -> Sequence[str]:
        """Names of those that are shown."""
        return self.info.classes[:CLASSES]

    def images(self, x: Array) -> Array:
        """x [N, D] in model space as images [N, H, W, ...], 0 and 1 being the holdout's smallest and largest value.

        Raises:
            NotDrawnError: the data are no images.
        """
        stored, everything = self.stored(x), self.stored(self.holdout.x)
        low, high = everything.min(), everything.max()
        images = [as_image(row, self.info.shape) for row in np.clip((stored - low) / ((high - low) or 1), 0, 1)]
        if any(image is None for image in images):
            raise NotDrawnError(f"examples of shape {list(self.info.shape)} are no images")
        return np.stack([image for image in images if image is not None])

    def stored(self, x: Array) -> Array:
        """x in model space as it was stored."""
        stored: Array = x * np.array(self.info.scale.sd) + np.array(self.info.scale.mean)
        return stored

    def examples(self, count: int) -> tuple[Array, Tensor, Tensor]:
        """Up to ``count`` of the holdout, class after class in turn: images, x in model space, class indices."""
        labels = self.holdout.labels
        turn = pd.Series(labels).groupby(labels).cumcount().to_numpy()
        order = np.lexsort((labels, turn))
        rows = order[labels[order] < len(self.classes)][:count]
        x = self.holdout.x[rows]
        return self.images(x), torch.from_numpy(x), torch.from_numpy(labels[rows])

    def mean_images(self, parameters: Tensor) -> Array:
        """E[x | parameters] [N, outputs] as images."""
        return self.images(self.model.space.observation.mean(parameters).numpy())

    @property
    def conditional(self) -> DeepGenerativeModel | None:
        """The model, if it is one whose p(x | ·) is given y."""
        return self.model if isinstance(self.model, DeepGenerativeModel) and self.model.decodes_class else None


def draw_model(subject: Subject, folder: Path, wanted: Sequence[str] = ()) -> list[str]:
    """Draw the pictures that are ``wanted`` into ``folder``; a line for each, what it is or why there is none.

    Args:
        subject: what is drawn.
        folder: of the PNG files.
        wanted: names among `PICTURES`; none for all that make sense.

    Raises:
        ConfigError: a picture is unknown.
        NotDrawnError: one that was asked for by name makes no sense here.
    """
    drawings = {name: lookup(PICTURES, name, "--only") for name in wanted or PICTURES}
    lines = []
    for name, draw in drawings.items():
        path = folder / f"{name}.png"
        try:
            with torch.no_grad(), mean_weights(subject.model):
                figures.save(draw(subject), path)
        except NotDrawnError as reason:
            path.unlink(missing_ok=True)  # of another model
            lines.append(f"{path} is not drawn: {reason}")
            if wanted:
                raise NotDrawnError(lines[-1]) from None
        else:
            lines.append(str(path))
    return lines


def _generation(subject: Subject) -> Figure:
    features = math.prod(subject.info.shape)
    if len(subject.info.shape) > 1:
        return _generated_images(subject)
    if features == 1:
        raise NotDrawnError("a single feature is neither an image nor a point in a plane nor a curve")
    return _generated_points(subject) if features == 2 else _generated_bands(subject)


def _generated_images(subject: Subject) -> Figure:
    if subject.conditional is None:
        images = subject.mean_images(_generated(subject, ROWS * COLUMNS)[ANY])
        grid = images.reshape(ROWS, COLUMNS, *images.shape[1:])
        return model_figures.image_grid(grid, [], "Generated", "means of p(x | ·) at draws from the prior")
    grid = np.stack([subject.mean_images(parameters) for parameters in _generated(subject, COLUMNS).values()])
    note = "a column: one draw of z, decoded as every class"
    return model_figures.image_grid(grid, subject.classes, "Generated by class", note)


def _generated_points(subject: Subject) -> Figure:
    names = subject.info.feature_names or ("feature 1", "feature 2")
    generated = {name: subject.stored(x) for name, x in _sampled(subject, DRAWS).items()}
    return model_figures.generated_points(subject.stored(subject.holdout.x), generated, names)


def _generated_bands(subject: Subject) -> Figure:
    generated, holdout = _sampled(subject, DRAWS), subject.holdout
    of_class = {name: holdout.x[holdout.labels == y] for y, name in enumerate(subject.classes)}
    real = {name: of_class.get(name, holdout.x) for name in generated}
    return model_figures.generated_bands(real, generated, subject.info.feature_names or ())


def _generated(subject: Subject, count: int) -> dict[str, Tensor]:
    """Class -> parameters of p(x | ·), [count, outputs], at draws that all classes share; else all under `ANY`."""
    model, draws = subject.conditional, CommonDraws(subject.noise("latents"))
    if model is None:
        return {ANY: subject.model.generate(draws, count)}
    classes = [torch.full((count,), y) for y in range(len(subject.classes))]
    return {name: model.generate(draws.again(), count, y) for name, y in zip(subject.classes, classes, strict=True)}


def _sampled(subject: Subject, count: int) -> dict[str, Array]:
    """`_generated`, and x drawn from each p(x | ·); [count, D] in model space."""
    observation, noise = subject.model.space.observation, subject.noise("x")
    return {name: observation.sample(values, noise).numpy() for name, values in _generated(subject, count).items()}


def _analogies(subject: Subject) -> Figure:
    model, classes = subject.conditional, subject.classes
    if model is None:
        raise NotDrawnError("analogies need a model whose p(x | ·) is given the class, such as m2")
    originals, x, own = subject.examples(max(ROWS, len(classes)))
    z = model.encode(x, own, NoNoise())
    # Where pixels depend on others they have to be drawn, for all classes by the same numbers.
    draws = CommonDraws(subject.noise("pixels") if model.sees_pixels else NoNoise())
    as_class = [model.decode(torch.full_like(own, y), z, draws.again()) for y in range(len(classes))]
    decoded = np.stack([subject.mean_images(parameters) for parameters in as_class], axis=1)
    return model_figures.analogies(originals, decoded, own.tolist(), classes)


def _reconstruction(subject: Subject) -> Figure:
    classes = len(subject.classes)
    columns = classes if ROWS // 2 < classes <= COLUMNS else COLUMNS
    originals, x, _ = subject.examples(4 * columns)
    reconstructed = subject.mean_images(subject.model.reconstruct(x, NoNoise()))
    columns = min(columns, len(x))
    grid = (len(x) // columns, columns)
    above, below = (
        images[: grid[0] * columns].reshape(*grid, *images.shape[1:]) for images in (originals, reconstructed)
    )
    mean = "p(x | z), each pixel seeing those of x before it," if subject.model.sees_pixels else "p(x | z)"
    note = f"x, and the mean of {mean} at the mean of what is inferred of it"
    return model_figures.reconstructions(above, below, note)


def _layers(subject: Subject) -> list[Array]:
    """Latent means of the holdout, layer by layer, [N, Z_l]."""
    means = represented(subject.model, subject.holdout.x, subject.seed)
    return np.split(means, np.cumsum(subject.model.layers)[:-1], axis=1)


def _latents(subject: Subject) -> Figure:
    labels = subject.holdout.labels
    shown = rng(subject.seed, "shown").permutation(len(labels))[:SHOWN]
    return model_figures.latent_planes(
        [means[shown] for means in _layers(subject)], labels[shown], subject.info.classes
    )


def _activity(subject: Subject) -> Figure:
    return model_figures.unit_activity([means.var(axis=0) for means in _layers(subject)])


PICTURES: dict[str, Callable[[Subject], Figure]] = {
    "generation": _generation,
    "analogies": _analogies,
    "reconstruction": _reconstruction,
    "latents": _latents,
    "activity": _activity,
}
