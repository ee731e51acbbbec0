"""VAE, AVAE and LVAE where the answer is known: linear-Gaussian hierarchies with their exact posteriors.

    z_2 ~ N(0, I)    z_1 | z_2 ~ N(Kz_2 + c, v I)    a_1 | z_1 ~ N(Gz_1, s_a² I)    x | z_1 ~ N(Uz_1 + b, s² I)

Then log p(x, latents) − log q(latents | x) = log p(x), whatever is drawn.
"""

from dataclasses import dataclass

import pytest
import torch
from linear_gaussian import (
    AUXILIARY_NOISE,
    NOISE,
    SPACE,
    D,
    Z,
    assert_draws_have,
    assert_mean_is,
    condition,
    eye,
    set_network,
)
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

from al_dgm.learning.density import log_likelihood
from al_dgm.models.avae import AVAE
from al_dgm.models.density import DensityModel
from al_dgm.models.lvae import LVAE, precision_weighted
from al_dgm.models.vae import VAE
from al_dgm.nn.noise import BatchNoise, generator

B, HIDDEN = 4, 2 * (D + Z)  # the widest network reads x and one latent
BETWEEN = 0.6  # v


def constant(size: int, value: float) -> Tensor:
    return torch.full((size,), value, dtype=torch.float64)


