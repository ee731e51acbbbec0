"""Densities, divergences and entropies against scipy, torch.distributions and Monte Carlo."""

import math

import pytest
import scipy.stats
import torch
from linear_gaussian import assert_mean_is
from torch import distributions as dist
from torch.nn import functional as F

from al_dgm.models.observation import make_observation
from al_dgm.nn.noise import BatchNoise, NoNoise, generator
from al_dgm.objectives import densities
from al_dgm.objectives.bounds import unlabelled_bound
from al_dgm.objectives.schedules import cosine, ramp

N, D = 6, 5


@pytest.fixture
def draws():
    """Tensors of any shape from one seeded generator, float64."""
    stream = generator(3)
    return lambda *shape: torch.randn(*shape, generator=stream, dtype=torch.float64)


def normal(mean, log_variance):
    """The same Gaussian in torch.distributions: its scale is a standard deviation, ours a log-variance."""
    return dist.Independent(dist.Normal(mean, (0.5 * log_variance).exp()), 1)


def test_gaussian_densities_are_those_of_torch_distributions(draws):
    x, mean, log_variance = draws(N, D), draws(N, D), draws(N, D)
    found = densities.normal_log_density(x, mean, log_variance)
    torch.testing.assert_close(found, normal(mean, log_variance).log_prob(x))
    zero = torch.zeros_like(x)
    torch.testing.assert_close(densities.standard_normal_log_density(x), normal(zero, zero).log_prob(x))


def test_gaussian_divergences_are_those_of_torch_distributions(draws):
    """KL sums over the dimensions, and is 0 of a distribution from itself."""
    q, p = (draws(N, D), draws(N, D)), (draws(N, D), draws(N, D))
    zero = torch.zeros(N, D).double()
    torch.testing.assert_close(densities.kl_normal(*q, *p), dist.kl_divergence(normal(*q), normal(*p)))
    torch.testing.assert_close(densities.kl_standard_normal(*q), dist.kl_divergence(normal(*q), normal(zero, zero)))
    torch.testing.assert_close(densities.kl_normal(*q, zero, zero), densities.kl_standard_normal(*q))
    torch.testing.assert_close(densities.kl_normal(*q, *q), zero[:, 0])


def test_gaussian_divergences_are_their_monte_carlo_estimates(draws):
    """E_q[log q − log p], from densities of torch.distributions, within five of its own standard errors."""
    q, p = (draws(N, D), draws(N, D)), (draws(N, D), draws(N, D))
    x = q[0] + (0.5 * q[1]).exp() * draws(40_000, N, D)
    for estimates, exact in (
        (normal(*q).log_prob(x) - normal(*p).log_prob(x), densities.kl_normal(*q, *p)),
        (normal(*q).log_prob(x) - densities.standard_normal_log_density(x), densities.kl_standard_normal(*q)),
    ):
        error = estimates.std(0) / math.sqrt(len(estimates))
        assert ((estimates.mean(0) - exact).abs() < 5 * error).all()


def test_a_head_is_read_as_mean_and_clamped_log_variance():
    """The second half is log σ², so that σ can be below 1, and is clamped to ±10."""
    mean, log_variance = densities.gaussian(torch.tensor([1.0, 2.0, -40.0, 3.0]))
    assert mean.tolist() == [1.0, 2.0]
    assert log_variance.tolist() == [-densities.MAX_LOG_VARIANCE, 3.0]


@pytest.mark.parametrize("trials", [1, 2, 16, 255])
def test_binomial_density_is_that_of_torch_and_scipy(draws, trials):
    """The coefficient included: a probability, not a score."""
    logits = 2 * draws(N, D)
    counts = torch.randint(0, trials + 1, (N, D), generator=generator(0)).double()
    found = densities.binomial_log_density(counts / trials, logits, trials)
    torch.testing.assert_close(found, dist.Binomial(trials, logits=logits).log_prob(counts).sum(-1))
    expected = scipy.stats.binom.logpmf(counts.numpy(), trials, torch.sigmoid(logits).numpy()).sum(-1)
    torch.testing.assert_close(found, torch.from_numpy(expected))


def test_binomial_density_of_many_features_is_as_exact_in_single_precision(draws):
    """Errors of log 255! would be the same in every feature."""
    counts = torch.randint(0, 256, (N, 784), generator=generator(0)).double()
    double = densities.binomial_log_density(counts / 255, torch.zeros(784).double(), 255)
    single = densities.binomial_log_density((counts / 255).float(), torch.zeros(784), 255)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=3e-7, atol=0)


