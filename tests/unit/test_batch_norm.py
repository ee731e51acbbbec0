"""Rows that do not count alike, and passes that are normalised by another one, against plain formulas."""

import pytest
import torch

from al_dgm.nn.batch_norm import EPSILON, BatchNorm, population_statistics, same_statistics, weighted_rows
from al_dgm.nn.noise import BatchNoise, generator

ROWS, H = 5, 3
WEIGHTS = torch.tensor([1.0, 0.0, 0.5, 0.5, 2.0]).double()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def noise():
    return BatchNoise(generator(9))


@pytest.fixture
def layer():
    made = BatchNorm(H).double()
    with torch.no_grad():
        made.scale.copy_(random(H, seed=1))
        made.shift.copy_(random(H, seed=2))
    return made


def normalised(layer, h, mean, variance):
    return (h - mean) / (variance + EPSILON).sqrt() * layer.scale + layer.shift


@pytest.mark.parametrize("shape", [(ROWS, H), (1, ROWS, H), (4, ROWS, H)])
def test_a_row_counts_by_its_weight(layer, shape):
    """Weight 2 is the row twice, weight 0 not at all, and every row is normalised alike."""
    h = random(*shape)
    twice = torch.cat([h[..., [0, 0, 2, 3], :], h[..., [4, 4, 4, 4], :]], dim=-2).flatten(0, -2)
    expected = normalised(layer, h, twice.mean(0), twice.var(0, correction=0))
    with weighted_rows(layer, WEIGHTS):
        torch.testing.assert_close(layer(h, noise()), expected)
    assert not torch.allclose(layer(h, noise()), expected)


def test_a_layer_uses_the_weights_of_as_many_rows_as_it_sees(layer):
    """Of examples, and of pairs of them."""
    examples, pairs = random(ROWS, H), random(2 * ROWS, H, seed=3)
    with weighted_rows(layer, WEIGHTS):
        first = layer(examples, noise())
    with weighted_rows(layer, torch.arange(2.0 * ROWS).double()):
        second = layer(pairs, noise())
    with weighted_rows(layer, WEIGHTS, torch.arange(2.0 * ROWS).double()):
        torch.testing.assert_close(layer(examples, noise()), first)
        torch.testing.assert_close(layer(pairs, noise()), second)


def test_a_later_pass_is_normalised_by_constants(layer):
    """By μ, σ² of the weighted pass, which get no gradient from it and do not change with it."""
    h, other = random(ROWS, H).requires_grad_(), random(2, H, seed=3)
    with weighted_rows(layer, torch.ones(ROWS).double()):
        layer(h, noise())
    with same_statistics(layer):
        found, again = layer(other, noise()), layer(7 * other, noise())
    rows = h.detach()
    torch.testing.assert_close(found, normalised(layer, other, rows.mean(0), rows.var(0, correction=0)))
    torch.testing.assert_close(again, normalised(layer, 7 * other, rows.mean(0), rows.var(0, correction=0)))
    found.sum().backward()
    assert h.grad is None
    assert layer.latest is None


def test_a_pass_by_the_statistics_of_another_is_none_of_the_population(layer):
    h = random(ROWS, H)
    with population_statistics(layer):
        with weighted_rows(layer, WEIGHTS):
            layer(h, noise())
        with same_statistics(layer):
            layer(100 * h, noise())
    torch.testing.assert_close(layer.mean, (WEIGHTS @ h) / WEIGHTS.sum())
