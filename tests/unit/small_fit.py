"""A small model, data and recipe, for the tests of training."""

import io
from dataclasses import replace
from pathlib import Path

import torch

from al_dgm.config import load_params
from al_dgm.learning.fit import TrainingData
from al_dgm.learning.job import ModelSpec
from al_dgm.nn.noise import generator

TRAINING = load_params(Path(__file__).parents[2] / "params.yaml").training
SPEC = ModelSpec(
    "m2",
    {"hidden": [6], "latent": 2, "bayesian": "all"},
    features=5,
    classes=("a", "b", "c"),
    observation={"kind": "binomial", "trials": 16},
    centre=0.4,
    spread=0.4,
)
IMAGES = replace(SPEC, options={**SPEC.options, "convolutions": [3, 4]}, shape=(5, 1))
# with statistics of the minibatch in every layer
NORMALISED = replace(SPEC, name="vae", options={"hidden": [6], "latents": [2], "batch_norm": True})
# where labelled rows are normalised by the others
CLUSTERS = replace(SPEC, name="cagem", options={"hidden": [6, 6], "latents": [2, 2], "batch_norm": True})
# with noise on normalised units, and of each set the statistics of its own
CORRUPTED = replace(SPEC, options={"hidden": [6], "latent": 2, "corruption": [0.5, 0.3]})
# M1 first, then M2 on it
STAGES = replace(SPEC, name="m1m2", options={"hidden": [6], "latent": 2, "features": 2, "m1_hidden": 6})


def recipe(steps=20, **options):
    """The shipped recipe, short; every regulariser that it has stays on, and labels are spread."""
    small = {"labelled_batch": 4, "unlabelled_batch": 6, "patience": 0, "label_neighbours": 2}
    return TRAINING.model_copy(update={"steps": steps} | small | options)


def small_data():
    """10 labelled and 30 unlabelled examples."""
    x = torch.randint(0, 17, (40, 5), generator=generator(0)) / 16
    return TrainingData(x[:10], torch.arange(10) % 3, x[10:])


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_weights(first, second):
    assert all(torch.equal(first[name], second[name]) for name in first)


class OnDisk:
    """Keeps every state as `torch.save` writes it and `weights_only` reads it."""

    def __init__(self):
        self.states = []

    def __call__(self, state):
        """Keep one more."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.states.append(buffer.getvalue())

    def load(self, index):
        """State ``index``, without pickle."""
        return torch.load(io.BytesIO(self.states[index]), weights_only=True)
