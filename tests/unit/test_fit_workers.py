"""Workers that share each minibatch train the model that one worker trains."""

import pytest
import torch
from small_fit import CLUSTERS, CORRUPTED, IMAGES, NORMALISED, SPEC, assert_same_weights, recipe, small_data, weights
from team import Team

from al_dgm.learning import fit as fits
from al_dgm.learning.fit import Fit, Workers, fit
from al_dgm.nn.noise import NoNoise

# A normalised layer takes its bias off again: the bias's gradient is rounding, which Adam makes steps of.
REDUNDANT = ("layers.0.bias", "norms.0.mean", "classifier.layers.1.bias", "classifier.top.mean")


@pytest.fixture
def data():
    return small_data()


@pytest.fixture(autouse=True)
def short_windows(monkeypatch):
    monkeypatch.setattr(fits, "WINDOW", 5)


@pytest.mark.parametrize(
    "spec",
    [SPEC, IMAGES, NORMALISED, CLUSTERS, CORRUPTED],
    ids=["m2", "images", "normalised layers", "cagem", "corrupted"],
)
@pytest.mark.parametrize("sizes", [(4, 6), (3, 6), (4, 7)], ids=["even", "uneven labelled", "uneven unlabelled"])
def test_two_workers_train_the_model_that_one_trains(data, sizes, spec):
    """Gradients averaged over two halves of each minibatch: the same fit up to rounding, on every worker alike."""
    settings = recipe(10, labelled_batch=sizes[0], unlabelled_batch=sizes[1])
    alone = spec.build(0)
    expected = fit(alone, data, settings, 1)
    (first, curve), (second, other_curve) = Team(2).fit(data, settings, spec)
    assert curve == other_curve
    assert_same_weights(weights(first), weights(second))
    for row, expected_row in zip(curve, expected, strict=True):
        assert row == pytest.approx(expected_row, rel=1e-4, abs=1e-4)
    for name, value in alone.state_dict().items():
        if not {"batch_norm", "corruption"} & set(spec.options) or not name.endswith(REDUNDANT):
            torch.testing.assert_close(first.state_dict()[name], value, rtol=1e-3, atol=5e-4)
    x = data.x_unlabelled
    torch.testing.assert_close(first.elbo(x, NoNoise(), 1), alone.elbo(x, NoNoise(), 1), rtol=1e-3, atol=1e-4)


def test_each_worker_computes_its_share_of_the_rows(data):
    """Half of each minibatch, in order; a minibatch that cannot be halved is computed by both."""
    alone, *halves = (Fit(SPEC.build(0), data, recipe(), 1, workers) for workers in (Workers(), *map(two, range(2))))
    whole, parts = alone._minibatch(3), [half._minibatch(3) for half in halves]
    for name in ("x_labelled", "y", "x_unlabelled"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    uneven = [Fit(SPEC.build(0), data, recipe(labelled_batch=3), 1, two(rank))._minibatch(3) for rank in range(2)]
    assert [len(part.y) for part in uneven] == [3, 3]


def two(rank):
    return Workers(rank=rank, size=2)
