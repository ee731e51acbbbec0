"""The digits as the loop sees them, without DVC: the project's own functions prepare, train and measure."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.compiler.config

from al_dgm.config import Params
from al_dgm.data import DATASETS
from al_dgm.data.prepared import DatasetInfo, Holdout, Pool, load_holdout, load_info, load_pool, load_truth, prepare
from al_dgm.data.raw import RawData
from al_dgm.labelling.seed_set import choose_seed_set
from al_dgm.learning.evaluate import evaluate
from al_dgm.learning.fit import explained
from al_dgm.learning.job import TrainingJob
from al_dgm.learning.rounds import model_spec, predictor, training_data
from al_dgm.models import Model
from al_dgm.seeding import integer_seed

# Where fits are compiled, each variant and each seed, whose pool has a centre and a spread of its own, has a program;
# beyond 8, unless told, torch goes on without.
torch.compiler.config.recompile_limit = 256


@dataclass(frozen=True)
class Split:
    """What `data/prepared` holds."""

    info: DatasetInfo
    pool: Pool
    holdout: Holdout
    truth: Mapping[str, str]

    def labels(self, ids: Iterable[str]) -> pd.Series:
        """The true labels of ``ids``, as a ledger's consensus gives them."""
        return pd.Series({name: self.truth[name] for name in ids}, dtype=object)

    def balanced(self, size: int, seed: int) -> tuple[str, ...]:
        """The loop's own balanced seed set."""
        return choose_seed_set("balanced", size, self.pool.ids, self.info.classes, lambda: self.truth, seed)


def load_split(params: Params) -> Split:
    """The data set of ``params`` as the stage `prepare` makes it for ``params.seed``."""
    return prepare_split(params.data.build(DATASETS, "data", seed=params.seed), params)


def prepare_split(raw: RawData, params: Params) -> Split:
    """``raw`` as the stage `prepare` writes it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(raw, folder, params.data.shard_size, params.seed)
        info = load_info(folder)
        return Split(info, load_pool(folder), load_holdout(folder, info), load_truth(folder))


def training_job(params: Params, split: Split, labels: pd.Series, k: int = 1) -> TrainingJob:
    """Round ``k``'s fit."""
    return TrainingJob(
        spec=model_spec(params.model, split.info),
        data=training_data(split.pool, labels, split.info.classes),
        recipe=params.training,
        seed=integer_seed(params.seed, "fit", k),
    )


def fit_and_measure(params: Params, split: Split, labels: pd.Series, k: int = 1) -> tuple[Model, dict[str, Any]]:
    """Round ``k``'s model, trained on ``labels`` in this process, and its metrics on the holdout."""
    job = training_job(params, split, labels, k)
    model, _ = job.run(torch.device("cpu"), compile_step=params.compute.compile)
    model.eval()
    sizes = explained(model, job.data, job.recipe)
    evaluation = evaluate(model, split.holdout, split.info, predictor(params, k, "measuring"), sizes)
    measured = dict(evaluation.values)
    return model, {name: float(measured[name]) for name in ("accuracy", "nll", "ece")}


def class_indices(labels: pd.Series, split: Split) -> np.ndarray:
    """Class names as positions in dataset.json's order."""
    index = {name: position for position, name in enumerate(split.info.classes)}
    return np.array([index[name] for name in labels], dtype=np.int64)


def label_spreading_accuracy(split: Split, ids: Sequence[str]) -> float:
    """Holdout accuracy of scikit-learn's LabelSpreading over the whole pool, run to convergence, x in model space.

    Its default tolerance stops before the labels have reached every example, which costs it up to 4 points.
    """
    from sklearn.semi_supervised import LabelSpreading  # noqa: PLC0415  a second to import

    known = np.isin(split.pool.ids, ids)
    y = np.full(len(known), -1)
    y[known] = class_indices(split.labels(split.pool.ids[known]), split)
    with np.errstate(invalid="ignore"):  # it divides 0 by 0 where no neighbour was reached by a label
        model = LabelSpreading(kernel="knn", n_neighbors=7, alpha=0.2, max_iter=1000, tol=1e-12).fit(split.pool.x, y)
        predicted = model.predict(split.holdout.x)
    return float((predicted == split.holdout.labels).mean())
