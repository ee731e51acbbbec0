"""Bayesian weights: the KL, and local reparameterisation against explicit weight samples."""

import math

import pytest
import torch
from scipy import stats
from torch import distributions as dist
from torch import nn

from al_dgm.nn.bayesian import bayesian_layers, kl_of_weights, mean_weights, weight_sample
from al_dgm.nn.linear import BayesianLinear, Linear
from al_dgm.nn.mlp import MLP
from al_dgm.nn.noise import BatchNoise, CommonNoise, DrawnNoise, JoinedNoise, RecordedNoise, generator

INPUTS, OUTPUTS, ROWS, DRAWS = (3, 2), 4, 5, 8000


def noise(seed: int = 0) -> BatchNoise:
    return BatchNoise(generator(seed))


@pytest.fixture
def layer():
    torch.manual_seed(0)
    layer = BayesianLinear(INPUTS, OUTPUTS, prior_scale=1.3, initial_ratio=0.3)
    with torch.no_grad():
        layer.rho += torch.randn_like(layer.rho)
        layer.bias += torch.randn_like(layer.bias)
    return layer.double()


@pytest.fixture
def inputs():
    stream = generator(1)
    return [torch.randn(ROWS, size, generator=stream, dtype=torch.float64) for size in INPUTS]


def pre_activations(layer, inputs, mode):
    """``DRAWS`` outputs [DRAWS, ROWS, OUTPUTS] by local reparameterisation, or by drawing the weights each time."""
    if mode == "local":
        return layer(*(x.expand(DRAWS, *x.shape) for x in inputs), noise=noise()).detach()
    outputs, stream = [], generator(2)
    for _ in range(DRAWS):
        with weight_sample(layer, stream):
            outputs.append(layer(*inputs, noise=noise()).detach())
    return torch.stack(outputs)


def exact_moments(layer, inputs):
    """h ~ N(M x + b, Σ x² σ²), written with the weights as one matrix."""
    x = torch.cat(inputs, dim=1)
    return x @ layer.mean.detach() + layer.bias.detach(), x.square() @ layer.sd.detach().square()


@pytest.mark.parametrize("mode", ["local", "sampled"])
def test_both_modes_give_the_exact_mean_and_variance(layer, inputs, mode):
    """Mean and variance of each pre-activation within five standard errors of the closed form."""
    h = pre_activations(layer, inputs, mode)
    mean, variance = exact_moments(layer, inputs)
    assert ((h.mean(0) - mean).abs() < 5 * (variance / DRAWS).sqrt()).all()
    assert ((h.var(0) - variance).abs() < 5 * variance * math.sqrt(2 / DRAWS)).all()


def correlation(h, first, second):
    return torch.corrcoef(torch.stack([h[:, first, 0], h[:, second, 0]]))[0, 1].item()


def test_rows_are_independent_locally_and_share_one_function_when_sampled(layer, inputs):
    """Two rows with the same input: uncorrelated under local reparameterisation, identical under a weight sample."""
    twice = [torch.cat([x[:1], x[:1]]) for x in inputs]
    assert abs(correlation(pre_activations(layer, twice, "local"), 0, 1)) < 5 / math.sqrt(DRAWS)
    sampled = pre_activations(layer, twice, "sampled")
    assert torch.equal(sampled[:, 0], sampled[:, 1])


def test_the_mean_mode_is_the_posterior_mean(layer, inputs):
    with mean_weights(layer):
        found = layer(*inputs, noise=noise())
    torch.testing.assert_close(found, exact_moments(layer, inputs)[0])


def test_the_divergence_is_the_sum_of_torch_distributions(layer):
    """Summed over weights: neither averaged nor divided by the number of layers; the bias is a point."""
    prior = dist.Normal(0.0, 1.3 / math.sqrt(sum(INPUTS)))
    expected = dist.kl_divergence(dist.Normal(layer.mean, layer.sd), prior).sum()
    torch.testing.assert_close(layer.kl(), expected)
    pair = nn.Sequential(layer, layer, Linear(INPUTS, 2))
    assert list(kl_of_weights(pair)) == ["0"]  # a layer that is used twice has one distribution
    assert kl_of_weights(Linear(INPUTS, 2)) == {}


