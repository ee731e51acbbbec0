"""Images as networks read and produce them."""

import pytest
import torch
from small_fit import SPEC

from al_dgm.errors import ConfigError
from al_dgm.learning.job import ModelSpec
from al_dgm.models import Space
from al_dgm.models.images import as_input, as_output
from al_dgm.models.observation import make_observation
from al_dgm.nn.maps import Grid
from al_dgm.nn.mlp import MLP
from al_dgm.nn.noise import NoNoise, generator
from al_dgm.nn.pairs import OfExamples, Pairs
from al_dgm.nn.pictures import Picture, Pyramid

FIRST, LAST = (3, 7, 5), (7, 5, 3)  # the same image with its channels first and last


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((28, 28), Picture(Grid(28, 28, 1))),
        ((28, 20, 1), Picture(Grid(28, 20, 1))),
        ((32, 30, 3), Picture(Grid(32, 30, 3))),
        ((3, 32, 30), Picture(Grid(32, 30, 3), channels_first=True)),
        ((2, 96, 96), Picture(Grid(96, 96, 2), channels_first=True)),
        ((96, 96, 2), Picture(Grid(96, 96, 2))),
        ((2, 4, 3), Picture(Grid(2, 4, 3))),
        ((3, 2, 2), Picture(Grid(2, 2, 3), channels_first=True)),
        ((64,), None),
        ((), None),
        ((4, 8, 8, 3), None),
    ],
)
def test_a_shape_of_two_or_three_dimensions_is_an_image(shape, expected):
    assert Picture.of(shape) == expected


def test_feature_maps_have_the_channels_of_a_position_beside_each_other():
    image = torch.randn(2, *LAST, generator=generator(0))
    first, last = image.movedim(-1, 1).flatten(1), image.flatten(1)
    assert torch.equal(Picture.of(FIRST).maps(first), last)
    assert torch.equal(Picture.of(LAST).maps(last), last)


@pytest.mark.parametrize("shape", [FIRST, LAST])
def test_parameters_stand_as_the_observation_model_reads_them(shape):
    """Feature maps whose channels are the means and log-variances of a position: two images beside each other."""
    images = torch.randn(2, 4, 7, 5, 3, generator=generator(0))  # mean and log-variance, rows, image
    maps = images.movedim(0, -2).flatten(1)
    found = Picture.of(shape).parameters(maps)
    expected = images.movedim(-1, 2) if shape == FIRST else images
    assert torch.equal(found, torch.cat([part.flatten(1) for part in expected], dim=1))


def test_each_layer_halves_the_image_and_back():
    """7 × 5 by way of 4 × 3 to 2 × 2; up to the parameters of every number."""
    pyramid = Pyramid(Picture.of(LAST), (4, 6), parameters=2)
    assert [window.kernel for window in pyramid.windows] == [5, 3]
    assert pyramid.top == Grid(2, 2, 6)
    assert [(down.reads, makes) for down, makes in pyramid.down] == [(Grid(2, 2, 6), 4), (Grid(4, 3, 4), 6)]
    assert pyramid.down[-1][0].makes(6) == Grid(7, 5, 6)


@pytest.mark.parametrize("bayesian", [False, True])
def test_a_network_sees_the_same_image_whichever_way_it_is_stored(bayesian):
    """Channels first and last, as input and as output."""
    outputs = []
    image = torch.randn(2, *LAST, generator=generator(0))
    for shape, x in ((FIRST, image.movedim(-1, 1)), (LAST, image)):
        torch.manual_seed(0)
        pyramid = Pyramid(Picture.of(shape), (4, 6), parameters=2)
        network = MLP([pyramid, 3], [8], pyramid, bayesian=bayesian)
        found = network(x.flatten(1), torch.ones(2, 3), noise=NoNoise())
        parts = [part.unflatten(-1, shape) for part in found.chunk(2, dim=-1)]
        outputs.append([part.movedim(1, -1) if shape == FIRST else part for part in parts])
    torch.testing.assert_close(*outputs)


def test_an_image_is_read_once_for_each_example_however_many_classes_it_stands_with():
    """The same output as for the image repeated, from convolutions of B images instead of R."""
    torch.manual_seed(0)
    pyramid = Pyramid(Picture.of(LAST), (4, 6))
    network, x = MLP([pyramid, 2], [8], 5), torch.randn(3, 105)
    pairs = Pairs(3, torch.empty(0, dtype=torch.int64), None, 4)
    z, seen = torch.randn(12, 2), []
    network.readers[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    found = network(OfExamples(x, pairs), z, noise=NoNoise())
    assert isinstance(seen[0], OfExamples)
    assert len(seen[0].values) == 3
    torch.testing.assert_close(found, network(x.repeat_interleave(4, 0), z, noise=NoNoise()))


def test_without_convolutions_an_image_is_a_row():
    space = Space(12, 3, make_observation("gaussian"), shape=(4, 3))
    assert (as_input(space, []), as_output(space, [])) == (12, 24)
    assert as_output(space, [5]) == Pyramid(Picture(Grid(4, 3, 1)), (5,), parameters=2)


def test_convolutions_of_what_is_no_image_are_refused():
    expected = (
        r"^model\.m2\.convolutions: expected images, of a shape such as \[28, 28\] .*, got examples of shape \[5\]$"
    )
    with pytest.raises(ConfigError, match=expected):
        ModelSpec(**{**vars(SPEC), "options": {"convolutions": [8]}}).build(0)
    with pytest.raises(ConfigError, match=r"^model\.m2\.convolutions\.1: .* greater than 0"):
        ModelSpec(**{**vars(SPEC), "options": {"convolutions": [8, 0]}, "shape": (5, 1)}).build(0)
