from pathlib import Path

import pytest

from al_dgm.config import Choice
from al_dgm.errors import ConfigError
from al_dgm.labelling import build_source
from al_dgm.labelling.oracle import SimulatedOracle
from al_dgm.labelling.query import make_query

CLASSES = ("a", "b", "c", "d")
N = 4000
TRUTH = {f"x{n:05d}": CLASSES[n % 4] for n in range(N)}


def ask(oracle, ids, round_number=1):
    query = make_query(round_number, "m", "random", ids, [0.0] * len(ids))
    return oracle.collect(query).labels.set_index("id")["label"].to_dict()


def oracle(noise=0.0, seed=0, truth=TRUTH, classes=CLASSES, **options):
    return SimulatedOracle(noise, truth=lambda: truth, classes=classes, seed=seed, **options)


def test_without_noise_it_tells_the_truth():
    """Noise 0: every answer is the true class."""
    assert ask(oracle(), list(TRUTH)) == TRUTH


def test_with_noise_one_it_never_does():
    """Noise 1: every answer is a class, but the wrong one."""
    answers = ask(oracle(1.0), list(TRUTH))
    assert all(answers[x] != TRUTH[x] for x in TRUTH)
    assert set(answers.values()) == set(CLASSES)


def test_noise_is_the_rate_of_wrong_answers():
    """The share of flips is binomial: within four standard errors of the noise, fixed seed."""
    noise = 0.3
    flips = sum(answer != TRUTH[x] for x, answer in ask(oracle(noise), list(TRUTH)).items())
    assert abs(flips - N * noise) < 4 * (N * noise * (1 - noise)) ** 0.5


def test_wrong_answers_are_uniform():
    """Each of the C - 1 wrong classes is drawn with equal probability: chi-squared below its 99.9 % point."""
    answers = ask(oracle(1.0), list(TRUTH))
    for true in CLASSES:
        counts = [sum(answers[x] == c for x in TRUTH if TRUTH[x] == true) for c in CLASSES if c != true]
        expected = sum(counts) / 3
        assert sum((n - expected) ** 2 / expected for n in counts) < 13.8  # chi-squared, 2 degrees of freedom


def test_an_answer_depends_on_seed_and_id_alone():
    """Neither order, round, query nor what was asked before shifts an example's answer."""
    ids = list(TRUTH)[:200]
    whole = ask(oracle(0.5), ids)
    talkative = oracle(0.5)
    ask(talkative, list(TRUTH)[200:400])
    assert ask(talkative, ids[::-1], round_number=7) == whole
    assert {x: ask(oracle(0.5), [x])[x] for x in ids[:20]} == {x: whole[x] for x in ids[:20]}
    assert ask(oracle(0.5, seed=1), ids) != whole


def test_more_noise_errs_wherever_less_does():
    """Runs that differ in noise alone are paired."""
    little, much = ask(oracle(0.2), list(TRUTH)), ask(oracle(0.4), list(TRUTH))
    assert all(much[x] == little[x] for x in TRUTH if little[x] != TRUTH[x])


def test_without_truth_it_skips():
    """An example whose label nobody knows is answered with a skip, at the cost of an answer, without a time."""
    query = make_query(2, "m", "random", ["x00001", "unknown"], [1.0, 0.0])
    rows = oracle(1.0, cost=2.5).collect(query).labels
    assert list(rows["label"].isna()) == [False, True]
    assert list(rows["cost"]) == [2.5, 2.5]
    assert rows["time"].isna().all()
    assert set(rows["round"]) == {2}
    assert set(rows["query_id"]) == {query.id}


def test_the_truth_is_read_once_and_late():
    """Building an oracle opens no file."""
    calls = []
    lazy = SimulatedOracle(truth=lambda: calls.append(1) or TRUTH, classes=CLASSES, seed=0)
    assert calls == []
    ask(lazy, ["x00001"])
    ask(lazy, ["x00002"])
    assert calls == [1]


def test_noise_needs_a_wrong_class():
    """With one class there is nothing wrong to say."""
    with pytest.raises(ConfigError, match=r"labels.oracle.noise: expected 0"):
        oracle(0.1, classes=("a",))


def built(choice, truth=lambda: TRUTH):
    return build_source(Choice.model_validate(choice), truth=truth, classes=CLASSES, seed=0, root=Path("/nowhere"))


def test_params_choose_the_source():
    """A section of params.yaml makes the source, with the options of the one that is named."""
    choice = {"name": "oracle", "oracle": {"noise": 1.0, "cost": 3}, "csv": {"folder": "elsewhere"}}
    assert ask(built(choice), ["x00000"])["x00000"] != "a"
    csv = built(choice | {"name": "csv"})
    assert "/nowhere/elsewhere" in csv.where(make_query(1, "m", "random", [], []))


def test_a_human_source_cannot_read_the_truth(tmp_path):
    """Only a constructor that names the truth is given it."""

    def forbidden():
        raise AssertionError

    source = build_source(Choice(name="csv"), truth=forbidden, classes=CLASSES, seed=0, root=tmp_path)
    query = make_query(1, "m", "random", ["x00001"], [0.0])
    source.submit(query)
    assert source.collect(query).pending == ("x00001",)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "oracel"}, r"labels.name: unknown name 'oracel' \(did you mean 'oracle'\?\)"),
        (
            {"name": "oracle", "oracle": {"noice": 0.1}},
            r"labels.oracle.noice: unknown option \(did you mean 'noise'\?\)",
        ),
        ({"name": "oracle", "oracle": {"noise": 1.5}}, r"labels.oracle.noise: .*less than or equal to 1, got 1.5"),
        ({"name": "oracle", "oracle": {"cost": -1}}, r"labels.oracle.cost: .*greater than or equal to 0, got -1"),
        ({"name": "oracle", "oracle": {"seed": 1}}, r"labels.oracle.seed: unknown option"),
    ],
)
def test_wrong_options_are_named(choice, message):
    """A slip in params.yaml is told with its path, and the program's own arguments are not the user's to set."""
    with pytest.raises(ConfigError, match=message):
        built(choice)
