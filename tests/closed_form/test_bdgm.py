"""How BDGM predicts: against the exact posterior, closed forms of its weights, and quadrature over one latent."""

import math

import pytest
import torch
from linear_gaussian import C, D, Z, assert_mean_is, exact_poster_model
from scipy import stats
from torch import Tensor
from torch import distributions as dist

from al_dgm.acquisition import SCORES, Evidence
from al_dgm.config import PredictionParams
from al_dgm.learning.predict import Predictor
from al_dgm.models import Space
from al_dgm.models.bdgm import BDGM
from al_dgm.models.gibbs import State, sweep
from al_dgm.models.mixture import Mixture, inverse_cdf
from al_dgm.models.observation import Gaussian
from al_dgm.nn.bayesian import bayesian_layers
from al_dgm.nn.noise import BatchNoise, CommonNoise, generator
from al_dgm.objectives.bounds import effective_sample_size, importance_weighted_bound
from al_dgm.objectives.densities import standard_normal_log_density

B, S = 4, 7


@pytest.fixture
def x():
    return 2 * torch.randn(B, D, generator=generator(7)).double()


def noise(seed: int = 0) -> BatchNoise:
    return BatchNoise(generator(seed))


# --- where the posterior is known ---


@pytest.mark.parametrize("kind", [BatchNoise, CommonNoise])
def test_importance_weights_at_the_exact_posterior_are_the_evidence_draw_by_draw(x, kind):
    """w_s = p(x) for every single draw, so that S draws are worth S."""
    model, p_x, *_ = exact_poster_model()
    z, log_weights = model.posterior_draws(x, kind(generator(0)), S)
    assert z.shape == (S, B, Z)
    torch.testing.assert_close(log_weights, p_x.log_prob(x).expand(S, B), atol=1e-6, rtol=0)
    effective = model.effective_samples(x, kind(generator(0)), S)
    torch.testing.assert_close(effective, torch.full((B,), float(S), dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["importance", "gibbs", "classifier"])
def test_every_way_predicts_exactly_where_the_label_does_not_depend_on_the_latents(x, prediction):
    """And where q(y|x) is p(y|x), as here: whatever is drawn."""
    model, _, _, log_p = exact_poster_model()
    model.prediction = prediction
    torch.testing.assert_close(model.log_predictive(x, noise(), S), log_p(x), atol=1e-6, rtol=0)


def test_a_proposal_from_the_exact_posterior_is_always_accepted(x):
    """The Metropolis-Hastings ratio is 1: no term of target or proposal is missing."""
    model, *_ = exact_poster_model()

    def evaluate(z: Tensor) -> State:
        return State(z, model._log_joint(x, z, noise()), model._log_label(x, z, noise()))

    proposal = model._proposal(x, noise(), every_class=True)
    state = evaluate(proposal.sample(noise(1), 500))
    assert (sweep(state, evaluate, proposal, noise(2)).z != state.z).all()


def shifted(shift: float) -> tuple[BDGM, dist.MultivariateNormal]:
    """The exact model with the encoder's means off by ``shift`` posterior standard deviations in every dimension."""
    model, p_x, *_ = exact_poster_model()
    bias = model.encoder.layers[0].bias
    with torch.no_grad():
        bias[:Z] += shift * (0.5 * bias[Z:]).exp()
    return model, p_x


def test_the_effective_sample_size_of_a_shifted_proposal_is_its_closed_form(x):
    """w = p/q of unit Gaussians δ apart: E_q[w]² / E_q[w²] = exp(−δ²) for each dimension."""
    model, _ = shifted(0.5)
    shares = torch.stack([model.effective_samples(x, noise(seed), 2000) / 2000 for seed in range(40)])
    assert_mean_is(shares, torch.full((B,), math.exp(-Z * 0.5**2), dtype=torch.float64), dim=0)


def test_the_mean_weight_is_the_evidence_whatever_the_proposal(x):
    """E[w_s] = p(x), with proposals off by a standard deviation."""
    model, p_x = shifted(1.0)
    log_weights = model.posterior_draws(x, noise(), 20_000)[1]
    assert_mean_is((log_weights - p_x.log_prob(x)).exp(), torch.ones(B).double(), dim=0)
    assert (importance_weighted_bound(log_weights) - log_weights.mean(0)).min() > 0.1


def test_effective_sample_sizes_lie_between_one_and_the_number_of_draws():
    assert effective_sample_size(torch.full((5, 2), -1e4)).tolist() == pytest.approx([5, 5])
    assert effective_sample_size(torch.tensor([0.0, -1e4, -1e4])).item() == pytest.approx(1)
    assert effective_sample_size(torch.tensor([3.0, 3.0, -1e4])).item() == pytest.approx(2)


# --- against quadrature ---


def crooked(**options: object) -> BDGM:
    """One latent, from which x follows by a curve and the label changes class twice; inference that is well off."""
    torch.manual_seed(1)
    model = BDGM(Space(2, 3, Gaussian()), hidden=[16], latent=1, bayesian="none", likelihood_weight=0.7, **options)
    with torch.no_grad():
        model.decoder.layers[0].weight *= 3
        model.predictor.layers[-1].weight *= 6
        model.encoder.layers[-1].weight.copy_(0.1 * torch.randn(16, 2))
        model.encoder.layers[-1].bias.copy_(torch.tensor([0.3, 0.2]))
    return model.double().requires_grad_(False)  # noqa: FBT003 - torch's own signature


OF_CURVE = torch.tensor([[0.5, -0.3], [-1.0, 0.4], [0.2, 1.1]]).double()


def by_quadrature(model: BDGM, x: Tensor) -> Tensor:
    """∫ p(z) p(x|z)^λ p(y|x,z) dz / ∫ p(z) p(x|z)^λ dz over a fine grid, [B, C]."""
    z = torch.linspace(-9, 9, 20_001).double()[:, None, None].expand(-1, len(x), 1)
    log_p_x = model.space.observation.log_density(x, model.decoder(z, noise=noise()))
    log_shares = (standard_normal_log_density(z) + 0.7 * log_p_x).log_softmax(0)
    p_label = model.predictor(x, z, noise=noise()).softmax(-1)
    return (log_shares.exp()[..., None] * p_label).sum(0)


def test_the_crooked_model_is_a_hard_case():
    """Labels depend on z, the proposals are off, and q(y|x) is wrong: otherwise the next tests would show little."""
    model, x = crooked(), OF_CURVE
    exact = by_quadrature(model, x)
    unweighted = model._log_label(x, model._proposal(x, noise()).sample(noise(), 20_000), noise()).exp().mean(0)
    assert (unweighted - exact).abs().amax(-1).min() > 0.03
    assert (model.log_classifier(x, noise(), 1).exp() - exact).abs().amax(-1).min() > 0.03
    assert model.effective_samples(x, noise(), 2000).max() < 0.9 * 2000


@pytest.mark.parametrize("enumeration", ["exact", 2])
def test_importance_sampling_agrees_with_quadrature(enumeration):
    """Within five standard errors over independent repetitions; also by a proposal of two of the three classes."""
    model, x = crooked(enumeration=enumeration), OF_CURVE
    estimates = torch.stack([model.log_predictive(x, noise(seed), 2000).exp() for seed in range(40)])
    assert_mean_is(estimates, by_quadrature(model, x), dim=0)


def test_gibbs_sampling_agrees_with_quadrature():
    """Within five standard errors over independent chains."""
    model, x = crooked(prediction="gibbs"), OF_CURVE
    chains = model.chains(x, noise(), 2000)
    assert_mean_is(chains.exp(), by_quadrature(model, x), dim=0)
    torch.testing.assert_close(model.log_predictive(x, noise(), 2000).exp(), chains.exp().mean(0))


def test_points_that_fill_the_space_estimate_better_than_independent_ones():
    """Sixteen draws, class and latent filled jointly: unbiased, at less than half the variance."""
    model, x = crooked(), OF_CURVE
    exact = by_quadrature(model, x)
    errors = {
        kind: torch.stack([model.log_predictive(x, kind(generator(seed)), 16).exp() - exact for seed in range(100)])
        for kind in (BatchNoise, CommonNoise)
    }
    assert errors[CommonNoise].square().mean() < 0.5 * errors[BatchNoise].square().mean()


# --- the mixture itself ---


def some_mixture() -> Mixture:
    stream = generator(3)
    mean, log_variance = 2 * torch.randn(2, B, C, Z, generator=stream).double()
    return Mixture(torch.randn(B, C, generator=stream).double().log_softmax(-1), mean, 0.5 * log_variance)


def test_the_density_of_the_mixture_is_that_of_torch_distributions():
    q = some_mixture()
    components = dist.Independent(dist.Normal(q.mean, (0.5 * q.log_variance).exp()), 1)
    reference = dist.MixtureSameFamily(dist.Categorical(logits=q.log_shares), components)
    z = torch.randn(S, B, Z, generator=generator(4)).double()
    torch.testing.assert_close(q.log_density(z), reference.log_prob(z))


def test_draws_of_the_mixture_have_its_distribution():
    """The probability transform of each coordinate is uniform (Kolmogorov-Smirnov)."""
    q = some_mixture()
    z = q.sample(noise(), 4000)
    for b in range(B):
        cdf = dist.Normal(q.mean[b], (0.5 * q.log_variance[b]).exp()).cdf(z[:, b, None])
        uniform = (q.log_shares[b].exp()[:, None] * cdf).sum(1)
        assert all(stats.kstest(uniform[:, d].numpy(), "uniform").pvalue > 1e-3 for d in range(Z))


def test_quantiles_of_a_categorical_are_its_categories_in_order():
    log_p = torch.tensor([0.2, 0.0, 0.5, 0.3]).log()
    u = torch.tensor([0.0, 0.199, 0.201, 0.69, 0.71, 1.0])
    assert inverse_cdf(log_p, u).tolist() == [0, 0, 2, 2, 3, 3]


# --- latents are no uncertainty about the weights ---


@pytest.mark.parametrize("prediction", ["importance", "gibbs"])
def test_latent_noise_is_no_disagreement_between_weight_samples(prediction):
    """BALD of a predictor whose weights are certain is 0, however much its label depends on the latents."""
    model = BDGM(Space(2, 3, Gaussian()), hidden=[16], latent=1, prediction=prediction).eval()
    model.load_state_dict(crooked().float().state_dict(), strict=False)
    x, bald = OF_CURVE.float(), {}
    for rho in (-40.0, 0.0):
        for layer in bayesian_layers(model).values():
            torch.nn.init.constant_(layer.rho, rho)
        params = PredictionParams(weight_samples=8, latent_samples=16)
        moments = Predictor(params, seed=0).moments(model, x, 3)
        bald[rho] = SCORES["bald"]()(Evidence(len(x), moments))
        assert SCORES["entropy"]()(Evidence(len(x), moments)).min() > 0.05
    assert bald[-40.0].max() < 1e-6
    assert bald[0.0].min() > 1e-3