@pytest.mark.parametrize("trials", [1, 16])
def test_binomial_probabilities_of_all_counts_sum_to_one(trials):
    counts = torch.arange(trials + 1.0)[:, None]
    log_p = densities.binomial_log_density(counts / trials, torch.tensor([0.7]), trials)
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))


def test_binomial_density_of_extreme_logits_is_exact_and_finite():
    """log sigmoid(−200) = −200 to machine precision, where log(p + 1e-8) would say −18."""
    found = densities.binomial_log_density(torch.tensor([[1.0], [0.0]]), torch.tensor([[-200.0], [-200.0]]), 1)
    assert found.tolist() == [-200.0, 0.0]


@pytest.mark.parametrize("features", [1, 64, 120, 121, 128, 784])
@pytest.mark.parametrize("spread", [0.0, 1.0, 300.0])
def test_sum_of_softplus_by_products_is_the_sum_of_its_terms(draws, features, spread):
    x = (spread * draws(5, 3, features)).float().requires_grad_()
    found, terms = densities.softplus_sum(x), F.softplus(x.double()).sum(-1)
    torch.testing.assert_close(found.double(), terms, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], torch.sigmoid(x))


def test_sum_of_softplus_has_first_and_second_derivatives_and_can_be_vectorised(draws):
    x = draws(4, 130).requires_grad_()
    assert torch.autograd.gradcheck(densities.softplus_sum, x)
    assert torch.autograd.gradgradcheck(densities.softplus_sum, x)
    of_each = torch.vmap(torch.func.grad(densities.softplus_sum))(x)
    torch.testing.assert_close(of_each, torch.sigmoid(x))


def test_entropy_is_that_of_torch_distributions(draws):
    log_p = draws(N, 4).log_softmax(-1)
    torch.testing.assert_close(densities.categorical_entropy(log_p), dist.Categorical(logits=log_p).entropy())


def test_entropy_of_a_certain_class_is_exactly_zero():
    """0 log 0 = 0, from −∞ as from the finite logarithms of a saturated softmax."""
    one_hot = torch.tensor([[0.0, -math.inf, -math.inf], [0.0, -300.0, -400.0]])
    assert densities.categorical_entropy(one_hot).tolist() == [0.0, 0.0]
    assert unlabelled_bound(torch.tensor([[[2.5, 1e9, 1e9]]]), one_hot[None, :1]).tolist() == [2.5]


def test_entropy_of_a_saturated_softmax_has_a_finite_gradient():
    """exp(−300) is 0 in float32, where −p log p has no derivative by p; by the logits it has."""
    logits = torch.tensor([[[0.0, 300.0, -5.0]]], requires_grad=True)
    unlabelled_bound(torch.zeros(1, 1, 3), logits.log_softmax(-1)).sum().backward()
    assert logits.grad.abs().max() < 1e-6


def test_categorical_divergence_is_that_of_torch_distributions(draws):
    log_p, log_q = draws(N, 4).log_softmax(-1), draws(N, 4).log_softmax(-1)
    expected = dist.kl_divergence(dist.Categorical(logits=log_p), dist.Categorical(logits=log_q))
    torch.testing.assert_close(densities.categorical_kl(log_p, log_q), expected)
    assert densities.categorical_kl(log_p, log_p).abs().max() == 0


@pytest.mark.parametrize(("kind", "outputs"), [("bernoulli", D), ("binomial", D), ("gaussian", 2 * D)])
def test_observation_means_are_means_of_their_densities(draws, kind, outputs):
    """E[x] under the density, by summing (counts) or by quadrature (real values)."""
    observation = make_observation(kind, 16)
    assert observation.outputs(D) == outputs
    parameters = draws(1, observation.outputs(1))
    trials = {"bernoulli": 1, "binomial": 16}.get(kind)
    x = torch.linspace(-12, 12, 20_001).double() if trials is None else torch.arange(trials + 1).double() / trials
    weights = observation.log_density(x[:, None], parameters).exp()
    torch.testing.assert_close(
        (weights * x).sum() / weights.sum(), observation.mean(parameters)[0, 0], rtol=0, atol=1e-6
    )
    assert weights.sum() * (1 if trials else 24 / 20_000) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["bernoulli", "binomial", "gaussian"])
