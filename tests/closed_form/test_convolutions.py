"""Convolutions as linear maps: against plain loops over positions and taps, and their weights' distribution."""

import math
from itertools import product

import pytest
import torch
from torch import distributions as dist

from al_dgm.nn.bayesian import kl_of_weights, weight_sample
from al_dgm.nn.linear import BayesianLinear, Linear
from al_dgm.nn.maps import Convolution, Grid, TransposedConvolution
from al_dgm.nn.noise import BatchNoise, generator

OUT, ROWS, DRAWS = 3, 4, 6000
GRID = Grid(5, 4, 2)
WINDOWS = {
    "3x3": Convolution(GRID, 3),
    "5x5 stride 2": Convolution(GRID, 5, 2),
    "1x1": Convolution(GRID, 1),
    "3x3 stride 3": Convolution(GRID, 3, 3),
    "mask A": Convolution.before(GRID, 5),
    "mask B": Convolution.up_to(GRID, 3),
    "transposed": TransposedConvolution(Convolution(Grid(5, 4, 7), 3, 2), 2),
    "transposed 5x5": TransposedConvolution(Convolution(Grid(6, 5, 7), 5, 2), 2),
}
every_window = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def noise(seed=0):
    return BatchNoise(generator(seed))


def pairs_of_a_convolution(window):
    """(position read, position made, tap) for every product that the convolution sums, by loops."""
    k, s, made = window.kernel, window.stride, window.makes(1)
    for row, column in product(range(made.height), range(made.width)):
        for tap, (i, j) in enumerate(product(range(k), range(k))):
            y, x = row * s + i - k // 2, column * s + j - k // 2
            inside = 0 <= y < window.reads.height and 0 <= x < window.reads.width
            if inside and (window.taps is None or tap < window.taps):
                yield y * window.reads.width + x, row * made.width + column, tap


def pairs_of(window):
    """The same of either kind: a transposed convolution swaps what is read and made."""
    if isinstance(window, Convolution):
        return list(pairs_of_a_convolution(window))
    return [(made, read, tap) for read, made, tap in pairs_of_a_convolution(window.of)]


def as_matrix(window, weight):
    """The linear map as one matrix [inputs, outputs] that multiplies x from the right."""
    channels, out = window.reads.channels, weight.shape[1]
    matrix = weight.new_zeros(window.reads.size, window.makes(out).size)
    for read, made, tap in pairs_of(window):
        block = weight[tap * channels : (tap + 1) * channels]
        matrix[read * channels : (read + 1) * channels, made * out : (made + 1) * out] = block
    return matrix


@every_window
def test_a_convolution_is_the_sum_over_taps_that_loops_make(window):
    """With leading dimensions; a layer adds its bias at every position."""
    torch.manual_seed(0)
    layer, x = Linear([window], OUT).double(), random(2, ROWS, window.reads.size)
    with torch.no_grad():
        layer.bias += random(OUT)
    assert layer.weight.shape == (window.rows, OUT)
    expected = x @ as_matrix(window, layer.weight) + layer.bias.repeat(window.makes(1).size)
    torch.testing.assert_close(layer(x, noise=noise()), expected)


def test_masks_hide_what_comes_after_in_raster_order():
    """Mask A hides the position itself too; all before it that the window covers are read."""
    for window, last in ((WINDOWS["mask A"], -1), (WINDOWS["mask B"], 0)):
        pairs = {(read, made) for read, made, _ in pairs_of(window)}
        whole = {(read, made) for read, made, _ in pairs_of(Convolution(GRID, window.kernel))}
        assert pairs == {(read, made) for read, made in whole if read - made <= last}


@every_window
def test_the_fan_in_is_the_mean_number_of_products_in_an_output(window):
    """Away from the edge: on a large image the two agree but for its border."""
    large = Grid(60, 60, 2)
    if isinstance(window, Convolution):
        window = Convolution(large, window.kernel, window.stride, window.taps)
    else:
        window = TransposedConvolution(Convolution(large, window.of.kernel, window.of.stride), 2)
    products = len(pairs_of(window))
    assert window.fan_in == pytest.approx(window.reads.channels * products / window.makes(1).size, rel=0.1)
    assert window.reach == pytest.approx(products * window.reads.channels / window.reads.size, rel=0.1)


def test_several_inputs_are_the_sum_of_their_maps():
    """One masked, one not, and a third dimension in the second only: addition broadcasts."""
    torch.manual_seed(0)
    masked, free = Convolution.before(GRID, 3), Convolution(Grid(5, 4, 3), 1)
    layer, x, h = Linear([masked, free], OUT).double(), random(ROWS, 40), random(2, ROWS, 60, seed=1)
    above, below = layer.weight[: masked.rows], layer.weight[masked.rows :]
    expected = x @ as_matrix(masked, above) + h @ as_matrix(free, below)
    torch.testing.assert_close(layer(x, h, noise=noise()), expected)


@pytest.fixture(params=["3x3", "5x5 stride 2", "mask B", "transposed"])
def layer(request):
    torch.manual_seed(0)
    layer = BayesianLinear([WINDOWS[request.param]], OUT, prior_scale=1.3, initial_ratio=0.3)
    with torch.no_grad():
        layer.rho += torch.randn_like(layer.rho)
        layer.bias += torch.randn_like(layer.bias)
    return layer.double()


