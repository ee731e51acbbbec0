"""Networks that noise disturbs in training, against plain formulas."""

import pytest
import torch
from torch.nn import functional as F

from al_dgm.errors import ConfigError
from al_dgm.models.classifiers import classifier
from al_dgm.nn.batch_norm import EPSILON, population_statistics, same_statistics, weighted_rows
from al_dgm.nn.corrupted import CorruptedMLP, CorruptedNorm, Corruption, apart, clean, corrupted
from al_dgm.nn.noise import BatchNoise, NoNoise, generator

ROWS, D, A, H, C = 40, 5, 2, 7, 3
CORRUPTION = Corruption(inputs=0.8, units=0.3)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def noise(seed=9):
    return BatchNoise(generator(seed))


def standardised(h):
    return (h - h.mean(0)) / (h.var(0, correction=0) + EPSILON).sqrt()


@pytest.fixture
def layer():
    made = CorruptedNorm(H, sd=0.3).double()
    with torch.no_grad():
        made.scale.copy_(random(H, seed=1))
        made.shift.copy_(random(H, seed=2))
    return made


@pytest.fixture
def network():
    return CorruptedMLP([D, A], [H], C, CORRUPTION).double()


def test_noise_is_added_between_normalisation_and_scale(layer):
    h = random(ROWS, H)
    expected = (standardised(h) + 0.3 * noise().normal(h.shape)) * layer.scale + layer.shift
    torch.testing.assert_close(layer(h, noise()), expected)


def test_clean_passes_and_prediction_have_no_noise(layer):
    h = random(ROWS, H)
    plain = standardised(h) * layer.scale + layer.shift
    with clean(layer):
        torch.testing.assert_close(layer(h, noise()), plain)
    assert not torch.allclose(layer(h, noise()), plain)
    layer.eval()
    expected = (h - layer.mean) / (layer.variance + EPSILON).sqrt() * layer.scale + layer.shift
    torch.testing.assert_close(layer(h, noise()), expected)


def test_the_population_is_what_passed_undisturbed(layer):
    h = random(ROWS, H)
    with population_statistics(layer):
        layer(100 * h, noise())
        with clean(layer):
            layer(h, noise())
    torch.testing.assert_close(layer.mean, h.mean(0))
    torch.testing.assert_close(layer.variance, h.var(0, correction=0))


def test_a_pass_is_normalised_by_its_own_rows_whatever_others_share(layer):
    h, other = random(ROWS, H), random(ROWS, H, seed=3)
    alone = layer(h, NoNoise())
    with weighted_rows(layer, torch.arange(ROWS).double()):
        torch.testing.assert_close(layer(h, NoNoise()), alone)
        layer(5 * other, NoNoise())
    with same_statistics(layer):
        torch.testing.assert_close(layer(h, NoNoise()), alone)


@pytest.mark.parametrize("sets", [(30, 10), (0, ROWS), (ROWS, 0)])
def test_sets_that_are_apart_are_normalised_each_by_itself(layer, sets):
    """The noise is that of one pass over all of them; a set may be empty."""
    h = random(2, ROWS, H)
    first, second = (layer(part, NoNoise()) if part.numel() else part for part in h.split(sets, dim=-2))
    with apart(layer, sets):
        torch.testing.assert_close(layer(h, NoNoise()), torch.cat([first, second], dim=-2))
        disturbed = layer(h, noise()) - layer(h, NoNoise())
    torch.testing.assert_close(disturbed, 0.3 * noise().normal(h.shape) * layer.scale)
    assert not layer.sets


def test_the_network_is_disturbed_at_its_first_input_its_units_and_its_outputs(network):
    """The same, in plain formulas with the same numbers in the order in which they are asked for."""
    x, a, source = random(ROWS, D), random(ROWS, A, seed=1), noise()
    first, last = network.layers
    seen = torch.cat([x + CORRUPTION.inputs * source.normal(x.shape), a], dim=-1)
    units = standardised(seen @ first.weight) + CORRUPTION.units * source.normal((ROWS, H))
    outputs = standardised(F.relu(units) @ last.weight) + CORRUPTION.units * source.normal((ROWS, C))
    torch.testing.assert_close(network(x, a, noise=noise()), outputs)


def test_outputs_cannot_shrink_to_the_same(network):
    """However small the weights, each output has variance 1 over the rows of a clean pass."""
    with torch.no_grad(), clean(network):
        network.layers[-1].weight.mul_(0.1)
        found = network(random(ROWS, D), random(ROWS, A, seed=1), noise=noise())
    torch.testing.assert_close(found.var(0, correction=0), torch.ones(C).double(), rtol=0.01, atol=0)


def test_a_classifier_is_plain_unless_it_is_to_be_disturbed():
    assert not corrupted(classifier([D], [H], C, [], bayesian=False))
    assert corrupted(classifier([D], [H], C, [1.0, 0.3], bayesian=False))
    with pytest.raises(ConfigError, match=r"^corruption: expected \[input, units\], .*got \[0.3\]"):
        classifier([D], [H], C, [0.3], bayesian=False)