def test_the_divergence_is_its_monte_carlo_estimate(layer):
    """E_q[log q(W) − log p(W)] within five standard errors."""
    q, p = dist.Normal(layer.mean, layer.sd), dist.Normal(0.0, layer.prior_sd)
    weights = layer.mean + layer.sd * torch.randn(DRAWS, *layer.mean.shape, generator=generator(3)).double()
    estimates = (q.log_prob(weights) - p.log_prob(weights)).sum((1, 2)).detach()
    error = estimates.std() / math.sqrt(DRAWS)
    assert (estimates.mean() - layer.kl()).abs() < 5 * error


def test_the_divergence_vanishes_at_the_prior_and_nowhere_is_negative(layer):
    with torch.no_grad():
        layer.mean.zero_()
        layer.rho.fill_(40.0)
    assert layer.kl().item() == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        layer.rho.fill_(-120.0)
    assert math.isfinite(layer.kl().item())


def test_the_posterior_is_never_wider_than_the_fan_in_scaled_prior(layer):
    """σ < prior_scale / √fan_in whatever ρ, and starts at ``initial_ratio`` of it."""
    fresh = BayesianLinear(INPUTS, OUTPUTS, prior_scale=1.3, initial_ratio=0.3)
    torch.testing.assert_close(fresh.sd, torch.full_like(fresh.sd, 0.3 * 1.3 / math.sqrt(sum(INPUTS))))
    with torch.no_grad():
        layer.rho.fill_(50.0)
    assert (layer.sd <= layer.prior_sd).all()


def test_a_weight_sample_is_named_by_its_generator_alone(layer, inputs):
    """The same seed gives the same function, another seed another; it is forgotten afterwards, failure or not."""
    outputs = []
    for seed in (5, 5, 6):
        with weight_sample(layer, generator(seed)):
            outputs.append(layer(*inputs, noise=noise(seed)))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    with pytest.raises(ZeroDivisionError), weight_sample(layer, generator(0)):
        1 / 0  # noqa: B018
    assert (layer.mode, layer._sample) == ("local", None)


def test_sampled_mode_without_a_draw_is_refused(layer, inputs):
    layer.mode = "sampled"
    with pytest.raises(RuntimeError, match="none were drawn"):
        layer(*inputs, noise=noise())


def test_a_split_layer_is_one_linear_layer_on_the_concatenation(inputs):
    """Leading dimensions broadcast: y enumerated beside x costs no copy of x, and changes nothing."""
    torch.manual_seed(0)
    layer = Linear(INPUTS, OUTPUTS).double()
    x, y = inputs[0], torch.eye(2).double()
    found = layer(x[:, None], y[None], noise=noise())
    tiled = torch.cat([x.repeat_interleave(2, 0), y.repeat(ROWS, 1)], dim=1)
    expected = nn.functional.linear(tiled, layer.weight.T, layer.bias).view(ROWS, 2, OUTPUTS)
    torch.testing.assert_close(found, expected)


def test_initial_weights_have_the_variance_of_glorot_over_the_whole_fan_in():
    """Var W = 2 / (fan_in + fan_out) for all blocks together, or what the head asks for; within five errors."""
    torch.manual_seed(0)
    for init_sd, expected in ((None, math.sqrt(2 / 900)), (1e-3, 1e-3)):
        weight = Linear((300, 100), 500, init_sd=init_sd).weight
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))


def test_the_networks_of_a_bayesian_mlp_are_bayesian_throughout():
    network = MLP([2, 3], [4, 4], 2, bayesian=True)
    assert list(bayesian_layers(network)) == ["layers.0", "layers.1", "layers.2"]
    assert bayesian_layers(MLP([2, 3], [4, 4], 2)) == {}


def test_an_all_zero_input_has_finite_gradients(layer):
    """Variance 0, where the square root has no derivative."""
    layer(torch.zeros(1, 3).double(), torch.zeros(1, 2).double(), noise=noise()).sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def test_workers_share_one_stream_of_training_noise():
    """The rows that two workers draw are the rows that one worker draws."""
    whole = BatchNoise(generator(0)).normal(torch.Size([6, 2]))
    parts = [BatchNoise(generator(0), rank, 2).normal(torch.Size([3, 2])) for rank in range(2)]
    assert torch.equal(torch.cat(parts), whole)


