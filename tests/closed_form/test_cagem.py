"""CaGeM against quadrature over its latents, and what may move what in training.

With z_1 and z_2 of one dimension the evidence and the cascade are sums over grids, of the networks' own outputs.
"""

import math

import numpy as np
import pytest
import torch
from linear_gaussian import assert_mean_is
from torch import Tensor
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

from al_dgm.errors import ConfigError
from al_dgm.learning.job import ModelSpec
from al_dgm.models import Space
from al_dgm.models.base import Minibatch, Settings
from al_dgm.models.cagem import CaGeM
from al_dgm.models.observation import Gaussian
from al_dgm.nn.batch_norm import population_statistics
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.nn.pairs import Pairs
from al_dgm.objectives.densities import gaussian

B, C, D, S = 4, 3, 2, 6000
SPACE = Space(D, C, Gaussian(), centre=0.2, spread=1.5)
SMALL = {"hidden": [8, 7], "latents": [2, 3], "bayesian": "none"}
NODES, WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.hermite_e.hermegauss(40))
GRID = torch.linspace(-8, 8, 321).double()


def noise(seed: int = 0) -> BatchNoise:
    return BatchNoise(generator(seed))


class NoNoise:
    """Every draw at its mean, in full shape: what is left is a function of x and y."""

    def normal(self, shape):
        """Zeros."""
        return torch.zeros(shape)


def random_model(**options) -> CaGeM:
    """Every network at random, so that no distribution is another's prior."""
    torch.manual_seed(3)
    model = CaGeM(SPACE, **{"hidden": [6, 5], "latents": [1, 1], "bayesian": "none", **options}).double()
    with torch.no_grad():
        for network in model.children():
            for parameter in network.layers[-1].parameters():
                parameter.normal_(std=0.5)
    return model


@pytest.fixture
def model():
    return random_model()


@pytest.fixture
def x():
    return 0.2 + torch.randn(B, D, generator=generator(7)).double()


def one_hot(y: int, rows: int) -> Tensor:
    """y as networks read it."""
    return math.sqrt(C) * F.one_hot(torch.full((rows,), y), C).double()


def normal(parameters: Tensor) -> Normal:
    mean, log_variance = gaussian(parameters)
    return Normal(mean, (0.5 * log_variance).exp())


def log_evidence_on_a_grid(model: CaGeM, x: Tensor) -> Tensor:
    """log Σ_y ∫∫ p(x | y, z_1) p(z_1 | y, z_2) p(y | z_2) p(z_2) dz_1 dz_2 by the trapezoidal rule, [B]."""
    rows, step = len(GRID), (GRID[1] - GRID[0]).item()
    z = GRID[:, None]
    log_p_y = F.log_softmax(model.label_decoder(z, noise=None), -1)
    log_p_z2 = Normal(0, 1).log_prob(GRID)
    total = []
    for y in range(C):
        p_z1 = normal(model.auxiliary_decoder(one_hot(y, rows), z, noise=None))
        above = p_z1.log_prob(GRID) + (log_p_y[:, y] + log_p_z2)[:, None]  # z_2, z_1
        p_x = normal(model.decoder(one_hot(y, rows), z, noise=None))
        total.append(above.logsumexp(0) + p_x.log_prob(x[:, None]).sum(-1))
    return torch.cat(total, dim=1).logsumexp(-1) + 2 * math.log(step)


def cascade_by_quadrature(model: CaGeM, x: Tensor) -> Tensor:
    """∫ q(z_1|x) Σ_ỹ q(ỹ|z_1,x) ∫ q(z_2|z_1,ỹ,x) p(y|z_2) dz_2 dz_1 with Gauss and Hermite's nodes, [B, C]."""
    weights, found = WEIGHTS / WEIGHTS.sum(), []
    for row in SPACE.network_input(x):
        q_z1 = normal(model.auxiliary(row[None], noise=None))
        z_1 = q_z1.mean + q_z1.stddev * NODES[:, None]
        rows = row.expand(len(z_1), D)
        q_y = Categorical(logits=model.classifier(rows, z_1, noise=None)).probs
        p_y = torch.zeros(C).double()
        for label in range(C):
            q_z2 = normal(model.encoder(rows, z_1, one_hot(label, len(z_1)), noise=None))
            z_2 = q_z2.mean + q_z2.stddev * NODES  # a row for each z_1
            p = F.softmax(model.label_decoder(z_2[..., None], noise=None), -1)
            p_y = p_y + torch.einsum("i,j,ijc->c", weights * q_y[:, label], weights, p)
        found.append(p_y)
    return torch.stack(found)


