"""FAME where the answer is known: what a pixel depends on, and probabilities of all images, which sum to 1."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from linear_gaussian import assert_mean_is

from al_dgm.errors import ConfigError
from al_dgm.learning.job import ModelSpec
from al_dgm.nn.maps import Grid
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.nn.pictures import Picture
from al_dgm.nn.pixelcnn import PixelCNN

OPTIONS = {"hidden": [4, 3], "latents": [3, 2], "pixel_channels": 5, "pixel_blocks": 2, "bayesian": "none"}
CLASSES, TRIALS = ("a", "b"), 2


def noise(seed=0):
    return BatchNoise(generator(seed))


def fame(kind="bernoulli", shape=(3, 3), **options):
    """A small model whose weights are far from where they start, so that nothing is independent by accident."""
    observation = {"kind": kind, "trials": TRIALS}
    options, features = {**OPTIONS, **options}, math.prod(shape)
    model = ModelSpec("fame", options, features, CLASSES, observation, 0.4, 0.5, shape).build(0).double().eval()
    stream = generator(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("decoder"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=stream))
    return model


def parameters(model, x, z):
    """Of p(x | z_1), [S, B, n D]."""
    return model.describe(model.read(x), z, noise())


def jacobian(model, shape):
    """How many channels of each pixel move those of each, [pixels described, pixels read], at any of several x."""
    picture, features = Picture.of(shape), math.prod(shape)
    x = torch.rand(8, features, generator=generator(1)).double()
    z = torch.randn(1, 8, 3, generator=generator(2)).double()
    slopes = torch.autograd.functional.jacobian(lambda v: parameters(model, v, z)[0].sum(0), x)
    moves = slopes.view(-1, features, 8, features).ne(0).any(2).any(0)
    pixels = picture.maps(torch.arange(features)).view(-1, picture.grid.channels)
    return torch.tensor([[moves[rows][:, columns].sum() for columns in pixels] for rows in pixels])


@pytest.mark.parametrize("kind", ["bernoulli", "binomial", "gaussian"])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 3), (3, 3, 4)], ids=["grey", "channels last", "channels first"])
def test_a_pixel_depends_on_those_before_it_and_on_no_other(kind, shape):
    """The Jacobian is strictly lower triangular in raster order, and full there: 7 × 7 covers this image."""
    grid = Picture.of(shape).grid
    expected = torch.ones(grid.height * grid.width, grid.height * grid.width).tril(-1) * grid.channels**2
    assert torch.equal(jacobian(fame(kind, shape), shape), expected.long())


def test_without_concatenation_no_pixel_depends_on_another_and_nothing_is_masked():
    model = fame(concatenate=False)
    assert jacobian(model, (3, 3)).sum() == 0
    assert [layer.maps[0].rows for layer in model.decoder[0].pixels.blocks] == [9 * 5] * 2


def test_deeper_layers_see_what_is_further_away():
    """Each residual block carries what was seen by one position to the left or right, and by one row down."""
    torch.manual_seed(0)
    picture, reach = Picture(Grid(1, 30, 1)), []
    for blocks in (0, 3):
        network = PixelCNN(picture, 1, 8, blocks, 1).double()
        found = torch.autograd.functional.jacobian(
            lambda x, network=network: network(x[None], torch.ones(1, 30).double(), noise=noise())[0],
            torch.randn(30).double(),
        )
        reach.append(int(found[-1].abs().gt(0).sum()))
    assert reach == [3, 6]


def test_a_residual_block_without_weights_changes_nothing():
    with_blocks, without = fame(), fame(pixel_blocks=0)
    with torch.no_grad():
        for layer in with_blocks.decoder[0].pixels.blocks:
            layer.weight.zero_()
            layer.bias.zero_()
        without.load_state_dict(with_blocks.state_dict(), strict=False)
    x, z = images((0, 1), 9), torch.randn(2, 512, 3, generator=generator(0)).double()
    torch.testing.assert_close(parameters(with_blocks, x, z), parameters(without, x, z))


def images(values, features):
    """All of them, [values^D, D]."""
    return torch.tensor(list(itertools.product(values, repeat=features))).double()


@pytest.mark.parametrize("concatenate", [True, False])
def test_pixels_are_generated_one_after_the_other(concatenate, monkeypatch):
    """Mean parameters of each pixel at given z_1: its marginal probability, by the sum over all images."""
    model, x, samples = fame(shape=(2, 3), concatenate=concatenate), images((0, 1), 6), 4000
    z = torch.randn(1, 3, generator=generator(2)).double()
    monkeypatch.setattr(model, "from_the_top", lambda _, count: z.expand(count, 3))
    with torch.no_grad():
        every = parameters(model, x, z.expand(1, len(x), 3))[0]
        probability = model.space.observation.log_density(x, every).exp()
        generated = torch.sigmoid(model.generate(noise(), samples))
    assert_mean_is(generated, probability @ x, dim=0)
    assert generated[:, 0].std() < 1e-12
    assert (generated[:, 1:].std(0) > 0.01).all() == concatenate


@pytest.mark.parametrize("concatenate", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape", "values"),
    [("bernoulli", (3, 3), (0, 1)), ("bernoulli", (2, 2, 3)[::-1], (0, 1)), ("binomial", (3, 2), (0, 0.5, 1))],
    ids=["bernoulli", "channels", "binomial"],
)
def test_probabilities_of_all_images_sum_to_one(kind, shape, values, concatenate):
    """For each of several z; a term that saw its own pixel would not."""
    model, x = fame(kind, shape, concatenate=concatenate), images(values, math.prod(shape))
    z = torch.randn(3, 1, 3, generator=generator(2)).double().expand(3, len(x), 3)
    with torch.no_grad():
        log_p = model.space.observation.log_density(x, parameters(model, x, z))
    assert log_p.std() > 0.1
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(3).double(), atol=1e-9, rtol=0)


def test_the_density_of_two_real_pixels_integrates_to_one():
    """On a grid, and the second one's mean depends on the first."""
    model, axis = fame("gaussian", (1, 2)), torch.linspace(-20, 20, 161).double()
    x = torch.cartesian_prod(axis, axis)
    z = torch.randn(1, 1, 3, generator=generator(2)).double().expand(1, len(x), 3)
    with torch.no_grad():
        found = parameters(model, x, z)
        log_p = model.space.observation.log_density(x, found)
    assert found[0, :, 1].std() > 0.01
    assert log_p.exp().sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("concatenate", [True, False])
