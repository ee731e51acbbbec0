"""What params.yaml shows of every component that may be chosen by name."""

import inspect
from pathlib import Path

import pytest

from al_dgm.acquisition import SELECTORS
from al_dgm.config import load_params
from al_dgm.data import DATASETS
from al_dgm.labelling import LABEL_SOURCES
from al_dgm.learning.components import GIVEN
from al_dgm.models import MODELS
from al_dgm.registry import checked_options

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
CHOICES = {
    "data": (DATASETS, PARAMS.data),
    "model": (MODELS, PARAMS.model),
    "acquisition.selector": (SELECTORS, PARAMS.acquisition.selector),
    "labels": (LABEL_SOURCES, PARAMS.labels),
}
BLOCKS = [(path, name) for path, (registry, _) in CHOICES.items() for name in sorted(registry)]


@pytest.mark.parametrize(("path", "name"), BLOCKS)
def test_every_component_has_its_block_with_every_option_and_its_default(path, name):
    """Who leaves an option out, or reads the constructor, gets what was measured; each is of the right type."""
    (registry, choice), given = CHOICES[path], GIVEN.get(path, set())
    block = choice.blocks[name] or {}
    checked_options(registry[name], block, f"{path}.{name}", given)
    options = {key: p for key, p in inspect.signature(registry[name]).parameters.items() if key not in given}
    assert set(block) == set(options)
    assert all(parameter.default in (parameter.empty, block[key]) for key, parameter in options.items())