@torch.no_grad()
def test_importance_weights_have_the_evidence_as_their_mean(model, x):
    """E[w] = p(x), y being summed inside each weight; and the bounds lie below."""
    evidence = log_evidence_on_a_grid(model, x)
    log_weights = model.log_importance(x, noise(), S)
    assert_mean_is((log_weights - evidence).exp(), torch.ones(B), dim=0)
    bound = torch.stack([model.elbo(x, noise(seed), 100) for seed in range(20)])
    gap = evidence - bound.mean(0)
    assert (gap > 5 * bound.std(0) / math.sqrt(20)).all()


@torch.no_grad()
def test_the_cascade_is_the_integral_over_both_latents_and_the_sum_over_the_first_label(model, x):
    """Eq. 4.32: p(y | x) ≈ E_q[p(y | z_2)], normalised; and what `cascade` predicts is the logarithm of its mean."""
    model.prediction = "cascade"
    exact = cascade_by_quadrature(model, x)
    torch.testing.assert_close(exact.sum(-1), torch.ones(B).double())
    draws = model.log_cascade(x, model.recognise(x, noise(1), S), noise(2)).exp()
    assert_mean_is(draws, exact, dim=0)
    assert (draws.std(0) > 1e-3).all()
    torch.testing.assert_close(model.log_predictive(x, noise(5), S).exp(), exact, atol=0.01, rtol=0)
    model.prediction = "classifier"
    assert (model.log_predictive(x, noise(5), S).exp() - exact).abs().max() > 0.05


def minibatch(labelled=5, unlabelled=7, shift=0, seed=0, source=None):
    """Rows at random, [·, D]; labels shifted by ``shift``."""
    x = torch.randn(labelled + unlabelled, D, generator=generator(seed))
    y = (torch.arange(labelled) + shift) % C
    return Minibatch(x[:labelled], y, x[labelled:], source or noise(1), source or noise(2))


def small(**options) -> CaGeM:
    torch.manual_seed(0)
    return CaGeM(SPACE, **{**SMALL, **options})


