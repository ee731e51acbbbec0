"""CaGeM: Maaløe, Fraccaro & Winther 2017, "CaGeM: a cluster aware deep generative model" (seed 003, Sec. 4.3, App. C).

    p(x, y, z_1, z_2) = p(x | y, z_1) p(z_1 | y, z_2) p(y | z_2) p(z_2)
    q(y, z_1, z_2 | x) = q(z_1 | x) q(y | z_1, x) q(z_2 | z_1, y, x)

    L(x, y) = E_q[log p(x | y, z_1) + log p(z_1 | y, z_2) − log q(z_1 | x) + log p(y | z_2)] − KL(q(z_2 | ·) ‖ p(z_2))
    U(x) = E_q(z_1|x)[Σ_y q(y | z_1, x) (L(x, y) − log q(y | z_1, x))] ≤ log p(x)

z_1 stands where a stands in the SDGM: one draw of it serves the classifier and every class. But y is not drawn ahead of
z_2, it is a cluster in the space of z_2. So the model has two classifiers:

    q(y | x) = E_q(z_1|x)[q(y | z_1, x)]                                        Eqs. 4.28, 4.29
    p(y | x) ≈ E_q(z_1|x)[Σ_ỹ q(ỹ | z_1, x) E_q(z_2|z_1,ỹ,x)[p(y | z_2)]]       Eqs. 4.31, 4.32: the cascade

Labels are for the clusters, not for the features. What is maximised (Eq. 4.33) is

    Σ_x U(x) − α Σ_l [−log q(y_l | x_l) − log p(y_l | x_l)]

where U is of the labelled examples too, their labels unseen (``training.weighting: sum`` counts them no more than
others), and the cross-entropies move the two networks of y alone: all draws are constants to them. The warm-up of the
latents is of the divergences of z_1 and z_2 and not of log p(y | z_2): it costs z_2 as much to tell the classes apart
as it gains, and while that is cheap it learns to.

Where thesis and paper differ, or are silent:

* q(z_2 | z_1, y, x) sees x (Eq. 4.26; the paper's equation has it in the name and not among the inputs, and its text
  adds it as a skip connection);
* the cross-entropy of the cascade moves q(y | z_1, x) as well, through the weights of ỹ (H_p(θ_y, φ_y) of the paper;
  θ_y alone in Eq. 4.33);
* "1024 and 512 units in each layer" are read as those of the networks beside z_1 and beside z_2; y is beside z_2;
* "statistics for the batch-normalization during unlabelled inference": see `CaGeM.terms`.

So the published model has hidden [1024, 512], latents [64, 32], depth 2 and batch_norm, and its recipe a latent_warmup,
no adversarial_weight, no balance_weight, and full responsibility from the start; β is not given.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from al_dgm.models.auxiliary import NETWORKS, AuxiliaryModel
from al_dgm.models.base import Minibatch, Settings, Size, Space, check_networks, is_bayesian
from al_dgm.models.classifiers import CorruptionOption, classifier
from al_dgm.models.enumerating import Enumeration, Prediction, Recognition, Tempering, drawn, pulled
from al_dgm.models.images import Channels, as_input, as_output
from al_dgm.nn.batch_norm import same_statistics, weighted_rows
from al_dgm.nn.corrupted import apart
from al_dgm.nn.mlp import HEAD_INIT_SD, MLP
from al_dgm.nn.noise import JoinedNoise, Noise
from al_dgm.nn.pairs import Label, OfExamples, Pairs
from al_dgm.nn.pictures import Pyramid
from al_dgm.objectives.bounds import log_mean_exp, unlabelled_bound
from al_dgm.objectives.densities import gaussian
from al_dgm.objectives.latents import sample_gaussian

CLUSTER_DRAWS = 64  # of z_2, one of which stands for p(z_2 | y)

Levels = Annotated[list[Size], Field(min_length=2, max_length=2)]


class CaGeM(AuxiliaryModel):
    """The cluster-aware generative model.

    Args:
        space: the data's sizes and observation model.
        hidden: size of the hidden layers between x and z_1, and of those between z_1 and y or z_2.
        latents: sizes of z_1 and z_2.
        convolutions: channels of the convolutions by which networks read x and produce it; none for rows of numbers.
        depth: how many hidden layers each network has.
        batch_norm: normalise the hidden layers of every network.
        bayesian: which networks have Bayesian weights: ``none``, ``all``, or names among ``auxiliary`` q(z_1|x),
            ``classifier`` q(y|z_1,x), ``encoder`` q(z_2|z_1,y,x), ``auxiliary_decoder`` p(z_1|y,z_2),
            ``label_decoder`` p(y|z_2), ``decoder`` p(x|y,z_1).
        prediction: how y is predicted: ``cascade``, p(y|x) through z_2, or as `DeepGenerativeModel.log_predictive`
            says, where the classifier is q(y|x).
        likelihood_weight: λ on log p(x|·) in training and in the Bayes classifier; see `Tempering`.
        enumeration: the classes that y is summed over; see `DeepGenerativeModel`.
        corruption: standard deviations of the noise on the standardised input and on the normalised units of the
            classifier in training, [input, units]; none for a plain network. See `al_dgm.nn.corrupted`.
    """

    def __init__(
        self,
        space: Space,
        hidden: Levels = [128, 128],  # noqa: B006 - a schema's default, never mutated
        latents: Levels = [20, 10],  # noqa: B006
        convolutions: Channels = [],  # noqa: B006
        depth: Size = 1,
        batch_norm: bool = False,  # noqa: FBT001, FBT002 - an option in params.yaml
        bayesian: str | list[str] = "classifier",
        prediction: Prediction | Literal["cascade"] = "both",
        likelihood_weight: Annotated[float, Field(gt=0)] = 1.0,
        enumeration: Enumeration = "exact",
        corruption: CorruptionOption = [],  # noqa: B006
    ) -> None:
        super().__init__(space, prediction, likelihood_weight, enumeration)
        check_networks(bayesian, (*NETWORKS, "label_decoder"))
        x, C = as_input(space, convolutions), space.classes
        Z1, Z2 = latents
        self.latent = Z2

        def network(
            name: str,
            inputs: list[int | Pyramid],
            level: int,
            outputs: int | Pyramid,
            head_init_sd: float | None = None,
        ) -> MLP:
            sizes, random = [hidden[level]] * depth, is_bayesian(name, bayesian)
            return MLP(inputs, sizes, outputs, bayesian=random, head_init_sd=head_init_sd, batch_norm=batch_norm)

        self.auxiliary = network("auxiliary", [x], 0, 2 * Z1, HEAD_INIT_SD)
        sizes, random = [hidden[1]] * depth, is_bayesian("classifier", bayesian)
        self.classifier = classifier([x, Z1], sizes, C, corruption, random, batch_norm=batch_norm)
        self.encoder = network("encoder", [x, Z1, C], 1, 2 * Z2, HEAD_INIT_SD)
        self.label_decoder = network("label_decoder", [Z2], 1, C)
        self.auxiliary_decoder = network("auxiliary_decoder", [C, Z2], 1, 2 * Z1, HEAD_INIT_SD)
        self.decoder = network("decoder", [C, Z1], 0, as_output(space, convolutions))

    def conditionals(
        self,
        of_x: OfExamples,  # noqa: ARG002
        of_a: OfExamples,
        label: Label,
        z: Tensor,
        noise: Noise,
    ) -> tuple[Tensor, Tensor]:
        """Parameters of p(z_1 | y, z_2), [S, R, 2 Z_1], and of p(x | y, z_1)."""
        return self.auxiliary_decoder(label, z, noise=noise), self.decoder(label, of_a, noise=noise)

    def log_prior_given(self, z: Tensor, pairs: Pairs, noise: Noise) -> Tensor:
        """log p(y | z_2) of every pair, [S, R]."""
        log_p = self._log_label(z, noise)
        of_label: Tensor = log_p.gather(-1, pairs.labels.expand(z.shape[:-1]).unsqueeze(-1))
        return of_label.squeeze(-1)

    def decode(self, y: Tensor, z: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | y, z_1) with z_1 drawn from p(z_1 | y, z_2), [R, outputs]."""
        label = self.label(y)
        z_1 = sample_gaussian(*gaussian(self.auxiliary_decoder(label, z, noise=noise)), noise)
        output: Tensor = self.decoder(label, z_1, noise=noise)
        return output

    def generate(self, noise: Noise, samples: int, y: Tensor | None = None) -> Tensor:
        """Parameters of p(x | y, z_1), [S, outputs]; y is drawn from p(y | z_2), or given, and z_2 from p(z_2 | y).

        The latter is one of `CLUSTER_DRAWS` draws from p(z_2), by their shares of p(y | z_2).
        """
        if y is None:
            z = self.prior_sample(noise, samples, self.latent)
            return self.decode(drawn(self._log_label(z, noise), noise), z, noise)
        z = self.prior_sample(noise, samples * CLUSTER_DRAWS, self.latent).unflatten(0, (samples, CLUSTER_DRAWS))
        of_label = self._log_label(z, noise).gather(-1, y[:, None, None].expand(-1, CLUSTER_DRAWS, -1))[..., 0]
        best = drawn(of_label.log_softmax(-1), noise)
        return self.decode(y, z[torch.arange(samples, device=z.device), best], noise)

    def reconstruct(self, x: Tensor, noise: Noise) -> Tensor:
        """Parameters of p(x | ŷ, z_1) at the mean of q(z_1 | x) and the most probable class there."""
        z_1, y = self.infer(x, noise)
        output: Tensor = self.decoder(self.label(y), z_1, noise=noise)
        return output

    def log_predictive(self, x: Tensor, noise: Noise, samples: int, *groundwork: Tensor) -> Tensor:
        """log p(y | x), [B, C], by the way that ``prediction`` names."""
        if self.prediction != "cascade":
            return super().log_predictive(x, noise, samples, *groundwork)
        return log_mean_exp(self.log_cascade(x, self.recognise(x, noise, samples), noise), dim=0)

    def log_cascade(self, x: Tensor, seen: Recognition, noise: Noise) -> Tensor:
        """log Σ_ỹ q(ỹ | z_1, x) p(y | z_2) with z_2 from q(z_2 | z_1, ỹ, x) for each ỹ; [S, B, C].

        Draws are constants: the gradient is of p(y | z_2) and of log q in ``seen``.
        """
        pairs = self._every_pair(x, self._candidates(seen.log_q))
        of_x, label = self._inputs(x, pairs)
        z, _ = self.draw_latent(of_x, OfExamples(seen.auxiliary, pairs), label, noise)
        log_p: Tensor = self._log_label(z.detach(), noise).unflatten(-2, (len(x), pairs.width))
        return (pairs.pick(seen.log_q)[0][..., None] + log_p).logsumexp(-2)

    def terms(self, batch: Minibatch, settings: Settings) -> dict[str, Tensor]:
        """U(x) of both sets, −log q(y | z_1, x) − log p(y | x), the classifier's probabilities, and the divergence.

        Normalised layers take their statistics of the unlabelled examples, and of all where there is no other. Each
        counts once: its row with class y has the weight q(y | z_1, x) that it has in U(x), so that classes which nobody
        believes in do not decide what is normal. Whatever sees labels is normalised by the same numbers.
        """
        unlabelled, _ = batch.sizes
        noise = JoinedNoise(batch.unlabelled_noise, batch.labelled_noise, batch.sizes, enumerated=True)
        x = self.space.observation.draw(torch.cat([batch.x_unlabelled, batch.x_labelled]), noise)
        seen, bound = self._without_labels(x, noise, batch, settings)
        z_1 = seen.auxiliary[:, unlabelled:].detach()
        with same_statistics(self):
            classification = self._cross_entropies(x[unlabelled:], z_1, batch)
            result = {"labelled_bound": bound[unlabelled:], "classification": classification}
            if unlabelled:
                result["unlabelled_bound"] = bound[:unlabelled]
            return result | self.regularised(x, seen, batch, settings)

    def _without_labels(
        self, x: Tensor, noise: Noise, batch: Minibatch, settings: Settings
    ) -> tuple[Recognition, Tensor]:
        """What is recognised of x, and U(x), [B]."""
        count = batch.counted(x)
        with weighted_rows(self, count), apart(self, batch.sizes):
            seen = self.recognise(x, noise, samples=1)
        pairs = self._every_pair(x, self._candidates(seen.log_q, noise))
        log_q, _ = pairs.pick(seen.log_q)
        tempering = Tempering(self.likelihood_weight, settings.latents)
        with weighted_rows(self, count, (log_q.detach()[0].exp() * count[:, None]).flatten()):
            bound, _ = pairs.split(self.bounds(x, seen, pairs, noise, 1, tempering=tempering))
        return seen, unlabelled_bound(bound, pulled(log_q, settings.responsibility))

    def _cross_entropies(self, x: Tensor, z_1: Tensor, batch: Minibatch) -> Tensor:
        """−log q(y | z_1, x) − log p(y | x) at given draws of z_1, [L]."""
        noise = batch.labelled_noise
        log_q = F.log_softmax(self.classifier(self.space.network_input(x), z_1, noise=noise), dim=-1)
        log_p = self.log_cascade(x, Recognition(log_q, z_1, z_1.new_zeros(z_1.shape[:-1])), noise)
        return F.nll_loss((log_q + log_p).mean(0), batch.y, reduction="none")

    def _log_label(self, z: Tensor, noise: Noise) -> Tensor:
        """log p(y | z_2), [S, R, C]."""
        return F.log_softmax(self.label_decoder(z, noise=noise), dim=-1)

    def _every_pair(self, x: Tensor, candidates: Tensor | None) -> Pairs:
        """Every example with each of its candidate classes, whether its label is known or not."""
        return Pairs(len(x), x.new_empty(0, dtype=torch.int64), candidates, self.space.classes)