@dataclass(frozen=True)
class Hierarchy:
    """The generative model; L = 1 where z_1 has a standard normal prior."""

    layers: int
    U: Tensor
    K: Tensor
    G: Tensor
    b: Tensor
    c: Tensor

    @classmethod
    def of(cls, layers: int) -> "Hierarchy":
        """Dimensions coupled one by one, and U with orthogonal columns: every conditional is diagonal."""
        stream = generator(layers)
        U = torch.linalg.qr(torch.randn(D, Z, generator=stream).double())[0] * torch.tensor([1.5, 0.7])
        K, G = (torch.tensor(values).double().diag() for values in ([0.8, -1.1], [-0.5, 0.9]))
        b, c = torch.randn(D, generator=stream).double(), torch.tensor([0.7, -0.3]).double()
        return cls(layers, U, K, G, b, c) if layers == 2 else cls(1, U, 0 * K, G, b, 0 * c)

    @property
    def covariance(self) -> Tensor:
        """Of z_2, z_1, a_1, x."""
        own = eye(3 * Z + D)
        to_z2 = own[:Z]
        to_z1 = self.K @ to_z2 + (BETWEEN if self.layers == 2 else 1.0) ** 0.5 * own[Z : 2 * Z]
        to_a = self.G @ to_z1 + AUXILIARY_NOISE**0.5 * own[2 * Z : 3 * Z]
        to_x = self.U @ to_z1 + NOISE**0.5 * own[3 * Z :]
        joint = torch.cat([to_z2, to_z1, to_a, to_x])
        return joint @ joint.T

    @property
    def means(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of z_1, a_1, x."""
        return self.c, self.G @ self.c, self.U @ self.c + self.b

    def p_x(self) -> MultivariateNormal:
        """The evidence."""
        return MultivariateNormal(self.means[2], self.covariance[X, X])

    def set_decoder(self, model: DensityModel) -> None:
        """p(x | z_1) and p(z_1 | z_2)."""
        set_network(model.decoder[0], [("z", self.U)], self.b, constant(D, NOISE))
        if self.layers == 2:
            set_network(model.decoder[1], [("z", self.K)], self.c, constant(Z, BETWEEN))


Z2, Z1, A, X, AX = slice(0, Z), slice(Z, 2 * Z), slice(2 * Z, 3 * Z), slice(3 * Z, None), slice(2 * Z, None)


def exact_vae(h: Hierarchy) -> DensityModel:
    model = VAE(SPACE, [HIDDEN] * h.layers, [Z] * h.layers, bayesian="none").double()
    h.set_decoder(model)
    z1, _, x = h.means
    gain, variance = condition(h.covariance, Z1, X)
    set_network(model.encoder[0], [("x", gain)], z1 - gain @ x, variance)
    if h.layers == 2:
        gain, variance = condition(h.covariance, Z2, Z1)
        set_network(model.encoder[1], [("z", gain)], -gain @ z1, variance)
    return model


def exact_avae(h: Hierarchy) -> DensityModel:
    """a_2 is noise of its own: p(a_2 | a_1, z_1, x) of another would depend on z_1, which q(a_2 | a_1, x) does not."""
    L = h.layers
    model = AVAE(SPACE, [HIDDEN] * L, [Z] * L, [Z] * L, bayesian="none").double()
    h.set_decoder(model)
    z1, a, x = h.means
    zero, spread = torch.zeros(Z).double(), constant(Z, AUXILIARY_NOISE)
    no_matter = torch.zeros(Z, Z).double()
    gain, variance = condition(h.covariance, A, X)
    set_network(model.auxiliary[0], [("x", gain)], a - gain @ x, variance)
    gain, variance = condition(h.covariance, Z1, AX)
    set_network(model.encoder[0], [("a", gain[:, :Z]), ("x", gain[:, Z:])], z1 - gain @ torch.cat([a, x]), variance)
    set_network(model.auxiliary_decoder[0], [("z", h.G), ("z", no_matter)][:L], zero, spread)
    if L == 2:
        set_network(model.auxiliary[1], [("a", no_matter), ("x", torch.zeros(Z, D).double())], zero + 0.5, spread)
        set_network(model.auxiliary_decoder[1], [("z", no_matter)], zero + 0.5, spread)
        gain, variance = condition(h.covariance, Z2, Z1)
        set_network(model.encoder[1], [("a", no_matter), ("z", gain)], -gain @ z1, variance)
    return model


def exact_lvae(h: Hierarchy) -> DensityModel:
    """The guess of z_1 is its likelihood alone, N((UᵀU)⁻¹Uᵀ(x − b), s²(UᵀU)⁻¹), which the merge completes."""
    if h.layers == 1:
        model = LVAE(SPACE, [HIDDEN], [Z], bayesian="none").double()
        model.load_state_dict(exact_vae(h).state_dict())
        return model
    model = LVAE(SPACE, [HIDDEN] * 2, [Z] * 2, bayesian="none").double()
    h.set_decoder(model)
    squares = h.U.T @ h.U
    gain = torch.linalg.inv(squares) @ h.U.T
    set_network(model.encoder[0], [("x", gain)], -gain @ h.b, NOISE / squares.diag())
    gain, variance = condition(h.covariance, Z2, X)
    # The second rung reads the first one's hidden layer, [relu(u), relu(−u), 0].
    read = torch.cat([eye(D), -eye(D), torch.zeros(HIDDEN - 2 * D, D).double()])
    set_network(model.encoder[1], [("x", gain)], -gain @ h.means[2], variance, read)
    return model


@pytest.fixture(scope="module", params=[1, 2], ids=["L=1", "L=2"])
def hierarchy(request):
    return Hierarchy.of(request.param)


@pytest.fixture(scope="module", params=[exact_vae, exact_avae, exact_lvae], ids=["vae", "avae", "lvae"])
def model(request, hierarchy):
    return request.param(hierarchy)


@pytest.fixture
def x():
    return 2 * torch.randn(B, D, generator=generator(7)).double()


def noise(seed: int = 0) -> BatchNoise:
    return BatchNoise(generator(seed))


def test_log_weights_at_the_exact_posterior_are_the_evidence_draw_by_draw(model, hierarchy, x):
    """No term is missing or counted twice, and none is of another draw."""
    evidence = hierarchy.p_x().log_prob(x)
    torch.testing.assert_close(model.log_importance(x, noise(), 7), evidence.expand(7, B), atol=1e-6, rtol=0)


def test_the_elbo_at_the_exact_posterior_is_the_evidence_in_expectation(model, hierarchy, x):
    """Divergences in closed form make single draws scatter."""
    bounds = model.infer(x, noise(), 6000).bound
    assert bounds.std(0).min() > 0.1
    assert_mean_is(bounds, hierarchy.p_x().log_prob(x), dim=0)


def test_the_measured_log_likelihood_at_the_exact_posterior_is_the_evidence(model, hierarchy, x):
    """For any number of samples, in float64 throughout."""
    found = log_likelihood(model, x, seed=0, samples=30, rows=1000)
    evidence = hierarchy.p_x().log_prob(x)
    torch.testing.assert_close(found.importance_weighted, evidence, atol=1e-6, rtol=0)
    assert found.summary()["importance_weighted"] == pytest.approx(evidence.mean().item(), abs=1e-6)


def test_what_is_generated_is_distributed_as_the_model_says(model, hierarchy):
    """Mean and covariance of p(x), all layers of latents marginalised."""
    source = noise(5)
    with torch.no_grad():
        x = SPACE.observation.sample(model.generate(source, 20_000), source)
    assert_draws_have(x, hierarchy.p_x().mean, hierarchy.p_x().covariance_matrix)


def test_reconstructions_are_at_the_posterior_mean(model, hierarchy, x):
    """E[x' | z_1 = E[z_1 | x]] = U E[z_1 | x] + b, with variance s²."""
    gain, _ = condition(hierarchy.covariance, Z1, X)
    z1, _, mean = hierarchy.means
    expected = ((x - mean) @ gain.T + z1) @ hierarchy.U.T + hierarchy.b
    found = model.reconstruct(x, noise())
    torch.testing.assert_close(SPACE.observation.mean(found), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:, D:].exp(), torch.full((B, D), NOISE).double(), atol=1e-6, rtol=0)


def test_latent_means_are_those_of_the_layer_below_at_its_mean(model, hierarchy, x):
    """Layer 1 of the bottom-up models: E[z_1 | x], linear in x, so that the mean of a_1 may stand for a_1."""
    gain, _ = condition(hierarchy.covariance, Z1, X)
    z1, _, mean = hierarchy.means
    found = model.represent(x, noise())
    torch.testing.assert_close(found[:, :Z], (x - mean) @ gain.T + z1, atol=1e-6, rtol=0)
    assert found.shape == (B, hierarchy.layers * Z)


def test_a_product_of_gaussians_is_their_density_renormalised():
    """log N_1 + log N_2 − log N differs by a constant in z; also far apart and at extreme precisions."""
    first = torch.tensor([0.3, -1.0, 4.0]).double(), torch.tensor([0.1, -2.0, 9.0]).double()
    second = torch.tensor([1.0, 5.0, -4.0]).double(), torch.tensor([-0.5, 3.0, -9.0]).double()
    mean, log_variance = precision_weighted(first, second)
    z = torch.linspace(-2, 2, 5)[:, None].double()

    def log_density(m, v):
        return Normal(m, (0.5 * v).exp()).log_prob(z)

    constant = log_density(*first) + log_density(*second) - log_density(mean, log_variance)
    torch.testing.assert_close(constant, constant[:1].expand(5, 3), rtol=1e-9, atol=1e-9)