def test_importance_weights_of_all_images_sum_to_one_in_expectation(concatenate):
    """E_q[p(x, z) / q(z | x)] = p(x), with all L layers: a term that is missing or of another draw would show."""
    model, x = fame(concatenate=concatenate), images((0, 1), 9)
    with torch.no_grad():
        for network in model.encoder:  # whose guesses start as the prior
            network.layers[-1].bias.add_(0.3)
        weights = torch.cat([model.log_importance(x, noise(seed), 10).exp().sum(1) for seed in range(20)])
    assert weights.std() > 1e-3
    assert_mean_is(weights, torch.ones(()).double(), dim=0)


def test_an_image_is_convolved_once_however_many_draws_there_are():
    """The product with x is of B images, that with z_1 of S times as many."""
    model, seen = fame(), []
    first = model.decoder[0].pixels.first
    first.register_forward_hook(lambda module, inputs, output: seen.append([len(x.flatten(0, -2)) for x in inputs]))
    model.elbo(images((0, 1), 9)[:7], noise(), 5)
    assert seen == [[7, 35]]


def test_table_1_is_built_as_it_stands():
    """28 × 28 to 1 × 1 in five levels, latents of 64 to 4, a 7 × 7 mask A and four residual 3 × 3 mask B layers."""
    options = {"hidden": [64] * 5, "latents": [64, 32, 16, 8, 4], "pixel_channels": 64, "batch_norm": True}
    spec = ModelSpec("fame", options, 784, CLASSES, {"kind": "bernoulli"}, 0.1, 0.3, (28, 28))
    model = spec.build(0)
    sizes = [[layer.maps[0].makes(1).height for layer in network.layers[:-1]] for network in model.encoder]
    assert sizes == [[14, 14], [7, 7], [4, 4], [2, 2], [1, 1]]
    assert [network.layers[-1].weight.shape[1] for network in model.encoder] == [128, 64, 32, 16, 8]
    pixels = model.decoder[0].pixels
    assert [m.rows for m in pixels.first.maps] == [24, 64]
    assert [layer.weight.shape for layer in pixels.blocks] == [(5 * 64, 64)] * 4
    assert [layer.weight.shape for layer in pixels.last] == [(64, 64), (64, 64), (64, 1)]
    with pytest.raises(ConfigError, match=r"^model\.fame\.hidden: expected images, .* got examples of shape \[784\]"):
        replace(spec, shape=(784,)).build(0)
