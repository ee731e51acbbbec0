"""Adversarial divergence of two classes by a linear classifier: the worst direction is that of its weights."""

import torch
from torch import nn
from torch.nn import functional as F

from al_dgm.models.adversarial import adversarial_divergence
from al_dgm.nn.noise import BatchNoise, generator

ROWS, D, RADIUS = 200, 10, 0.7


def test_the_divergence_is_at_the_worst_direction_and_the_given_length():
    """log q(1|x) − log q(0|x) = w·x grows and falls fastest along ±w/|w|; which of the two is chance."""
    classifier, x = nn.Linear(D, 1).double(), torch.randn(ROWS, D, generator=generator(0)).double()

    def classify(x, _noise, _samples):
        logit = classifier(x)
        return torch.cat([F.logsigmoid(-logit), F.logsigmoid(logit)], -1)

    noise = BatchNoise(generator(1))
    found = adversarial_divergence(classifier, classify, x, noise, RADIUS)
    worst = RADIUS * F.normalize(classifier.weight, dim=-1)
    unmoved = classify(x, noise, 1)
    either = torch.stack([(unmoved.exp() * (unmoved - classify(x + r, noise, 1))).sum(-1) for r in (worst, -worst)])
    distance, chosen = (either - found).abs().min(0)
    assert distance.max() < 1e-6
    assert 0.3 < chosen.double().mean() < 0.7
    assert (either[0] - either[1]).abs().max() > 1e-3
