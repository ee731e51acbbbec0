"""What the linear-Gaussian test cases share: networks that compute affine maps, and conditionals.

A network with ReLU layers is linear where it holds every input and its negative: u = relu(u) − relu(−u).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from al_dgm.models import Space
from al_dgm.models.bdgm import BDGM
from al_dgm.models.observation import Gaussian
from al_dgm.nn.mlp import MLP

C, D, Z = 3, 6, 2
NOISE, AUXILIARY_NOISE = 0.3, 0.5  # s², s_a²
SPACE = Space(D, C, Gaussian(), centre=0.4, spread=2.5)  # networks read x standardised and y scaled: see `Space`


def eye(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def affine(inputs: Sequence[tuple[str, Tensor]], bias: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix [outputs, fan-in] and offset of Σ G_i u_i + bias of plain x, y, or latents u_i, on what is read of them.

    A network reads scale · u + shift.
    """
    columns, offset = [], bias.clone()
    for kind, matrix in inputs:
        centre, spread = (SPACE.centre, SPACE.spread) if kind == "x" else (0.0, 1.0)
        scale = math.sqrt(C) if kind == "y" else 1 / spread
        shift = torch.tensor(-centre / spread, dtype=torch.float64)
        columns.append(matrix / scale)
        offset = offset - (matrix * shift / scale).sum(1)
    return torch.cat(columns, dim=1), offset


def set_network(
    network: MLP,
    inputs: Sequence[tuple[str, Tensor]],
    bias: Tensor,
    variance: Tensor | None,
    read: Tensor | None = None,
) -> None:
    """Make a network compute Σ G_i u_i + bias, and the log-variance, of u = ``read``ᵀ input."""
    matrix, offset = affine(inputs, bias)
    *hidden, last = network.layers
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.zero_()
            layer.bias.zero_()
        rows = matrix.T
        if hidden:
            read = eye(matrix.shape[1]) if read is None else read
            hidden[0].weight[:, : 2 * read.shape[1]] = torch.cat([read, -read], dim=1)
            rows = torch.cat([rows, -rows])
        for layer in hidden[1:]:
            layer.weight[: len(rows), : len(rows)] = eye(len(rows))
        last.weight[: len(rows), : len(bias)] = rows
        last.bias[: len(bias)] = offset
        if variance is not None:
            last.bias[len(bias) :] = variance.log()


def condition(covariance: Tensor, of: slice, on: slice) -> tuple[Tensor, Tensor]:
    """Gain and variances of a Gaussian conditional; refuses one that is not diagonal."""
    gain = covariance[of, on] @ torch.linalg.inv(covariance[on, on])
    remaining = covariance[of, of] - gain @ covariance[on, of]
    torch.testing.assert_close(remaining, remaining.diag().diag(), atol=1e-12, rtol=0)
    return gain, remaining.diag()


def assert_draws_have(x: Tensor, mean: Tensor, covariance: Tensor) -> None:
    """Draws [N, D]: each mean and each covariance is the expected one within five of its own standard errors."""
    assert_mean_is(x, mean, dim=0)
    centred = x - mean
    assert_mean_is(centred[:, :, None] * centred[:, None, :], covariance, dim=0)


def assert_mean_is(samples: Tensor, expected: Tensor, dim: int) -> None:
    """The mean over ``dim`` is ``expected`` within five of its own standard errors."""
    error = samples.std(dim) / math.sqrt(samples.shape[dim])
    assert ((samples.mean(dim) - expected).abs() <= 5 * error + 1e-9).all()


def exact_poster_model() -> tuple[BDGM, MultivariateNormal, Tensor, Callable[[Tensor], Tensor]]:
    """BDGM with exact inference networks, p(x), cov(z, x), and log p(y | x) [B, C], which does not depend on z."""
    torch.manual_seed(2)
    model = BDGM(SPACE, hidden=[], latent=Z, bayesian="none", likelihood_weight=1.0).double()
    U = torch.linalg.qr(torch.randn(D, Z).double())[0] * torch.tensor([1.5, 0.7])  # orthogonal: diagonal posterior
    b, R, r = torch.randn(D).double(), torch.randn(C, D).double(), torch.randn(C).double()
    joint = torch.cat([eye(Z), U])
    covariance = joint @ joint.T
    covariance[Z:, Z:] += NOISE * eye(D)
    z, x = slice(0, Z), slice(Z, Z + D)
    gain, variance = condition(covariance, z, x)
    set_network(model.decoder, [("z", U)], b, torch.full((D,), NOISE, dtype=torch.float64))
    set_network(model.encoder, [("x", gain), ("y", torch.zeros(Z, C).double())], -gain @ b, variance)
    set_network(model.predictor, [("x", R), ("z", torch.zeros(C, Z).double())], r, None)
    set_network(model.classifier, [("x", R)], r, None)
    return model, MultivariateNormal(b, covariance[x, x]), covariance, lambda x: (x @ R.T + r).log_softmax(-1)
