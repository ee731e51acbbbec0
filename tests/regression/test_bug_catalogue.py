"""The bugs that other implementations of these models had, one by one, and what keeps each out of this one.

Most are guarded by a test elsewhere, which is named here; the others by a test in this file, named after its number.
"""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_models import PARAMS
from small_project import make_project

from al_dgm.config import load_params
from al_dgm.data.half_moons import half_moons
from al_dgm.data.prepared import Pool
from al_dgm.files import read_table, write_table
from al_dgm.learning.batches import Batches
from al_dgm.learning.job import ModelSpec
from al_dgm.learning.objective import Weighting
from al_dgm.learning.predict import Predictor
from al_dgm.learning.rounds import train_round, training_data
from al_dgm.models import MODELS, DeepGenerativeModel
from al_dgm.models.base import Minibatch, Settings
from al_dgm.models.enumerating import Recognition
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.objectives.bounds import unlabelled_bound
from al_dgm.objectives.densities import binomial_log_density, gaussian, normal_log_density

TESTS = Path(__file__).parents[1]
HERE = "regression/test_bug_catalogue.py::test_bug_"
BOUNDS, DENSITIES = "closed_form/test_bounds.py::test_", "closed_form/test_densities.py::test_"
GENERATIVE_MODEL = "conformance/test_semi_supervised_models.py::test_"
MODEL, OBJECTIVE, FIT = "conformance/test_models.py::test_", "unit/test_objective.py::test_", "unit/test_fit.py::test_"

CATALOGUE = {
    1: ("log p(y) dropped from the bound", BOUNDS + "the_prior_of_the_class_stays_in_every_bound"),
    2: ("likelihood averaged over pixels beside a KL that is summed", HERE + "02"),
    3: (
        "cross-entropy factor from #batches or N_l",
        OBJECTIVE + "neither_weight_nor_divergence_depends_on_the_minibatch",
    ),
    4: ("sign of the entropy of q(y|x)", HERE + "04"),
    5: ("labelled examples counted in U and forgotten in N", HERE + "05"),
    6: ("product of means for mean of products", BOUNDS + "the_mean_over_samples_stands_outside_the_sum_over_classes"),
    7: ("log of the mean for the mean of the log in the classification term", HERE + "07"),
    8: (
        "KL(W) divided by n_l, batch or layers, or added more than once",
        OBJECTIVE + "the_divergence_of_the_weights_is_counted_once_whatever_is_in_the_minibatch",
    ),
    9: (
        "warm-up applied to the reconstruction, or not to KL(a)",
        GENERATIVE_MODEL + "tempering_scales_the_likelihood_and_the_divergence_but_not_the_prior",
    ),
    10: ("softplus on a log-variance: no standard deviation below 1", HERE + "10"),
    11: (
        "standard deviation used as variance",
        "closed_form/test_weights.py::test_the_posterior_is_never_wider_than_the_fan_in_scaled_prior",
    ),
    12: (
        "log(p + 1e-8) for a density from logits",
        DENSITIES + "binomial_density_of_extreme_logits_is_exact_and_finite",
    ),
    13: ("density clip of a scale-mixture prior", "does not apply: the prior is Gaussian and its KL closed"),
    14: (
        "class-major tiling read as example-major",
        GENERATIVE_MODEL + "enumerated_and_given_labels_have_the_same_bound",
    ),
    15: ("a redrawn for the classifier and for each class", HERE + "15"),
    16: ("the same noise in every importance sample", HERE + "16"),
    17: ("sampled y without variance reduction", "does not apply: y is always enumerated"),
    18: ("class-sorted unlabelled stream", "unit/test_batches.py::test_minibatches_of_class_sorted_data_are_mixed"),
    19: ("binarisation of the labelled set frozen", HERE + "19"),
    20: ("grey values under a Bernoulli likelihood", HERE + "20"),
    21: ("static binarisation in one place, dynamic in another", HERE + "20"),
    22: ("test set drawn with the training set's seed", HERE + "22"),
    23: ("best epoch picked on the test set", HERE + "23"),
    24: ("labelled subset not balanced", "unit/test_seed_set.py::test_balanced_differs_by_one_at_most"),
    25: ("warm-up advanced in validation or twice a step", FIT + "warm_ups_advance_once_a_step_and_no_more"),
    26: (
        "batch-norm statistics from enumerated rows",
        "closed_form/test_cagem.py::test_each_unlabelled_example_counts_once_in_the_statistics",
    ),
    27: ("networks re-created after their initialisation", HERE + "27"),
    28: ("a network missing from the optimiser", FIT + "the_optimiser_holds_every_parameter_with_torch_conventions"),
    29: ("betas (0.1, 0.001)", FIT + "the_optimiser_holds_every_parameter_with_torch_conventions"),
    30: ("variance heads at a default initialisation", HERE + "27"),
    31: (
        "importance-weighted bound without −log K",
        BOUNDS + "constant_log_weights_are_their_own_bound_for_any_number_of_samples",
    ),
    32: (
        "weights drawn anew for each scored minibatch",
        MODEL + "weight_sample_k_is_the_same_function_for_every_example_and_every_batch",
    ),
    33: ("incomplete last minibatch of the test set dropped", HERE + "33"),
}