@pytest.mark.parametrize("bayesian", ["none", "all"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_labels_move_the_two_networks_of_y_and_nothing_else(bayesian, batch_norm):
    """Eq. 4.33: the cross-entropies are functions of θ_y and φ_y alone."""
    model = small(bayesian=bayesian, batch_norm=batch_norm)
    model.terms(minibatch(), Settings())["classification"].sum().backward()
    moved = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"classifier", "label_decoder"}


@pytest.mark.parametrize("part", ["labelled_bound", "unlabelled_bound"])
def test_bounds_do_not_see_labels_and_move_every_network(part):
    """A labelled example is one more x to the generative model."""
    model = small()
    one, other = (model.terms(minibatch(shift=shift), Settings())[part] for shift in (0, 1))
    assert torch.equal(one, other)
    one.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_the_classification_term_is_the_cross_entropy_of_both_classifiers():
    """−log q(y | z_1, x) − log Σ_ỹ q(ỹ | z_1, x) p(y | z_2), with every draw at its mean; by plain loops."""
    model, batch = small(), minibatch(source=NoNoise())
    found = model.terms(batch, Settings())["classification"]
    for i, y in enumerate(batch.y.tolist()):
        row = SPACE.network_input(batch.x_labelled[i : i + 1])
        z_1 = model.auxiliary(row, noise=None)[:, :2]
        q = F.softmax(model.classifier(row, z_1, noise=None), -1)[0]
        p = 0.0
        for label in range(C):
            z_2 = model.encoder(row, z_1, one_hot(label, 1).float(), noise=None)[:, :3]
            p += q[label] * F.softmax(model.label_decoder(z_2, noise=None), -1)[0, y]
        torch.testing.assert_close(found[i], -q[y].log() - p.log())


def test_the_bound_of_a_labelled_example_is_that_of_an_unlabelled_one():
    """U(x), whichever set x stands in."""
    model, batch = small(), minibatch(4, 4, source=NoNoise())
    turned = Minibatch(batch.x_unlabelled, batch.y, batch.x_labelled, NoNoise(), NoNoise())
    found, other = (model.terms(rows, Settings()) for rows in (batch, turned))
    torch.testing.assert_close(found["labelled_bound"], other["unlabelled_bound"])
    torch.testing.assert_close(found["unlabelled_bound"], other["labelled_bound"])
    torch.testing.assert_close(found["labelled_bound"], model.elbo(batch.x_labelled, NoNoise(), 1))


@pytest.mark.parametrize("corruption", [[], [0.5, 0.3]])
def test_statistics_of_normalised_layers_do_not_see_labelled_examples(corruption):
    """Neither other labelled examples nor other labels change what an example is normalised by.

    A corrupted classifier is normalised set by set, and so the labelled ones' terms change with those beside them.
    """
    model = small(batch_norm=True, corruption=corruption)
    batch, other = minibatch(source=NoNoise()), minibatch(seed=9, shift=1)
    mixed = Minibatch(other.x_labelled, other.y, batch.x_unlabelled, NoNoise(), NoNoise())
    mixed.x_labelled[0], mixed.y[0] = batch.x_labelled[0], batch.y[0]
    found, expected = (model.terms(rows, Settings()) for rows in (mixed, batch))
    torch.testing.assert_close(found["unlabelled_bound"], expected["unlabelled_bound"])
    for term in () if corruption else ("labelled_bound", "classification"):
        torch.testing.assert_close(found[term][0], expected[term][0])
        assert not torch.isclose(found[term][1:], expected[term][1:]).any()


def test_each_unlabelled_example_counts_once_in_the_statistics():
    """Rows weigh as q(y | z_1, x): mean and variance of the decoder's first layer, by plain loops over the pairs."""
    model, batch = small(batch_norm=True).train(), minibatch(source=NoNoise())
    with population_statistics(model):
        model.terms(batch, Settings())
    x = SPACE.network_input(batch.x_unlabelled)
    z_1 = hidden(model.auxiliary, x)[:, :2]
    q = F.softmax(hidden(model.classifier, torch.cat([x, z_1], 1)), -1)
    assert q.max() - q.min() > 0.3
    rows = [torch.cat([one_hot(y, 7).float(), z_1], 1) @ model.decoder.layers[0].weight for y in range(C)]
    mean = sum(q[i, y] * rows[y][i] for i in range(7) for y in range(C)) / 7
    variance = sum(q[i, y] * (rows[y][i] - mean) ** 2 for i in range(7) for y in range(C)) / 7
    torch.testing.assert_close(model.decoder.norms[0].mean, mean)
    torch.testing.assert_close(model.decoder.norms[0].variance, variance)


def hidden(network, inputs: Tensor) -> Tensor:
    """A network with one hidden layer, normalised by the minibatch at hand."""
    first, last = network.layers
    h = inputs @ first.weight + first.bias
    return F.relu((h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()) @ last.weight + last.bias


def test_two_sizes_are_asked_for():
    about = ModelSpec("cagem", {"latents": [3]}, D, tuple("abc"), {"kind": "gaussian"}, 0.0, 1.0)
    with pytest.raises(ConfigError, match=r"^model\.cagem\.latents: list should have at least 2 items .*, got \[3\]"):
        about.build(0)


def test_pairs_of_one_example_are_drawn_once_for_the_classifier_and_every_bound():
    """`log_weights` of given labels are those of the enumeration, class by class."""
    model, x = random_model(), torch.randn(B, D, generator=generator(1)).double()
    seen = model.recognise(x, NoNoise(), 1)
    pairs = Pairs(B, torch.zeros(0, dtype=torch.int64), None, C)
    every, _ = pairs.split(model.bounds(x, seen, pairs, NoNoise(), 1, closed_form=False))
    for y in range(C):
        torch.testing.assert_close(model.log_weights(x, torch.full((B,), y), NoNoise(), 1), every[..., y])
