"""The simulated oracle: answers at once from the hidden truth, with as much noise as asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, ClassVar, final

from pydantic import Field

from al_dgm.config import Fraction
from al_dgm.errors import ConfigError
from al_dgm.labelling.query import Query
from al_dgm.labelling.source import Answers, LabelSource, ledger_rows
from al_dgm.seeding import rng


@final
class SimulatedOracle(LabelSource):
    """Answers with the true class y, or, with probability ``noise``, with a wrong one.

        P(answer = y) = 1 - noise,   P(answer = c) = noise / (C - 1) for each of the other C - 1 classes c

    What is drawn for an example depends on the seed and its id alone: not on the round, the query or the order. So an
    example asked twice gets the same answer, and an oracle with more noise errs wherever one with less does.

    Args:
        noise: probability of a wrong answer.
        cost: what one answer costs, in any unit.
        truth: reads the hidden truth, example id -> class name; called once, at the first `collect`. An id that is
            not in it is answered with a skip.
        classes: the data set's class names.
        seed: the run's seed.

    Raises:
        ConfigError: ``noise`` is positive, but there is no wrong class to answer with.
    """

    name: ClassVar[str] = "oracle"
    simulated: ClassVar[bool] = True

    def __init__(
        self,
        noise: Fraction = 0.0,
        cost: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0,
        *,
        truth: Callable[[], Mapping[str, str]],
        classes: Sequence[str],
        seed: int,
    ) -> None:
        if noise > 0 and len(classes) < 2:
            raise ConfigError(f"labels.oracle.noise: expected 0 with fewer than two classes, got {noise}")
        self._noise = noise
        self._cost = cost
        self._read_truth = truth
        self._classes = tuple(classes)
        self._seed = seed

    def submit(self, query: Query) -> None:
        """Nothing to do: answers are there as soon as they are collected."""

    def collect(self, query: Query) -> Answers:
        """All answers; nothing is ever pending."""
        labels = {example: self._answer(example) for example in query.ids}
        return Answers(ledger_rows(query, labels, annotator=self.name, source=self.name, cost=self._cost), ())

    def where(self, query: Query) -> str:
        """Nobody labels: the oracle does."""
        return f"no file or page: the simulated oracle answers {query.id} at once"

    @cached_property
    def _truth(self) -> Mapping[str, str]:
        return self._read_truth()

    def _answer(self, example: str) -> str | None:
        label = self._truth.get(example)
        if label is None:
            return None
        generator = rng(self._seed, "oracle noise", example)
        if generator.random() >= self._noise:
            return label
        wrong = [other for other in self._classes if other != label]
        return wrong[int(generator.integers(len(wrong)))]
