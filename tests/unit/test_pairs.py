"""(example, class) pairs against plain loops over them."""

import pytest
import torch
from torch import nn

from al_dgm.nn import pairs as module
from al_dgm.nn.linear import BayesianLinear, Linear
from al_dgm.nn.noise import BatchNoise, generator
from al_dgm.nn.pairs import Label, OfExamples, Pairs

U, L, C, F, H = 4, 3, 5, 2, 6
GIVEN = torch.tensor([4, 0, 2])
CANDIDATES = torch.tensor([[0, 3], [4, 1], [2, 0], [1, 3]])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def rows(pairs):
    """(example, class) of every row, by loops."""
    classes = [list(range(C))] * U if pairs.candidates is None else pairs.candidates.tolist()
    alone = [(u, c) for u in range(pairs.unlabelled) for c in classes[u]]
    return alone + [(pairs.unlabelled + i, c) for i, c in enumerate(pairs.given.tolist())]


@pytest.fixture(
    params=[
        Pairs(U, GIVEN, None, C),
        Pairs(U, GIVEN, CANDIDATES, C),
        Pairs(U, GIVEN[:0], None, C),
        Pairs.labelled(GIVEN, C),
    ],
    ids=["all classes", "some classes", "nothing labelled", "all labelled"],
)
def pairs(request):
    return request.param


def examples(pairs):
    return pairs.unlabelled + len(pairs.given)


def test_rows_stand_example_by_example_the_labelled_ones_last(pairs):
    assert list(zip(pairs.examples.tolist(), pairs.labels.tolist(), strict=True)) == rows(pairs)


def test_what_belongs_to_examples_and_classes_is_found_in_their_rows(pairs):
    values, table = random(2, examples(pairs), F), random(C, H)
    spread, looked_up = pairs.spread(values), pairs.look_up(table)
    for row, (example, label) in enumerate(rows(pairs)):
        assert torch.equal(spread[:, row], values[:, example])
        assert torch.equal(looked_up[row], table[label])


def test_values_of_rows_come_apart_again(pairs):
    of_rows = random(2, len(rows(pairs)))
    alone, known = pairs.split(of_rows)
    assert alone.shape == (2, pairs.unlabelled, pairs.width)
    assert torch.equal(torch.cat([alone.flatten(1), known], dim=1), of_rows)


def test_the_classifier_is_normalised_over_the_classes_that_stand_there(pairs):
    log_q = random(2, examples(pairs), C).log_softmax(-1)
    alone, known = pairs.pick(log_q)
    torch.testing.assert_close(alone.logsumexp(-1), torch.zeros(2, pairs.unlabelled).double())
    for u in range(pairs.unlabelled):
        chosen = list(range(C)) if pairs.candidates is None else pairs.candidates[u].tolist()
        torch.testing.assert_close(alone[:, u], log_q[:, u, chosen].log_softmax(-1))
    for i, label in enumerate(pairs.given.tolist()):
        assert torch.equal(known[:, i], log_q[:, pairs.unlabelled + i, label])


@pytest.mark.parametrize("few", [0, C])
def test_gradients_are_those_of_finite_differences(pairs, few, monkeypatch):
    """Both ways to differentiate a look-up: the scattering for many classes, and the product for few."""
    monkeypatch.setattr(module, "FEW_CLASSES", few)
    values, table = random(2, examples(pairs), F).requires_grad_(), random(C, H).requires_grad_()
    assert torch.autograd.gradcheck(pairs.spread, values)
    assert torch.autograd.gradcheck(pairs.look_up, table)


@pytest.mark.parametrize("layer", [Linear, BayesianLinear])
def test_a_layer_multiplies_each_example_once_and_gives_what_the_plain_product_gives(pairs, layer):
    """x, y and a tensor of rows, against one linear layer on [x, scale · one-hot y, z] row by row."""
    torch.manual_seed(0)
    layer, z = layer([F, C, 2], H).double(), random(len(rows(pairs)), 2, seed=1)
    layer.mode = "mean"
    x = random(examples(pairs), F)
    found = layer(OfExamples(x, pairs), Label(1.5, pairs), z, noise=None)
    one_hot = 1.5 * nn.functional.one_hot(torch.tensor([c for _, c in rows(pairs)]), C).double()
    together = torch.cat([x[[e for e, _ in rows(pairs)]], one_hot, z], dim=1)
    weight = layer.weight if isinstance(layer, Linear) else layer.mean
    torch.testing.assert_close(found, together @ weight + layer.bias)


def test_the_variance_of_bayesian_weights_is_that_of_the_plain_product(pairs):
    """Local reparameterisation squares every input: h − mean is ε √(Σ x² σ²)."""
    torch.manual_seed(0)
    layer, x = BayesianLinear([F, C], H).double(), random(examples(pairs), F)
    inputs = OfExamples(x, pairs), Label(1.5, pairs)
    local = layer(*inputs, noise=BatchNoise(generator(3)))
    layer.mode = "mean"
    mean = layer(*inputs, noise=None)
    one_hot = 1.5 * nn.functional.one_hot(torch.tensor([c for _, c in rows(pairs)]), C).double()
    together = torch.cat([x[[e for e, _ in rows(pairs)]], one_hot], dim=1)
    scale = (together.square() @ layer.sd.square()).sqrt()
    epsilon = BatchNoise(generator(3)).normal(mean.shape)
    torch.testing.assert_close(local - mean, epsilon.double() * scale, rtol=1e-5, atol=1e-7)


def test_under_vmap_every_member_has_its_own_values_and_gradients(pairs):
    values, table = random(3, examples(pairs), F), random(3, C, H)

    def both(values, table):
        return pairs.spread(values).square().sum() + pairs.look_up(table).square().sum()

    found = torch.func.vmap(torch.func.grad(both, argnums=(0, 1)))(values, table)
    for member in range(3):
        expected = torch.func.grad(both, argnums=(0, 1))(values[member], table[member])
        torch.testing.assert_close([part[member] for part in found], list(expected))
