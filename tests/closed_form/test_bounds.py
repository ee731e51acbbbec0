"""Bounds where the answer is known: linear-Gaussian models whose inference networks are the exact posterior.

    z ~ N(0, I)      a | z ~ N(Dz, s_a² I) (not M2)      x | a, y, z ~ N(Wa + Uz + Vy + b, s² I)

BDGM instead has x | z ~ N(Uz + b, s² I) and y | x, z ~ softmax(Rx + r), which leaves p(z | x, y) = p(z | x) Gaussian.
W = 0 in M2 and ADGM, U = 0 in CaGeM, whose z_1 and z_2 are a and z. There p(y | z_2) is a p(y) that is not uniform.
Then log p(x, y, latents) − log q(latents | x, y) = log p(x, y), whatever is drawn.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from linear_gaussian import (
    AUXILIARY_NOISE,
    NOISE,
    SPACE,
    C,
    D,
    Z,
    assert_draws_have,
    assert_mean_is,
    condition,
    exact_poster_model,
    eye,
    set_network,
)
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal
from torch.distributions import kl_divergence as torch_kl

from al_dgm.models import DeepGenerativeModel
from al_dgm.models.adgm import ADGM
from al_dgm.models.auxiliary import AuxiliaryModel
from al_dgm.models.cagem import CaGeM
from al_dgm.models.m2 import M2
from al_dgm.models.sdgm import SDGM
from al_dgm.nn.mlp import MLP
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.objectives.bounds import importance_weighted_bound, log_mean_exp, unlabelled_bound

B = 4
UNIFORM, UNEQUAL = torch.full((C,), 1 / C).double(), torch.tensor([0.5, 0.2, 0.3]).double()


@dataclass(frozen=True)
class Case:
    """A model whose inference networks are exact, and log p(x, y) [B, C] by torch's own multivariate normal."""

    model: DeepGenerativeModel
    evidence: Callable[[Tensor], Tensor]
    generated: MultivariateNormal  # x as each class, batch of C
    covariance: Tensor  # of z, (a,) x given y
    p_y: Tensor = UNIFORM


def given_class(p_x_given_y: MultivariateNormal, p_y: Tensor = UNIFORM) -> Callable[[Tensor], Tensor]:
    """log p(x | y) + log p(y), of a batch of C distributions."""
    return lambda x: p_x_given_y.log_prob(x[:, None]) + p_y.log()


def set_classifier(network: MLP, means: Tensor, covariance: Tensor, latents: int, p_y: Tensor = UNIFORM) -> None:
    """The exact p(y | x): softmax of linear discriminants; the columns of the latents are zero."""
    directions = torch.linalg.solve(covariance, means.T).T
    bias = p_y.log() - 0.5 * (directions * means).sum(1)
    set_network(network, [("x", directions), ("a", torch.zeros(C, latents).double())][: 1 + bool(latents)], bias, None)


def exact_m2() -> Case:
    torch.manual_seed(0)
    model = M2(SPACE, hidden=[], latent=Z, bayesian="none", likelihood_weight=1.0).double()
    U = torch.linalg.qr(torch.randn(D, Z).double())[0] * torch.tensor([1.5, 0.7])  # orthogonal: diagonal posterior
    V, b = torch.randn(D, C).double(), torch.randn(D).double()
    joint = torch.cat([eye(Z), U])
    covariance = joint @ joint.T
    covariance[Z:, Z:] += NOISE * eye(D)
    z, x = slice(0, Z), slice(Z, Z + D)
    gain, variance = condition(covariance, z, x)
    set_network(model.decoder, [("y", V), ("z", U)], b, torch.full((D,), NOISE, dtype=torch.float64))
    set_network(model.encoder, [("x", gain), ("y", -gain @ V)], -gain @ b, variance)
    means = (V + b[:, None]).T
    set_classifier(model.classifier, means, covariance[x, x], 0)
    p_x_given_y = MultivariateNormal(means, covariance[x, x])
    return Case(model, given_class(p_x_given_y), p_x_given_y, covariance)


