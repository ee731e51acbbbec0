"""Small models of every kind and data for them, for the conformance tests.

A model that may read and produce images by convolutions occurs twice: as "m2" and as "m2, convolutional". One whose
pixels may depend on each other occurs once more: as "sdgm, pixel by pixel".
"""

import contextlib
import inspect
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from al_dgm.config import load_params
from al_dgm.learning.job import ModelSpec
from al_dgm.models import MODELS, DeepGenerativeModel
from al_dgm.models.base import Minibatch
from al_dgm.models.density import DensityModel
from al_dgm.nn.bayesian import mean_weights, weight_sample
from al_dgm.nn.noise import BatchNoise, generator

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
B, C, D, S = 6, 3, 8, 4
SHAPE = (4, 2)
KINDS = ("bernoulli", "binomial", "gaussian")
CONVOLUTIONS = {"convolutions": [3, 4]}
IMAGES = {", convolutional": CONVOLUTIONS, ", pixel by pixel": {**CONVOLUTIONS, "pixelcnn": [5, 1]}}
SMALL = {"hidden": [8], "latent": 3, "auxiliary": 2, "features": 2, "m1_hidden": 8, "m1_latent": 3}
SMALL_HIERARCHY = {"hidden": [8, 7], "latents": [3, 2], "auxiliary": [2, 2], "pixel_channels": 5, "pixel_blocks": 1}


def registered(name):
    """The model's name in `MODELS`."""
    return name.split(",")[0]


def of_images(name):
    """The options that make it a model of images."""
    return IMAGES.get(name.removeprefix(registered(name)), {})


def options(name):
    """The parameters of its constructor."""
    return inspect.signature(MODELS[registered(name)], eval_str=True).parameters


def predictions(name):
    """The ways to predict that this model may be told to, or None where there is no choice."""
    if "prediction" not in options(name):
        return [None]
    named = get_args(options(name)["prediction"].annotation)
    return [way for way in named if isinstance(way, str)] + [way for union in named for way in get_args(union)]


NAMES = [*MODELS, *(name + way for name in MODELS for way, chosen in IMAGES.items() if {*chosen} <= {*options(name)})]
GENERATIVE = [name for name in NAMES if getattr(MODELS[registered(name)], "generative", False)]
SEMI_SUPERVISED = [name for name in GENERATIVE if issubclass(MODELS[registered(name)], DeepGenerativeModel)]
UNSUPERVISED = [name for name in GENERATIVE if issubclass(MODELS[registered(name)], DensityModel)]
NORMALISED = [name for name in GENERATIVE if "batch_norm" in options(name)]
OF_IMAGES = [name for name in NAMES if name == "fame" or of_images(name)]

every_registered = pytest.mark.parametrize("name", sorted(MODELS))
every_model = pytest.mark.parametrize("name", sorted(NAMES))
every_way_to_predict = pytest.mark.parametrize(
    ("name", "prediction"), [(name, prediction) for name in sorted(NAMES) for prediction in predictions(name)]
)
every_generative = pytest.mark.parametrize("name", sorted(GENERATIVE))
every_semi_supervised = pytest.mark.parametrize("name", sorted(SEMI_SUPERVISED))
every_unsupervised = pytest.mark.parametrize("name", sorted(UNSUPERVISED))
every_normalised = pytest.mark.parametrize("name", sorted(NORMALISED))
every_kind = pytest.mark.parametrize("kind", KINDS)

# Distribution over weights -> (the option `bayesian` of a generative model, that of a supervised one, how many members)
WEIGHTS = {
    "mean-field": ("all", True, 1),
    "mean-field last layer": ("classifier.last", "last", 1),
    "ensemble": ("none", False, 3),
    "ensemble of mean-field": ("all", True, 3),
}
every_weights = pytest.mark.parametrize("weights", WEIGHTS)


def all_bayesian(name):
    """What the option ``bayesian`` of this model is called when every network has it."""
    return "all" if name in GENERATIVE else True


def distributed(name, weights):
    """What makes `spec` a model with one of `WEIGHTS`."""
    generative, supervised, members = WEIGHTS[weights]
    bayesian = generative if name in GENERATIVE else supervised
    if bayesian == "classifier.last":
        bayesian = f"{PARAMS.model.blocks[registered(name)]['bayesian']}.last"  # of the network that says y
    return {"bayesian": bool(bayesian) if name == "logistic" else bayesian, "ensemble": members}


def spec(name, kind="binomial", classes=C, ensemble=1, **chosen):
    """A small model, Bayesian throughout unless told otherwise; options that it does not have are left out."""
    sizes = SMALL_HIERARCHY if "latents" in options(name) else SMALL
    wanted = {"bayesian": all_bayesian(name), "batch_norm": False, **sizes, **of_images(name), **chosen}
    known = {option: value for option, value in wanted.items() if option in options(name)}
    observation = {"kind": kind, "trials": 16}
    about = ModelSpec(registered(name), known, D, tuple("abcdefghi"[:classes]), observation, 0.3, 0.5, SHAPE)
    return replace(about, ensemble=ensemble)


def stirred(model):
    """With weights as large as training makes them: initial heads are near 0, and hide what comes after them."""
    stream = generator(7)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith((".weight", ".mean")):
                value.copy_(0.3 * torch.randn(value.shape, generator=stream))
    return model


def represented(name):
    """How many latent means there are: those of every layer, or of the last one, where y is among the latents."""
    if "latents" not in options(name):
        return SMALL["latent"]
    return sum(SMALL_HIERARCHY["latents"]) if name in UNSUPERVISED else SMALL_HIERARCHY["latents"][-1]


def data(kind="binomial", rows=B, seed=0):
    stream = generator(seed)
    if kind == "gaussian":
        return torch.randn(rows, D, generator=stream)
    return torch.randint(0, 17, (rows, D), generator=stream) / 16


def noise(seed=0):
    return BatchNoise(generator(seed))


def minibatch(x_labelled, y, x_unlabelled, source=None):
    """The rows of one step; each set draws from a stream of its own, or both from ``source``."""
    labelled, unlabelled = (noise(0), noise(1)) if source is None else (source, source)
    return Minibatch(x_labelled, y, x_unlabelled, labelled, unlabelled)


class NoNoise:
    """Every draw at its mean: what is left is a function of x and y."""

    def normal(self, shape):
        """Zeros."""
        return torch.zeros(shape)

    def uniform(self, shape):
        """Halves."""
        return torch.full(shape, 0.5)


@contextlib.contextmanager
def weights_as(model, mode):
    """Weights local, at their mean, or one sample."""
    with {
        "local": contextlib.nullcontext,
        "mean": lambda: mean_weights(model),
        "sampled": lambda: weight_sample(model, generator(1)),
    }[mode]():
        yield
