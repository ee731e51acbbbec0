"""ADGM and SDGM with a PixelCNN: what a pixel depends on, and probabilities of all images, which sum to 1."""

import itertools

import pytest
import torch
from linear_gaussian import assert_mean_is

from al_dgm.errors import ConfigError
from al_dgm.learning.job import ModelSpec
from al_dgm.models.enumerating import Tempering
from al_dgm.nn.noise import BatchNoise, CommonDraws, generator

CLASSES, SHAPE, D, Z, A = ("a", "b", "c"), (2, 3), 6, 3, 2
OPTIONS = {"hidden": [6], "latent": Z, "auxiliary": A, "convolutions": [4, 3], "pixelcnn": [8, 2], "bayesian": "none"}
IMAGES = torch.tensor(list(itertools.product((0, 1), repeat=D))).double()

both = pytest.mark.parametrize("name", ["adgm", "sdgm"])


def noise(seed=0):
    return BatchNoise(generator(seed))


def build(name, **options):
    """A small model whose pixels depend on each other a lot more than on the latents, and p(a | ·) is not the prior."""
    spec = ModelSpec(name, {**OPTIONS, **options}, D, CLASSES, {"kind": "bernoulli"}, 0.4, 0.5, SHAPE)
    model, stream = spec.build(0).double().eval(), generator(0)
    with torch.no_grad():
        for parameter in model.decoder.pixels.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=stream))
        model.auxiliary_decoder.layers[-1].bias.add_(0.3)
    return model


def logits(model, x, y=1):
    """Of p(x_i | x_<i, ·) at one draw of what else the pixels depend on, the same for every x; [B, D]."""
    z, a = (torch.randn(1, size, generator=generator(2)).double().expand(len(x), size) for size in (Z, A))
    given = {"adgm": (), "sdgm": (a,)}[type(model).__name__.lower()]
    labels = model.label(torch.full((len(x),), y))
    return model.describe(model.space.network_input(x), *given, labels, z, noise=noise())


@both
def test_a_pixel_depends_on_those_before_it_and_on_no_other(name):
    """Strictly lower triangular in raster order, and full there: 7 × 7 covers this image."""
    model, x = build(name), torch.rand(8, D, generator=generator(1)).double()
    slopes = torch.autograd.functional.jacobian(lambda v: logits(model, v).sum(0), x)
    moves = slopes.ne(0).any(1)
    assert torch.equal(moves, torch.ones(D, D).tril(-1).bool())


@both
def test_probabilities_of_all_images_sum_to_one(name):
    """Given the latents, for every class."""
    model = build(name)
    for y in range(len(CLASSES)):
        log_p = model.space.observation.log_density(IMAGES, logits(model, IMAGES, y))
        assert log_p.std() > 0.1
        torch.testing.assert_close(log_p.logsumexp(0), torch.zeros(()).double(), atol=1e-9, rtol=0)


@both
def test_importance_weights_of_all_images_sum_to_one_in_expectation(name):
    """E_q[Σ_y p(x, y, a, z) / q(a, z | x, y)] = p(x): the PixelCNN is given x, y, a and z of one and the same row."""
    model = build(name)
    with torch.no_grad():
        weights = torch.cat([model.log_importance(IMAGES, noise(seed), 10).exp().sum(1) for seed in range(40)])
    assert weights.std() > 1e-3
    assert_mean_is(weights, torch.ones(()).double(), dim=0)


class LatentsAtTheirMean(BatchNoise):
    """Uniform numbers that are drawn, normal ones that are not."""

    def normal(self, shape):
        """Zeros."""
        return torch.zeros(shape).double()


@both
def test_pixels_are_generated_one_after_the_other(name):
    """Mean parameters of each pixel at given latents: its marginal probability, by the sum over all images."""
    model, samples = build(name), 4000
    marginal = model.space.observation.log_density(IMAGES, logits(model, IMAGES)).exp() @ IMAGES
    z, a = (torch.randn(1, size, generator=generator(2)).double().expand(samples, size) for size in (Z, A))
    with torch.no_grad():
        last = model.auxiliary_decoder.layers[-1]
        last.weight.zero_()
        last.bias[:A] = a[0]
        generated = torch.sigmoid(model.decode(torch.ones(samples).long(), z, LatentsAtTheirMean(generator(0))))
    assert_mean_is(generated, marginal, dim=0)
    assert generated[:, 0].std() < 1e-12
    assert (generated[:, 1:].std(0) > 1e-3).all()


@both
def test_an_image_is_convolved_once_however_many_classes_it_stands_with(name):
    """The product with x is of B images, what the latents give has a row for each draw and class."""
    model, seen = build(name), []
    first = model.decoder.pixels.first
    first.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].values.shape, output.shape[:2])))
    model.elbo(IMAGES[:7], noise(), 5)
    assert seen == [((7, D), (5, 7 * len(CLASSES)))]


@both
def test_the_bounds_predict_by_an_image_as_those_trained_on(name):
    """Grey values are drawn: a pixel that depends on another has no likelihood linear in it."""
    model, grey = build(name, likelihood_weight=0.3), torch.rand(9, D, generator=generator(1)).double()
    draws = CommonDraws(noise())
    found = model.log_bayes(grey, draws, 2)
    x = model.space.observation.draw(grey, draws.again())
    expected = model.class_bounds(x, draws, 2, Tempering(0.3)).bound.mean(0).log_softmax(-1)
    torch.testing.assert_close(found, expected)


@both
def test_a_reconstruction_sees_the_image(name):
    """Every pixel but the first depends on x by more than its latents."""
    model = build(name)
    with torch.no_grad():
        for network in (model.auxiliary, model.encoder, model.classifier):
            network.layers[-1].weight.zero_()
        found = model.reconstruct(IMAGES, noise())
    assert found[:, 0].std() < 1e-12
    assert (found[:, 1:].std(0) > 1e-4).all()


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixelcnn": [5]}, r"pixelcnn: expected \[channels, residual blocks\], as \[32, 4\], or \[\], got \[5\]$"),
        ({"convolutions": []}, r"pixelcnn: expected convolutions as well, as \[32, 64\], by which"),
        ({"pixelcnn": [5, 0]}, r"pixelcnn\.1: .* greater than 0"),
    ],
)
def test_options_that_make_no_pixelcnn_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=rf"^model\.{name}\.{message}"):
        build(name, **options)