GENERATIVE = sorted(n for n, m in MODELS.items() if isinstance(m, type) and issubclass(m, DeepGenerativeModel))
every_generative = pytest.mark.parametrize("name", GENERATIVE)
B, C, D, S = 5, 3, 4, 6


def model_of(name, kind="bernoulli", hidden=5, latent=2, **options):
    sizes = {"hidden": [hidden], "latent": latent}
    if name == "cagem":
        sizes = {"hidden": 2 * [hidden], "latents": [options.pop("auxiliary", latent), latent]}
    options = {**sizes, "bayesian": "none", **options}
    return ModelSpec(name, options, D, tuple("abc"), {"kind": kind, "trials": 16}, 0.5, 0.5).build(0)


def noise(seed=0):
    return BatchNoise(generator(seed))


class Recorder(BatchNoise):
    """Notes the shapes of what is drawn."""

    def __init__(self):
        super().__init__(generator(0))
        self.shapes = []

    def normal(self, shape):
        """As drawn, and noted."""
        self.shapes.append(tuple(shape))
        return super().normal(shape)


def minibatch(labelled, unlabelled, labelled_noise=None):
    y = torch.arange(len(labelled)) % C
    return Minibatch(labelled, y, unlabelled, labelled_noise or noise(0), noise(1))


def seen_by_bounds(model, monkeypatch):
    """The list of x that `bounds` is given from here on."""
    seen, original = [], model.bounds

    def spy(x, *args, **kwargs):
        seen.append(x)
        return original(x, *args, **kwargs)

    monkeypatch.setattr(model, "bounds", spy)
    return seen


@pytest.mark.parametrize("number", CATALOGUE)
def test_every_bug_is_guarded_by_a_test_that_exists(number):
    """The named function is there; entries of this file name its prefix."""
    guard = CATALOGUE[number][1]
    if guard.startswith("does not apply"):
        return
    file, name = guard.split("::")
    defined = [node.name for node in ast.walk(ast.parse((TESTS / file).read_text())) if hasattr(node, "name")]
    assert any(found == name or (guard.startswith(HERE) and found.startswith(name + "_")) for found in defined)


def test_the_catalogue_is_complete():
    assert sorted(CATALOGUE) == list(range(1, 34))


def test_bug_02_likelihoods_are_summed_over_the_features():
    """Every feature twice is twice the log-likelihood; an average would stay the same."""
    x, logits = torch.rand(B, D), torch.randn(B, D)
    for density in (lambda *v: binomial_log_density(*v, trials=16), lambda x, m: normal_log_density(x, m, 0 * m)):
        twice = density(torch.cat([x, x], 1), torch.cat([logits, logits], 1))
        torch.testing.assert_close(twice, 2 * density(x, logits))


def test_bug_04_the_entropy_of_the_classifier_raises_the_bound():
    """Equal bounds L and uniform q: U = L + log C."""
    found = unlabelled_bound(torch.full((1, 1, C), -8.0), torch.full((1, 1, C), -math.log(C)))
    assert found.item() == pytest.approx(-8 + math.log(C))


def test_bug_05_labelled_examples_are_not_unlabelled_ones_and_count_in_n():
    """The two sets are a partition of the pool, N is its size, and each label stays with its example."""
    pool = Pool(ids=np.array([f"x{i}" for i in range(8)]), x=np.arange(8, dtype=np.float32)[:, None])
    labels = pd.Series({"x6": "a", "x1": "c", "x3": "b"})
    data = training_data(pool, labels, ("a", "b", "c"))
    assert dict(zip(data.x_labelled[:, 0].tolist(), data.y.tolist(), strict=True)) == {6: 0, 1: 2, 3: 1}
    assert data.x_unlabelled[:, 0].tolist() == [0, 2, 4, 5, 7]
    assert Weighting.of("sum", len(data.x_labelled), len(data.x_unlabelled), 1.0).labelled == 3 / 8


@pytest.mark.parametrize("name", sorted(set(GENERATIVE) - {"cagem"}))  # whose term has a second part
def test_bug_07_the_classification_term_is_the_mean_of_the_logarithm(name, monkeypatch):
    """E_q(a|x)[−log q(y|a,x)] and not −log E_q(a|x)[q(y|a,x)], thesis Eq. 4.22 corrected."""
    model = model_of(name)
    q = torch.tensor([[[0.9, 0.05, 0.05]], [[0.1, 0.8, 0.1]]])
    seen = Recognition(q.log(), torch.zeros(2, 1, 0), torch.zeros(2, 1))
    monkeypatch.setattr(model, "recognise", lambda *_, **__: seen)
    monkeypatch.setattr(model, "bounds", lambda *_, **__: torch.zeros(2, 1))
    term = model.terms(minibatch(torch.zeros(1, D), torch.zeros(0, D)), Settings())["classification"]
    assert term.item() == pytest.approx(-(math.log(0.9) + math.log(0.1)) / 2)
    assert term.item() != pytest.approx(-math.log((0.9 + 0.1) / 2), abs=0.1)