def test_two_sets_in_one_pass_draw_from_streams_of_their_own():
    """Unlabelled rows first, then labelled; examples and (example, class) pairs alike."""
    joined = JoinedNoise(BatchNoise(generator(0)), BatchNoise(generator(1)), (4, 3))
    unlabelled, labelled = BatchNoise(generator(0)), BatchNoise(generator(1))
    for rows in (4, 4 * 5):  # as examples, and with five classes each
        found = joined.normal(torch.Size([2, rows + 3, 6]))
        assert torch.equal(found[:, :rows], unlabelled.normal(torch.Size([2, rows, 6])))
        assert torch.equal(found[:, rows:], labelled.normal(torch.Size([2, 3, 6])))
    alone = JoinedNoise(BatchNoise(generator(0)), BatchNoise(generator(1)), (0, 3)).uniform(torch.Size([3, 2]))
    assert torch.equal(alone, BatchNoise(generator(1)).uniform(torch.Size([3, 2])))


def test_labelled_rows_that_are_enumerated_too_draw_from_their_own_stream():
    """Examples, and five pairs of each; also where there is one set only."""
    for sizes in ((4, 3), (0, 3), (4, 0)):
        joined = JoinedNoise(BatchNoise(generator(0)), BatchNoise(generator(1)), sizes, enumerated=True)
        sources = BatchNoise(generator(0)), BatchNoise(generator(1))
        for width in (1, 5):
            found = joined.normal(torch.Size([2, sum(sizes) * width, 6]))
            parts = [s.normal(torch.Size([2, n * width, 6])) for s, n in zip(sources, sizes, strict=True) if n]
            assert torch.equal(found, torch.cat(parts, dim=1))


def test_numbers_that_were_drawn_beforehand_are_those_that_would_have_been_drawn():
    shapes = [("normal", torch.Size([2, 3])), ("uniform", torch.Size([4, 1])), ("normal", torch.Size([1, 5]))]
    recorded, direct = RecordedNoise(noise()), noise()
    first = [getattr(recorded, kind)(shape) for kind, shape in shapes]
    assert recorded.asked == shapes
    drawn = DrawnNoise.as_asked(noise(), recorded.asked)
    for (kind, shape), value in zip(shapes, first, strict=True):
        assert torch.equal(value, getattr(direct, kind)(shape))
        assert torch.equal(value, getattr(drawn, kind)(shape))


def common_draws(seeds, *shapes):
    """Draws of ``shapes`` [S, rows, Z] from one noise per seed, each [seeds, S, Z]."""
    noises = [CommonNoise(generator(seed)) for seed in range(seeds)]
    return [torch.stack([noise.normal(torch.Size(shape))[:, 0] for noise in noises]) for shape in shapes]


def test_common_noise_is_standard_normal_and_two_draws_are_independent():
    """Over seeds: every point of the sequence in every dimension, and the products of two draws' points."""
    first, second = common_draws(1000, (4, 7, 2), (4, 7, 2))
    for draws in (first[:, s, d] for s in range(4) for d in range(2)):
        assert stats.kstest(draws.numpy(), "norm").pvalue > 1e-3
    products = (first[..., None] * second[..., None, :]).mean(0)  # sd of a product of independent normals is 1
    assert products.abs().max() < 4.5 / math.sqrt(1000)


def test_common_noise_fills_the_space():
    """The mean of Σ_d z_d over 16 points in 10 dimensions: of independent draws it has variance 10/16."""
    (draws,) = common_draws(300, (16, 7, 10))
    assert draws.sum(-1).mean(1).var() < 0.2 * 10 / 16


def test_common_noise_is_the_same_for_every_example():
    drawn = CommonNoise(generator(0)).normal(torch.Size([3, 7, 2]))
    assert drawn.shape == (3, 1, 2)
    assert torch.equal(drawn, CommonNoise(generator(0)).normal(torch.Size([3, 2, 2])))
    uniform = CommonNoise(generator(0)).uniform(torch.Size([7, 1000]))
    assert uniform.shape == (1, 1000)
    assert (uniform >= 0).all()
    assert (uniform < 1).all()