def exact_moments(layer, x):
    """Of each output under W ~ q: x M + b, and x² σ², by the convolution's matrix."""
    (window,) = layer.maps
    mean = x @ as_matrix(window, layer.mean.detach()) + layer.bias.detach().repeat(window.makes(1).size)
    return mean, x.square() @ as_matrix(window, layer.sd.detach().square())


def outputs(layer, x, mode):
    """``DRAWS`` outputs by local reparameterisation, or by drawing the weights each time."""
    if mode == "local":
        return layer(x.expand(DRAWS, *x.shape), noise=noise()).detach()
    found, stream = [], generator(2)
    for _ in range(DRAWS):
        with weight_sample(layer, stream):
            found.append(layer(x, noise=noise()).detach())
    return torch.stack(found)


@pytest.mark.parametrize("mode", ["local", "sampled"])
def test_both_modes_give_the_exact_mean_and_variance(layer, mode):
    """At every position and channel, within five standard errors of the closed form."""
    x = random(2, layer.maps[0].reads.size, seed=1)
    h = outputs(layer, x, mode)
    mean, variance = exact_moments(layer, x)
    assert ((h.mean(0) - mean).abs() <= 5 * (variance / DRAWS).sqrt()).all()
    assert ((h.var(0) - variance).abs() <= 5 * variance * math.sqrt(2 / DRAWS)).all()


def test_a_weight_sample_is_one_window_at_every_position_and_for_every_example():
    """Moved by one position away from the edge, the input moves the output; in company or alone."""
    torch.manual_seed(0)
    grid = Grid(9, 9, 1)
    layer = BayesianLinear([Convolution(grid, 3)], 1, initial_ratio=0.5)
    x = torch.zeros(2, 9, 9)
    x[0, 3, 3] = x[1, 4, 5] = 1.0
    with weight_sample(layer, generator(0)):
        first, second = layer(x.flatten(1), noise=noise()).view(2, 9, 9)
        alone = layer(x[1:].flatten(1), noise=noise()).view(9, 9)
    torch.testing.assert_close(first[2:5, 2:5], second[3:6, 4:7])
    torch.testing.assert_close(alone, second)
    assert first[2:5, 2:5].unique().numel() == 9


def test_the_divergence_is_that_of_the_weights_that_there_are(layer):
    """Against torch.distributions, and against its Monte Carlo estimate; masked taps are no weights."""
    q, p = dist.Normal(layer.mean, layer.sd), dist.Normal(0.0, 1.3 / math.sqrt(layer.maps[0].fan_in))
    torch.testing.assert_close(layer.kl(), dist.kl_divergence(q, p).sum())
    weights = layer.mean + layer.sd * random(DRAWS, *layer.mean.shape, seed=3)
    estimates = (q.log_prob(weights) - p.log_prob(weights)).sum((1, 2)).detach()
    assert (estimates.mean() - layer.kl()).abs() < 5 * estimates.std() / math.sqrt(DRAWS)
    assert list(kl_of_weights(torch.nn.Sequential(layer))) == ["0"]
    assert len(layer.mean) == layer.maps[0].rows


def test_initial_weights_have_the_variance_of_glorot():
    """2 / (fan-in + fan-out), of sums over taps."""
    torch.manual_seed(0)
    convolution = Convolution(Grid(8, 8, 64), 3, 2)
    for window, fans in (
        (convolution, 9 * 64 + 9 * 64 / 4),
        (TransposedConvolution(convolution, 64), 9 * 64 / 4 + 576),
    ):
        weight = Linear([window], 64).weight
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fans), rel=5 / math.sqrt(2 * weight.numel()))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("sizes", [(3, 1), (1, 1), (1, 4), (2, 2)])
def test_rounded_gradients_of_the_smallest_images(sizes, transposed):
    """Where a library's kernels for 8 and 16 bits have gone wrong: one row or one column, and a stride of 2."""
    window = Convolution(Grid(*sizes, 16), 3, 2)
    window = TransposedConvolution(window, 16) if transposed else window
    x, weight = random(ROWS, window.reads.size).float(), random(window.rows, 32, seed=1).float()
    for _ in range(3):  # memory that is used again shows what was never written
        found, expected = (
            torch.func.grad(lambda w, matmul=matmul: window.times(x, w, matmul).square().sum())(weight)
            for matmul in (torch.bfloat16, None)
        )
        assert (found - expected).norm() < 0.02 * expected.norm()


@every_window
def test_rounded_factors_and_derivatives(window):
    """bfloat16 factors give the result to a per cent in the weights' type; gradients are those of differences."""
    torch.manual_seed(0)
    layer, x = Linear([window], OUT), random(ROWS, window.reads.size).float()
    exact = layer(x, noise=noise())
    layer.matmul = torch.bfloat16
    rounded = layer(x, noise=noise())
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.02)
    layer.matmul = None
    layer.double()
    assert torch.autograd.gradcheck(lambda v: layer(v, noise=noise()), random(1, window.reads.size).requires_grad_())
    assert torch.autograd.gradcheck(lambda w: window.times(x.double()[:1], w, None), layer.weight)


def test_under_vmap_every_member_has_its_own_weights_and_gradients():
    window = WINDOWS["5x5 stride 2"]
    weights, x = random(3, window.rows, OUT), random(ROWS, GRID.size, seed=1)

    def loss(weight):
        return window.times(x, weight, None).square().sum()

    found = torch.func.vmap(torch.func.grad(loss))(weights)
    torch.testing.assert_close(found, torch.stack([torch.func.grad(loss)(weight) for weight in weights]))