def exact_auxiliary(kind: type[AuxiliaryModel]) -> Case:
    """a and z are coupled dimension by dimension, and y moves features of its own: so q(a | x) can be exact."""
    torch.manual_seed(1)
    fan_in = D + Z + C
    sizes = (
        {"hidden": [2 * fan_in] * 2, "latents": [Z, Z]}
        if kind is CaGeM
        else {"hidden": [], "latent": Z, "auxiliary": Z}
    )
    model = kind(SPACE, **sizes, bayesian="none", likelihood_weight=1.0).double()
    zero = torch.zeros(Z, Z).double()
    skip, W, U = (torch.tensor(values).double().diag() for values in ([0.8, -1.1], [1.4, 0.6], [-0.5, 0.9]))
    V, b = torch.cat([zero, zero, torch.randn(2, 2).double()]), torch.randn(D).double()
    V = torch.cat([V, -V[:, :1]], dim=1)
    W, U = torch.cat([W, zero, zero]), torch.cat([zero, U, zero])
    W = 0 * W if kind is ADGM else W  # x does not depend on a
    U = 0 * U if kind is CaGeM else U  # nor on z_2
    own = eye(2 * Z + D)  # the sources of z, a and x
    to_z = own[:Z]
    to_a = skip @ to_z + math.sqrt(AUXILIARY_NOISE) * own[Z : 2 * Z]
    to_x = W @ to_a + U @ to_z + math.sqrt(NOISE) * own[2 * Z :]
    joint = torch.cat([to_z, to_a, to_x])
    covariance = joint @ joint.T
    z, a, x, ax = slice(0, Z), slice(Z, 2 * Z), slice(2 * Z, 2 * Z + D), slice(Z, 2 * Z + D)
    gain_a, variance_a = condition(covariance, a, x)
    gain_z, variance_z = condition(covariance, z, ax)
    torch.testing.assert_close(gain_a @ V, torch.zeros(Z, C).double())  # p(a | x, y) does not depend on y
    from_a, from_x = gain_z[:, :Z], gain_z[:, Z:]
    set_network(model.auxiliary, [("x", gain_a)], -gain_a @ b, variance_a)
    set_network(model.encoder, [("x", from_x), ("a", from_a), ("y", -from_x @ V)], -from_x @ b, variance_z)
    at_zero = torch.zeros(Z).double()
    to_prior = [("y", torch.zeros(Z, C).double()), ("z", skip)]
    set_network(model.auxiliary_decoder, to_prior, at_zero, at_zero + AUXILIARY_NOISE)
    of_y, of_a, of_z = ("y", V), ("a", W), ("z", U)
    seen = {ADGM: [of_y, of_z], SDGM: [of_a, of_y, of_z], CaGeM: [of_y, of_a]}[kind]
    set_network(model.decoder, seen, b, torch.full((D,), NOISE, dtype=torch.float64))
    means, p_y = (V + b[:, None]).T, UNEQUAL if kind is CaGeM else UNIFORM
    set_classifier(model.classifier, means, covariance[x, x], Z, p_y)
    if kind is CaGeM:
        set_network(model.label_decoder, [("z", torch.zeros(C, Z).double())], p_y.log(), None)
    p_x_given_y = MultivariateNormal(means, covariance[x, x])
    return Case(model, given_class(p_x_given_y, p_y), p_x_given_y, covariance, p_y)


def exact_adgm() -> Case:
    return exact_auxiliary(ADGM)


def exact_sdgm() -> Case:
    return exact_auxiliary(SDGM)


def exact_cagem() -> Case:
    return exact_auxiliary(CaGeM)


def exact_bdgm() -> Case:
    """x does not depend on y, which is read off it."""
    model, p_x, covariance, label = exact_poster_model()
    as_any_class = MultivariateNormal(p_x.mean.expand(C, D), p_x.covariance_matrix)
    return Case(model, lambda x: p_x.log_prob(x)[:, None] + label(x), as_any_class, covariance)


EXACT = [exact_m2, exact_adgm, exact_sdgm, exact_cagem, exact_bdgm]


