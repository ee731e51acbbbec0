"""What every score and every selector promises, for each that is registered, and for each pair of them."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import scipy.stats
import torch

from al_dgm.acquisition import SCORES, SELECTORS, Evidence, Moments, Needs, select
from al_dgm.config import Choice
from al_dgm.errors import ConfigError, NonFiniteScoreError, PoolExhaustedError
from al_dgm.nn.noise import generator
from al_dgm.registry import build
from al_dgm.seeding import rng

N, K, C = 12, 5, 4
IDS = [f"x{i:02d}" for i in range(N)]

every_score = pytest.mark.parametrize("score", sorted(SCORES))
every_selector = pytest.mark.parametrize("selector", sorted(SELECTORS))
STOCHASTIC = sorted(set(SELECTORS) - {"top_k"})


class OnlyDeclared(Evidence):
    """Evidence that refuses to be asked for more than the score's ``needs``, and records what it was asked for."""

    def __init__(self, needs, **parts):
        self.allowed = {Needs.NOTHING: set(), Needs.BOUND: {"bound"}}.get(needs, {"moments"})
        self.read = set()
        super().__init__(**{key: value for key, value in parts.items() if key in {"examples", *self.allowed}})

    def __getattribute__(self, name):
        if name in {"moments", "bound"}:
            assert name in self.allowed, f"reads {name} without declaring it"
            self.read.add(name)
        return super().__getattribute__(name)


def moments_of(log_p):
    moments = Moments.zeros(log_p.shape[1], log_p.shape[2])
    for sample in log_p:
        moments.add(sample)
    return moments


def evidence_parts(order=None, examples=N):
    """Moments and bounds of ``examples`` candidates, in the given order."""
    order = torch.arange(examples) if order is None else order
    log_p = (2 * torch.randn(K, examples, C, generator=generator(0))).log_softmax(-1)[:, order]
    bound = -20 + 5 * torch.randn(examples, generator=generator(1))[order]
    return {"examples": examples, "moments": moments_of(log_p), "bound": bound}


def evaluate(score, **parts):
    function = SCORES[score]()
    evidence = OnlyDeclared(function.needs, **parts)
    return function(evidence), evidence


def selector_of(name, **options):
    return build(SELECTORS, name, options, "acquisition.selector")


@every_score
def test_what_a_score_declares_suffices_and_nothing_else_is_read(score):
    """One finite float64 per candidate, from the declared evidence alone."""
    values, evidence = evaluate(score, **evidence_parts())
    assert (values.shape, values.dtype) == ((N,), torch.float64)
    assert values.isfinite().all()
    assert evidence.read == evidence.allowed


@every_score
def test_a_score_whose_evidence_is_missing_says_so(score):
    function = SCORES[score]()
    if function.needs is Needs.NOTHING:
        assert function(Evidence(examples=3)).tolist() == [0, 0, 0]
        return
    with pytest.raises(RuntimeError, match=f"needs.*{function.needs.name}"):
        function(Evidence(examples=N))


@every_score
def test_scores_move_with_their_examples(score):
    """Permuting the candidates permutes the scores, to the bit; so does leaving some out."""
    order = torch.randperm(N, generator=generator(2))
    values, _ = evaluate(score, **evidence_parts())
    permuted, _ = evaluate(score, **evidence_parts(order))
    assert torch.equal(permuted, values[order])
    alone, _ = evaluate(score, **{**evidence_parts(order[:1]), "examples": 1})
    assert torch.equal(alone, values[order[:1]])


@every_score
def test_equal_evidence_gives_equal_scores_and_is_left_as_it_was(score):
    parts = evidence_parts()
    before = parts["moments"].sum_p.clone(), parts["bound"].clone()
    first, _ = evaluate(score, **parts)
    second, _ = evaluate(score, **parts)
    assert torch.equal(first, second)
    assert torch.equal(parts["moments"].sum_p, before[0])
    assert torch.equal(parts["bound"], before[1])


@every_score
@every_selector
def test_every_pair_makes_a_query(score, selector):
    """Distinct ids of the pool, each with its own score; a selector that cannot take the scores says which can."""
    values = evaluate(score, **evidence_parts())[0].numpy()
    if selector == "power" and (values < 0).any():
        with pytest.raises(ConfigError, match=r"'power' needs scores >= 0.*softmax and softrank take any score"):
            select(IDS, values, selector_of(selector), 5, rng(0))
        return
    chosen = select(IDS, values, selector_of(selector), 5, rng(0))
    assert len({name for name, _ in chosen}) == 5
    assert all(value == values[IDS.index(name)] for name, value in chosen)
    assert chosen == select(IDS, values, selector_of(selector), 5, rng(0))


@every_score
def test_the_best_examples_are_chosen_by_id_whatever_the_order_of_the_pool(score):
    """top_k on a shuffled pool asks for the same ids in the same order (where scores differ)."""
    values = evaluate(score, **evidence_parts())[0].numpy()
    order = np.random.default_rng(0).permutation(N)
    if len(set(values)) < N:
        pytest.skip("scores are all equal: the choice is the tie-breaking")
    straight = select(IDS, values, selector_of("top_k"), 5, rng(0))
    shuffled = select([IDS[i] for i in order], values[order], selector_of("top_k"), 5, rng(1))
    assert straight == shuffled
    assert [value for _, value in straight] == sorted(values, reverse=True)[:5]


