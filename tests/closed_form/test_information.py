"""Information-theoretic scores where the answer is known, and the sums they are made from."""

import math

import numpy as np
import pytest
import torch

from al_dgm.acquisition import SCORES, Evidence, Moments
from al_dgm.nn.noise import generator

N, K, C = 9, 6, 4


def random_samples(seed: int = 0, examples: int = N) -> torch.Tensor:
    """log p(y | x, W_k), [K, N, C], float32 as models give it."""
    return (2 * torch.randn(K, examples, C, generator=generator(seed))).log_softmax(-1)


def moments_of(log_p: torch.Tensor) -> Moments:
    moments = Moments.zeros(log_p.shape[1], log_p.shape[2])
    for sample in log_p:
        moments.add(sample)
    return moments


def score(name: str, log_p: torch.Tensor) -> torch.Tensor:
    return SCORES[name]()(Evidence(examples=log_p.shape[1], moments=moments_of(log_p)))


def one_hot(classes: list[int]) -> torch.Tensor:
    """K samples that are each certain of one class, for one example."""
    return torch.nn.functional.one_hot(torch.tensor(classes), C).float().log()[:, None]


@pytest.mark.parametrize("samples", [1, 2, 7, 20])
def test_bald_of_identical_samples_is_exactly_zero(samples):
    """A model without a distribution over weights learns nothing from a label: 0, not rounding noise."""
    same = random_samples()[:1].expand(samples, N, C)
    assert (score("bald", same) == 0).all()
    assert (score("entropy", same) > 0).all()


@pytest.mark.parametrize("disagreeing", [1, 2, 3, 4])
def test_bald_of_certain_samples_that_disagree_is_log_k(disagreeing):
    """All uncertainty is about the weights: BALD = predictive entropy = log K."""
    log_p = one_hot(list(range(disagreeing)))
    assert score("bald", log_p).item() == pytest.approx(math.log(disagreeing), abs=1e-12)
    assert score("entropy", log_p).item() == pytest.approx(math.log(disagreeing), abs=1e-12)


def test_bald_of_samples_that_agree_on_a_coin_toss_is_zero_and_the_entropy_is_log_c():
    """All uncertainty is about the label."""
    uniform = torch.full((K, N, C), -math.log(C))
    assert (score("bald", uniform) == 0).all()
    assert score("entropy", uniform).tolist() == pytest.approx([math.log(C)] * N)


def test_bald_and_entropy_are_their_formulas_in_plain_loops():
    """I = H[p̄] − mean_k H[p_k] in nats, written out with numpy."""
    log_p = random_samples()
    p = log_p.double().exp().numpy()
    p /= p.sum(-1, keepdims=True)
    for n in range(N):
        mean = p[:, n].mean(0)
        total = -sum(mean[c] * math.log(mean[c]) for c in range(C))
        expected = sum(-sum(p[k, n, c] * math.log(p[k, n, c]) for c in range(C)) for k in range(K)) / K
        assert score("entropy", log_p)[n].item() == pytest.approx(total, abs=1e-12)
        assert score("bald", log_p)[n].item() == pytest.approx(total - expected, abs=1e-12)


def test_bald_lies_between_zero_and_the_predictive_entropy():
    log_p = random_samples(examples=500)
    bald, entropy = score("bald", log_p), score("entropy", log_p)
    assert (bald >= 0).all()
    assert (bald <= entropy).all()
    assert (entropy <= math.log(C)).all()


def test_margin_is_minus_the_gap_of_the_two_most_probable_classes():
    p = torch.tensor([[0.5, 0.1, 0.25, 0.15], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    assert score("margin", p.log()[None]).tolist() == pytest.approx([-0.25, 0, -1], abs=1e-7)


def test_elbo_asks_for_what_is_explained_worst():
    assert SCORES["elbo"]()(Evidence(examples=2, bound=torch.tensor([-10.0, -3.0]))).tolist() == [10.0, 3.0]


def test_moments_of_shards_are_bitwise_rows_of_the_whole():
    """Each example's sums depend on nothing else, so a pool may be cut anywhere."""
    log_p = random_samples(examples=101)
    whole = moments_of(log_p)
    for cut in (1, 37, 64):
        parts = [moments_of(part) for part in (log_p[:, :cut], log_p[:, cut:])]
        for name in ("sum_p", "sum_entropy"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_moments_are_those_of_numpy_in_float64():
    log_p = random_samples()
    moments, p = moments_of(log_p), log_p.double().exp().numpy()
    np.testing.assert_allclose(moments.mean_p.numpy(), p.mean(0), atol=1e-7)
    assert moments.sum_p.dtype == torch.float64
    assert (moments.mean_p.sum(-1) - 1).abs().max() < 1e-15 * 10  # float32 input, float64 sums


def test_adding_moments_leaves_the_samples_alone_and_detached():
    log_p = random_samples()[0].requires_grad_()
    before = log_p.detach().clone()
    moments = Moments.zeros(N, C)
    moments.add(log_p)
    assert torch.equal(log_p.detach(), before)
    assert not moments.sum_p.requires_grad