@pytest.fixture(scope="module", params=EXACT, ids=["m2", "adgm", "sdgm", "cagem", "bdgm"])
def case(request):
    return request.param()


@pytest.fixture(scope="module", params=[exact_m2, exact_adgm, exact_sdgm], ids=["m2", "adgm", "sdgm"])
def case_with_prior(request):
    """A model with p(y), whose Bayes classifier is that of its bounds."""
    return request.param()


@pytest.fixture
def x():
    return 2 * torch.randn(B, D, generator=generator(7)).double()


def noise(seed: int = 0) -> BatchNoise:
    return BatchNoise(generator(seed))


def log_weights(model: DeepGenerativeModel, x: Tensor, samples: int) -> Tensor:
    """log p(x, y, ·) − log q(· | x, y) for every class, [S, B, C]."""
    per_class = [model.log_weights(x, torch.full((len(x),), c), noise(c), samples) for c in range(C)]
    return torch.stack(per_class, dim=-1)


@pytest.mark.parametrize("given", [0, 2, None])
def test_what_is_generated_is_distributed_as_the_model_says(case, given):
    """p(x | y), or their mixture where no class is given: its covariance is theirs and that of their means."""
    observation, source = case.model.space.observation, noise(5)
    y = None if given is None else torch.full((20_000,), given)
    with torch.no_grad():
        x = observation.sample(case.model.generate(source, 20_000, y), source)
    means, covariance = case.generated.mean, case.generated.covariance_matrix[0]
    if given is None:
        assert_draws_have(x, case.p_y @ means, covariance + means.T.cov(correction=0, aweights=case.p_y))
    else:
        assert_draws_have(x, means[given], covariance)


def test_the_encoding_is_the_mean_of_the_posterior(case, x):
    """E[z | x, y] for any class, a marginalised: linear in a, so that the mean of a may stand for a."""
    z, of_x, y = slice(0, Z), slice(-D, None), torch.arange(B) % C
    gain = case.covariance[z, of_x] @ torch.linalg.inv(case.covariance[of_x, of_x])
    expected = (x - case.generated.mean[y]) @ gain.T
    torch.testing.assert_close(case.model.encode(x, y, noise()), expected, atol=1e-6, rtol=0)


def test_log_weights_at_the_exact_posterior_are_the_evidence_draw_by_draw(case, x):
    """log p(x, y, z_s) − log q(z_s | x, y) = log p(x, y) for every single draw: no term is missing or counted twice."""
    expected = case.evidence(x).expand(7, B, C)
    torch.testing.assert_close(log_weights(case.model, x, 7), expected, atol=1e-6, rtol=0)


def test_the_elbo_at_the_exact_posterior_is_the_evidence_in_expectation(case, x):
    """With the closed-form KL single draws scatter, and their mean is log p(x, y)."""
    bounds = case.model.class_bounds(x, noise(), samples=4000).bound
    assert bounds.std(0).min() > 0.1
    assert_mean_is(bounds, case.evidence(x), dim=0)


def test_the_unlabelled_bound_at_the_exact_posterior_is_log_p_of_x(case, x):
    """U(x) = log p(x) where q(y|x) is exact: per draw from log-weights, in expectation from the model's own `elbo`."""
    log_q = case.model.recognise(x, noise(), 7).log_q
    evidence = case.evidence(x).logsumexp(-1)
    per_draw = unlabelled_bound(log_weights(case.model, x, 7), log_q)
    torch.testing.assert_close(per_draw, evidence, atol=1e-6, rtol=0)
    draws = torch.stack([case.model.elbo(x, noise(seed), 50) for seed in range(60)])
    assert_mean_is(draws, evidence, dim=0)