def test_ties_are_broken_at_random_and_not_by_position():
    """Equal scores: each of 6 is chosen first 1/6 of the time (chi-square)."""
    firsts = Counter(int(selector_of("top_k")(np.zeros(6), 1, rng(seed))[0]) for seed in range(1200))
    assert scipy.stats.chisquare([firsts[i] for i in range(6)]).pvalue > 1e-4


@every_selector
def test_the_whole_pool_is_chosen_once_each(selector):
    """size = N is a permutation, also with ties, zeros and a single candidate."""
    for scores in (np.arange(9.0), np.zeros(9), np.array([0.0] * 5 + [1.0] * 4), np.ones(1), np.array([1e300, 1e-300])):
        chosen = selector_of(selector)(scores, len(scores), rng(3))
        assert sorted(chosen) == list(range(len(scores)))


@every_selector
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused_by_id(selector, broken):
    """A sort would put NaN first or last in silence; all are counted, up to five named."""
    scores = np.linspace(0, 1, N)
    scores[[2, 7]] = broken
    with pytest.raises(NonFiniteScoreError, match=r"^2 of 12 scores are not finite: x02 \(.*\), x07 \("):
        select(IDS, scores, selector_of(selector), 3, rng(0))
    scores[:] = broken
    with pytest.raises(NonFiniteScoreError, match=r"^12 of 12 .*x04 \(-?(nan|inf)\)$"):
        select(IDS, scores, selector_of(selector), 3, rng(0))


@every_selector
def test_a_query_larger_than_the_pool_is_refused_with_both_numbers(selector):
    with pytest.raises(PoolExhaustedError, match=r"^pool exhausted: requested 13 examples, available 12$"):
        select(IDS, np.ones(N), selector_of(selector), 13, rng(0))
    with pytest.raises(PoolExhaustedError, match="requested 1 examples, available 0"):
        select([], np.empty(0), selector_of(selector), 1, rng(0))


def test_a_negative_beta_is_refused_with_its_path():
    with pytest.raises(
        ConfigError, match=r"^acquisition\.selector\.softmax\.beta: .*greater than or equal to 0, got -1"
    ):
        Choice(name="softmax", softmax={"beta": -1}).build(SELECTORS, "acquisition.selector")


SCORE_VALUES = np.array([0.2, 1.5, 0.9, 0.1, 2.0])


def first_pick_probabilities(selector, beta):
    """What the docstring promises: ∝ exp(β s), s^β, or rank^−β with the best score at rank 1."""
    rank = scipy.stats.rankdata(-SCORE_VALUES)
    weights = {"softmax": np.exp(beta * SCORE_VALUES), "power": SCORE_VALUES**beta, "softrank": rank**-beta}[selector]
    return weights / weights.sum()


def draws(selector, beta, size, count=4000):
    """``count`` queries of ``size`` positions, as tuples."""
    stream, chooser = rng(11), selector_of(selector, beta=beta)
    return Counter(tuple(chooser(SCORE_VALUES, size, stream)) for _ in range(count))


@pytest.mark.parametrize("selector", STOCHASTIC)
def test_at_beta_zero_the_choice_is_uniform(selector):
    """All ordered pairs alike (chi-square)."""
    counts = draws(selector, 0.0, 2)
    pairs = list(itertools.permutations(range(5), 2))
    assert scipy.stats.chisquare([counts[pair] for pair in pairs]).pvalue > 1e-4


@pytest.mark.parametrize("selector", STOCHASTIC)
@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_first_picks_have_the_promised_frequencies(selector, beta):
    """Each within five standard errors of its probability."""
    counts, count = draws(selector, beta, 1), 4000
    for position, p in enumerate(first_pick_probabilities(selector, beta)):
        assert counts[position,] / count == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / count))


@pytest.mark.parametrize("selector", STOCHASTIC)
def test_later_picks_are_draws_without_replacement(selector):
    """Gumbel-top-k: P(i, then j) = p_i p_j / (1 − p_i), each ordered pair within five standard errors."""
    p, count = first_pick_probabilities(selector, 1.0), 4000
    counts = draws(selector, 1.0, 2)
    for i, j in itertools.permutations(range(5), 2):
        pair = p[i] * p[j] / (1 - p[i])
        assert counts[i, j] / count == pytest.approx(pair, abs=5 * math.sqrt(pair * (1 - pair) / count))


@pytest.mark.parametrize("selector", STOCHASTIC)
def test_a_large_beta_is_top_k(selector):
    best = list(np.argsort(-SCORE_VALUES)[:3])
    assert list(selector_of(selector, beta=1e6)(SCORE_VALUES, 3, rng(0))) == best


def test_power_puts_zeros_after_every_positive_score():
    chosen = selector_of("power", beta=0.01)(np.array([0.0, 1e-9, 0.0, 5.0]), 4, rng(0))
    assert set(chosen[:2]) == {1, 3}


def test_random_acquisition_is_uniform_over_the_pool():
    """Random × top_k: each candidate is asked for equally often (chi-square)."""
    values = SCORES["random"]()(Evidence(examples=N)).numpy()
    counts = Counter()
    for seed in range(800):
        counts.update(name for name, _ in select(IDS, values, selector_of("top_k"), 3, rng(seed)))
    assert scipy.stats.chisquare([counts[name] for name in IDS]).pvalue > 1e-4
