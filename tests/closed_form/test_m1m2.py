"""M1+M2 where the answer is known: a linear-Gaussian chain of which M2 models two of three features.

z₂ ~ N(0, I)    (z₁)_active | y, z₂ ~ N(Kz₂ + Vy, v)    (z₁)_rest ~ N(0, 1)    x | z₁ ~ N(Uz₁ + b, s² I)
"""

import math

import pytest
import torch
from linear_gaussian import NOISE, SPACE, C, D, Z, condition, eye, set_network
from torch import Tensor
from torch.distributions import MultivariateNormal

from al_dgm.models.m1m2 import M1M2
from al_dgm.nn.noise import BatchNoise, generator

B, FEATURES = 4, 3  # of z₁
VARIANCE = 0.6  # v
ACTIVE, REST = [0, 2], [1]


def chain(V: Tensor) -> tuple[M1M2, MultivariateNormal]:
    """The model and p(x | y); its inference is exact where V = 0."""
    model = M1M2(SPACE, [], Z, Z, m1_hidden=2 * D, m1_latent=FEATURES, bayesian="none").double()
    model.active.copy_(torch.tensor(ACTIVE))
    stream = generator(3)
    U = torch.linalg.qr(torch.randn(D, FEATURES, generator=stream).double())[0] * torch.tensor([1.5, 0.7, 1.1])
    K, b = torch.tensor([0.8, -1.1]).double().diag(), torch.randn(D, generator=stream).double()
    own = eye(Z + FEATURES + D)  # the sources of z₂, z₁ and x
    to_z2, to_z1 = own[:Z], own[Z : Z + FEATURES].clone()
    to_z1[ACTIVE] = K @ to_z2 + math.sqrt(VARIANCE) * to_z1[ACTIVE]
    to_x = U @ to_z1 + math.sqrt(NOISE) * own[Z + FEATURES :]
    joint = torch.cat([to_z2, to_z1[ACTIVE], to_z1[REST], to_x])
    covariance = joint @ joint.T
    z2, active, z1, x = slice(0, Z), slice(Z, 2 * Z), slice(Z, Z + FEATURES), slice(Z + FEATURES, None)
    order = torch.argsort(torch.tensor(ACTIVE + REST))
    gain, variance = condition(covariance, z1, x)
    set_network(model.m1.encoder[0], [("x", gain[order])], -gain[order] @ b, variance[order])
    set_network(model.m1.decoder[0], [("z", U)], b, torch.full((D,), NOISE, dtype=torch.float64))
    gain, variance = condition(covariance, z2, active)
    set_network(model.encoder, [("z", gain), ("y", -gain @ V)], torch.zeros(Z).double(), variance)
    at_zero = torch.zeros(Z).double()
    set_network(model.decoder, [("y", V), ("z", K)], at_zero, at_zero + VARIANCE)
    means = (U[:, ACTIVE] @ V).T + b
    return model, MultivariateNormal(means, covariance[x, x])


@pytest.fixture
def x():
    return 2 * torch.randn(B, D, generator=generator(7)).double()


def log_weights(model: M1M2, x: Tensor, samples: int) -> Tensor:
    """Of every class, [S, B, C]."""
    noises = (BatchNoise(generator(c)) for c in range(C))
    return torch.stack([model.log_weights(x, torch.full((len(x),), c), n, samples) for c, n in enumerate(noises)], -1)


def test_log_weights_at_the_exact_posterior_are_the_evidence_draw_by_draw(x):
    """Where y tells nothing, q(z₁ | x) is exact; the feature that M2 does not model keeps its prior."""
    model, p_x = chain(torch.zeros(Z, C).double())
    evidence = p_x.log_prob(x[:, None]) - math.log(C)
    torch.testing.assert_close(log_weights(model, x, 5), evidence.expand(5, B, C), atol=1e-6, rtol=0)


def test_weights_average_to_the_evidence_where_the_class_moves_the_features(x):
    """E[w] = p(x, y) for any q: within five of its own standard errors."""
    model, p_x = chain(torch.tensor([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]]).double())
    evidence = p_x.log_prob(x[:, None]) - math.log(C)
    ratio = (log_weights(model, x, 20_000) - evidence).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert error.max() < 0.1
    assert ((ratio.mean(0) - 1).abs() <= 5 * error).all()


def test_the_most_variable_latents_become_the_features(x):
    """Of z₁'s means over the data; M1 is fixed from then on."""
    model, _ = chain(torch.zeros(Z, C).double())
    scale = torch.tensor([0.5, 3.0, 2.0]).double()
    with torch.no_grad():
        last = model.m1.encoder[0].layers[-1]
        last.weight[:, :FEATURES] *= scale
    many = 2 * torch.randn(3000, D, generator=generator(8)).double()
    model.build_on(many)
    means = model.m1.represent(many, BatchNoise(generator(0)))
    assert model.active.tolist() == sorted(means.var(0).argsort(descending=True)[:2].tolist()) == [1, 2]
    assert not any(parameter.requires_grad for parameter in model.m1.parameters())
    assert not model.train().m1.training