def test_the_unlabelled_bound_falls_short_by_the_divergence_of_the_classifier(case, x):
    """U(x) = log p(x) − KL(q(y) ‖ p(y|x)) for any q(y), here uniform."""
    evidence = case.evidence(x)
    uniform = torch.full((7, B, C), -math.log(C), dtype=torch.float64)
    posterior = evidence.log_softmax(-1)
    gap = -(posterior.mean(-1) + math.log(C))
    assert gap.min() > 0.01
    found = unlabelled_bound(log_weights(case.model, x, 7), uniform)
    torch.testing.assert_close(found, evidence.logsumexp(-1) - gap, atol=1e-6, rtol=0)


def test_over_some_classes_the_bound_is_the_evidence_of_those_classes(case, x, monkeypatch):
    """U(x) = log Σ_{y ∈ T} p(x, y) ≤ log p(x) at the exact posterior, for whichever T."""
    model = copy.deepcopy(case.model)
    monkeypatch.setattr(model, "_candidates", lambda log_q: log_q.mean(0).topk(2, largest=False).indices)
    evidence = case.evidence(x)
    unlikely = evidence.topk(2, largest=False).values.logsumexp(-1)
    assert (unlikely < evidence.logsumexp(-1) - 0.1).all()
    assert_mean_is(torch.stack([model.elbo(x, noise(seed), 50) for seed in range(60)]), unlikely, dim=0)


def test_classes_that_are_not_summed_over_keep_what_the_classifier_gives_them(case_with_prior, x):
    """And the bounds share out the rest; the classifier being exact, so is the result."""
    model = copy.deepcopy(case_with_prior.model)
    model.enumeration, model.prediction = 2, "bayes"
    expected = case_with_prior.evidence(x).log_softmax(-1)
    torch.testing.assert_close(model.log_predictive(x, noise(), 20_000), expected, atol=0.1, rtol=0)
    least = expected.argmin(-1, keepdim=True)
    found = model.log_predictive(x, noise(), 3)
    torch.testing.assert_close(found.gather(-1, least), expected.gather(-1, least), atol=1e-6, rtol=0)


def test_the_bayes_classifier_is_the_posterior_of_the_class(case_with_prior, x):
    """p(y|x) ∝ exp L(x, y): exact where the bounds are tight, up to Monte Carlo error of their mean."""
    model = copy.deepcopy(case_with_prior.model)
    model.prediction = "bayes"
    expected = case_with_prior.evidence(x).log_softmax(-1)
    torch.testing.assert_close(model.log_predictive(x, noise(), 20_000), expected, atol=0.1, rtol=0)
    model.prediction = "classifier"
    torch.testing.assert_close(model.log_predictive(x, noise(), 3), expected, atol=1e-6, rtol=0)


def test_both_ways_of_predicting_are_averaged_as_logarithms(case_with_prior, x):
    """`both` is the normalised geometric mean of `classifier` and `bayes` on the same draws."""
    model = copy.deepcopy(case_with_prior.model)
    bayes = model.log_bayes(x, noise(), 5)
    model.prediction = "both"
    mixed = (0.5 * (log_mean_exp(model.recognise(x, noise(), 5).log_q, dim=0) + bayes)).log_softmax(-1)
    torch.testing.assert_close(model.log_predictive(x, noise(), 5, bayes), mixed)


def test_a_wrong_encoder_loses_exactly_its_divergence():
    """E[L(x, y)] = log p(x, y) − KL(q(z|x,y) ‖ p(z|x,y)), strictly below the evidence."""
    case = exact_m2()
    x = torch.randn(B, D).double()
    bias = case.model.encoder.layers[0].bias
    exact = Normal(torch.zeros(Z).double(), (0.5 * bias[Z:].detach()).exp())
    with torch.no_grad():
        bias[:Z] += torch.tensor([0.4, -0.2])
        bias[Z:] += torch.tensor([0.5, -0.7])
    wrong = Normal(torch.tensor([0.4, -0.2]).double(), (0.5 * bias[Z:].detach()).exp())
    lost = torch_kl(wrong, exact).sum()
    assert lost > 0.2
    for bounds in (case.model.class_bounds(x, noise(), 8000).bound, log_weights(case.model, x, 8000)):
        assert_mean_is(bounds, case.evidence(x) - lost, dim=0)