def test_bug_10_a_standard_deviation_may_be_below_one():
    mean, log_variance = gaussian(torch.tensor([0.0, -6.0]))
    density = normal_log_density(mean, mean, log_variance)
    assert density.item() == pytest.approx(3 - 0.5 * math.log(2 * math.pi))


def test_bug_15_one_draw_of_a_serves_the_classifier_and_every_class():
    """a is drawn once per example and sample, [S, B, A]; z per pair; the classifier draws nothing of its own."""
    for name in ("adgm", "sdgm", "cagem"):
        model, recorder, x = model_of(name, auxiliary=7), Recorder(), torch.rand(B, D)
        terms = model.class_bounds(x, recorder, S)
        assert recorder.shapes == [(S, B, 7), (S, B * C, 2)]
        torch.testing.assert_close(terms.log_q, model.recognise(x, noise(0), S).log_q)  # the same seed, the same a


@every_generative
def test_bug_16_importance_samples_have_noise_of_their_own(name):
    """S draws give S different log-weights, in every example."""
    weights = model_of(name).log_weights(torch.rand(B, D), torch.zeros(B).long(), noise(), S)
    assert all(len(row.unique()) == S for row in weights.T)


@every_generative
def test_bug_19_labelled_examples_are_binarised_anew_in_every_step(name, monkeypatch):
    """The noise of step t is a function of t, and the labelled x is drawn with it."""
    model, x = model_of(name), torch.full((B, D), 0.5)
    seen, batches = seen_by_bounds(model, monkeypatch), Batches(B, B, 0, "labelled")
    for step in (0, 1, 0):
        model.terms(minibatch(x, x[:0], batches.noise(step, torch.device("cpu"))), Settings())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


@every_generative
def test_bug_20_trained_and_reported_bounds_are_of_zeros_and_ones(name, monkeypatch):
    """In both training objectives and the reported bound alike, so that their nats compare.

    Not so the Bayes classifier's: see `DeepGenerativeModel.log_bayes`.
    """
    model, x = model_of(name), torch.rand(B, D, generator=generator(1))
    seen = seen_by_bounds(model, monkeypatch)
    model.terms(minibatch(x, x), Settings())
    Predictor(PARAMS.prediction, seed=0, batch=3).expected_elbo(model, x)
    assert len(seen) == 1 + math.ceil(B / 3)
    assert all(set(part.unique().tolist()) <= {0.0, 1.0} for part in seen)


def test_bug_22_pool_and_holdout_are_different_draws():
    raw = half_moons(seed=0, examples=50, holdout=50, noise=0.1)
    pool, holdout = raw.features[~raw.holdout], raw.features[raw.holdout]
    assert {tuple(row) for row in pool.tolist()}.isdisjoint(tuple(row) for row in holdout.tolist())


def test_bug_23_nothing_is_chosen_by_the_holdout(tmp_path):
    """Rounds with other holdout labels measure otherwise and keep the same model, to the byte."""
    found = []
    for wrong in (False, True):
        project = make_project(tmp_path / str(wrong))
        params, layout = load_params(project.folder / "params.yaml"), project.layout
        path = layout.prepared / "holdout.parquet"
        if wrong:
            table = read_table(path)
            write_table(path, table.set_column(2, "label", table["label"][::-1]))
        train_round(params, layout, 1, lambda job, *_: job.run(torch.device("cpu")))
        metrics = json.loads((layout.round(1) / "metrics.json").read_text())
        found.append(((layout.round(1) / "model" / "model.safetensors").read_bytes(), metrics["accuracy"]))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


@every_generative
def test_bug_27_and_30_latents_start_at_unit_variance_and_hidden_layers_as_asked(name):
    """Every Gaussian head over latents starts near N(0, 1); hidden layers have Glorot's spread."""
    model = model_of(name, kind="gaussian", hidden=400, latent=3)
    heads = [model.get_submodule(n) for n in ("encoder", "auxiliary", "auxiliary_decoder") if hasattr(model, n)]
    for network in heads:
        hidden, head = network.layers
        assert head.weight.std().item() == pytest.approx(1e-3, rel=0.2)
        assert head.bias.abs().max() == 0
        assert hidden.weight.std().item() == pytest.approx(math.sqrt(2 / sum(hidden.weight.shape)), rel=0.2)


@every_generative
def test_bug_33_every_holdout_example_is_measured(name):
    """7 examples in minibatches of 3 give 7 bounds, those of one minibatch."""
    model, x = model_of(name), torch.rand(7, D, generator=generator(2))
    threes, whole = (Predictor(PARAMS.prediction, seed=0, batch=n).expected_elbo(model, x) for n in (3, 7))
    assert threes.shape == (7,)
    torch.testing.assert_close(threes, whole)