def test_observations_are_drawn_from_their_densities(draws, kind):
    """Mean and variance within five standard errors, each element on its own; counts are whole."""
    observation, trials = make_observation(kind, 16), 16 if kind == "binomial" else 1
    parameters = draws(1, observation.outputs(D)).expand(20_000, -1)
    x = observation.sample(parameters, BatchNoise(generator(0)))
    mean = observation.mean(parameters[:1])
    assert_mean_is(x, mean[0], dim=0)
    variance = parameters[:1, D:].exp() if kind == "gaussian" else mean * (1 - mean) / trials
    assert_mean_is((x - mean).square(), variance[0], dim=0)
    assert kind == "gaussian" or (trials * x == (trials * x).round()).all()


@pytest.mark.parametrize("kind", ["bernoulli", "binomial", "gaussian"])
def test_without_noise_each_example_is_drawn_by_itself(draws, kind):
    """One number for all elements is not one example for all: counts are 0 or all there are, real values the mean."""
    observation = make_observation(kind, 16)
    parameters = draws(5, observation.outputs(D))
    mean = observation.mean(parameters)
    expected = mean if kind == "gaussian" else (mean > 0.5).to(mean.dtype)
    torch.testing.assert_close(observation.sample(parameters, NoNoise()), expected)


def test_bernoulli_data_are_binarised_anew_with_the_grey_value_as_probability():
    """0 and 1 stay; 0.3 becomes 1 in 30 % of the draws (five standard errors); others are taken as they are."""
    x, stream = torch.tensor([[0.0, 0.3, 1.0]]).expand(20_000, 3), BatchNoise(generator(0))
    drawn = make_observation("bernoulli").draw(x, stream)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert (drawn[:, 0].max(), drawn[:, 2].min()) == (0, 1)
    assert drawn[:, 1].mean().item() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 20_000))
    assert not torch.equal(drawn, make_observation("bernoulli").draw(x, stream))
    assert make_observation("binomial", 16).draw(x, stream) is x


def test_quantised_values_are_drawn_from_their_steps():
    """x + u step: uniform over a step around each value, anew in every draw."""
    observation, stream = make_observation("quantised", step=0.2), BatchNoise(generator(0))
    x = torch.tensor([[-1.0, 0.4]]).expand(5000, 2)
    first, second = observation.draw(x, stream), observation.draw(x, stream)
    assert not torch.equal(first, second)
    for column, value in zip(first.T.double().numpy(), (-1.0, 0.4), strict=True):
        assert scipy.stats.kstest(column, "uniform", args=(value - 0.1, 0.2)).pvalue > 1e-3


def test_probabilities_of_all_quantised_values_sum_to_one(draws):
    """P(x) = step E_u[p(x + u step)], with no gap between the steps and no overlap; log P is above its bound."""
    step, parameters = 0.2, draws(1, 2)
    observation = make_observation("quantised", step=step)
    x = (torch.arange(-200, 201) * step).double()[:, None]
    u = ((torch.arange(100) + 0.5) / 100).double()

    class Grid:
        """All u instead of a draw."""

        def uniform(self, shape):
            """[401, 100]."""
            return u.expand(shape)

    log_p = observation.log_density(observation.draw(x.expand(401, 100), Grid())[..., None], parameters)
    probability = step * log_p.exp().mean(-1)
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0).double(), atol=1e-4, rtol=0)
    assert (log_p.mean(-1) + math.log(step) <= probability.log()).all()


def test_real_densities_are_finite_at_extreme_values_and_parameters():
    """Variances are clamped: an outlier, or a network sure of itself, makes neither value nor slope infinite."""
    parameters = torch.tensor([[1e4, -1e4], [0.0, 1e4], [0.0, -1e4]], requires_grad=True)
    observation, stream = make_observation("quantised", step=0.02), BatchNoise(generator(0))
    x = observation.draw(torch.tensor([[1e4], [-1e4], [0.0]]), stream)
    found = observation.log_density(x, parameters)
    found.sum().backward()
    assert found.isfinite().all()
    assert parameters.grad.isfinite().all()


def test_ramp_and_cosine_pass_through_their_corners():
    """Warm-ups: 0 to the start, linear, 1 from the end; none at all is 1 from the first step."""
    assert [ramp(t, 2, 6) for t in (0, 2, 4, 6, 9)] == [0, 0, 0.5, 1, 1]
    assert ramp(0, 0, 0) == 1
    assert [ramp(t, 3, 3) for t in (0, 2, 3, 4)] == [0, 0, 1, 1]
    assert [round(cosine(t, 10, 3.0, 1.0), 9) for t in (0, 5, 10, 11)] == [3, 2, 1, 1]