def test_importance_weighting_tightens_the_bound_towards_the_evidence(x):
    """E L_1 = ELBO < E L_4 < E L_16 < E L_64 <= log p(x, y), each difference beyond its standard error."""
    case = exact_m2()
    with torch.no_grad():
        case.model.encoder.layers[0].bias[:Z] += 0.6
    w = log_weights(case.model, x, 6400)[..., 0]
    evidence = case.evidence(x)[:, 0]
    torch.testing.assert_close(importance_weighted_bound(w[None]), w)
    bounds = [importance_weighted_bound(w.view(K, -1, B)) for K in (1, 4, 16, 64)]
    for fewer, more in itertools.pairwise(bounds):
        gain = more - fewer.view(-1, *more.shape).mean(0)  # paired: the same draws
        assert (gain.mean(0) > 3 * gain.std(0) / math.sqrt(len(gain))).all()
    error = bounds[-1].std(0) / math.sqrt(len(bounds[-1]))
    assert (bounds[-1].mean(0) <= evidence + 5 * error).all()
    assert ((evidence - bounds[-1].mean(0)) < 0.1 * (evidence - bounds[0].mean(0))).all()


def test_constant_log_weights_are_their_own_bound_for_any_number_of_samples():
    """L_K = log (1/K) Σ w: the 1/K is there."""
    for K in (1, 5, 1000):
        torch.testing.assert_close(importance_weighted_bound(torch.full((K, 2), -3.7)), torch.full((2,), -3.7))


def test_log_mean_exp_agrees_with_the_naive_formula_and_survives_large_arguments():
    values = torch.tensor([[-1.0, 0.5, 2.0]])
    torch.testing.assert_close(log_mean_exp(values, dim=1), values.exp().mean(1).log())
    torch.testing.assert_close(log_mean_exp(values - 1e4, dim=1), log_mean_exp(values, dim=1) - 1e4)


def test_the_prior_of_the_class_stays_in_every_bound(case_with_prior, x):
    """Without log p(y) = −log C each of L(x, y) and U(x) would be larger by exactly log C."""
    without = copy.deepcopy(case_with_prior.model)
    without.log_prior.zero_()
    L, L0 = (model.class_bounds(x, noise(), 5).bound for model in (case_with_prior.model, without))
    U, U0 = (model.elbo(x, noise(), 5) for model in (case_with_prior.model, without))
    torch.testing.assert_close(L, L0 - math.log(C))
    torch.testing.assert_close(U, U0 - math.log(C))


def test_the_mean_over_samples_stands_outside_the_sum_over_classes():
    """Thesis Eq. 4.20: mean_s Σ_y q_s (L_s − log q_s); the product of the means is another number."""
    bound = torch.tensor([[[1.0, 5.0]], [[7.0, 2.0]]])
    q = torch.tensor([[[0.9, 0.1]], [[0.2, 0.8]]])
    brute = [sum(q[s, 0, c] * (bound[s, 0, c] - q[s, 0, c].log()) for c in range(2)) for s in range(2)]
    product = (q.mean(0) * bound.mean(0)).sum(-1) + torch.special.entr(q.mean(0)).sum(-1)
    found = unlabelled_bound(bound, q.log())
    torch.testing.assert_close(found, (sum(brute) / 2)[None])
    assert (found - product).abs() > 0.5


def test_the_unlabelled_bound_of_a_model_is_its_brute_force_enumeration(case, x):
    """`elbo` = mean over s of Σ_y q(y|a_s,x) [L_s(x, y) − log q(y|a_s,x)], summed in plain loops."""
    samples = 3
    terms = case.model.class_bounds(x, noise(), samples)
    log_q = terms.log_q.expand(samples, B, C)
    for b in range(B):
        total = 0.0
        for s in range(samples):
            for c in range(C):
                log_q_c = log_q[s, b, c].item()
                total += math.exp(log_q_c) * (terms.bound[s, b, c].item() - log_q_c)
        assert case.model.elbo(x, noise(), samples)[b].item() == pytest.approx(total / samples, abs=1e-9)
