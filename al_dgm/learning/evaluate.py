"""How good a model is on the holdout: what the loop records after each training."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from al_dgm.data.prepared import DatasetInfo, Holdout
from al_dgm.files import write_atomically, write_table
from al_dgm.learning import metrics
from al_dgm.learning.objective import kl_per_example
from al_dgm.learning.predict import Predictor
from al_dgm.models import GenerativeModel, Model
from al_dgm.models.ensemble import members_of

Values = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one model, and the predictions they come from.

    Attributes:
        values: metrics by name; no times, so that equal runs write equal files.
        predictions: id, label, predicted, log_prob of each holdout example.
        seconds: what measuring took.
    """

    values: Mapping[str, Any]
    predictions: pa.Table
    seconds: float

    def write(self, folder: Path, about: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, headed by ``about``, and ``predictions.parquet``."""
        content = json.dumps({**about, **self.values}, indent=2) + "\n"
        write_atomically(folder / "metrics.json", content.encode())
        write_table(folder / "predictions.parquet", self.predictions)


def evaluate(
    model: Model, holdout: Holdout, info: DatasetInfo, predictor: Predictor, explained: tuple[int, int]
) -> Evaluation:
    """Accuracy, NLL, Brier score and calibration of the predictive distribution; the bound; the KL of the weights.

    The predictive distribution is averaged over weight samples; the bound is taken at their mean. The KL is in nats per
    example that the weights explain, of N_l labelled and N_u unlabelled ones (`kl_per_example`). Bound and KL of an
    ensemble are means over its members. A probability below 1e-300 counts as that.
    """
    began = time.monotonic()
    x = torch.from_numpy(holdout.x)
    predicted = log_predictive(model, x, info, predictor)
    values: Values = {**scores(predicted, holdout), "bound": None}
    if isinstance(model, GenerativeModel):
        values["bound"] = predictor.expected_elbo(model, x).double().mean().item()
    with torch.no_grad():
        kl = {name: value.item() for name, value in _mean_kl(model, explained).items()}
    values |= {"kl_weights": sum(kl.values()), "kl_weights_per_layer": kl}
    return Evaluation(values, _table(holdout, info, predicted), time.monotonic() - began)


def _mean_kl(model: Model, explained: tuple[int, int]) -> dict[str, torch.Tensor]:
    """`kl_per_example`, averaged over the members of an ensemble."""
    found = [kl_per_example(member, *explained) for member in members_of(model)]
    return {name: torch.stack([kl[name] for kl in found]).mean() for name in found[0]}


def log_predictive(model: Model, x: torch.Tensor, info: DatasetInfo, predictor: Predictor) -> np.ndarray:
    """log p(y | x) averaged over weight samples, [N, C], for x [N, D]."""
    log_p: np.ndarray = predictor.moments(model, x, len(info.classes)).mean_p.clamp_min(1e-300).log().numpy()
    return log_p


def scores(predicted: np.ndarray, holdout: Holdout) -> Values:
    """How good log-probabilities [N, C] of the holdout's classes are."""
    return {
        "accuracy": metrics.accuracy(predicted, holdout.labels),
        "nll": metrics.nll(predicted, holdout.labels),
        "brier": metrics.brier(predicted, holdout.labels),
        "ece": metrics.ece(predicted, holdout.labels),
    }


def _table(holdout: Holdout, info: DatasetInfo, log_prob: np.ndarray) -> pa.Table:
    classes = np.array(info.classes, dtype=object)
    flat = pa.array(log_prob.astype(np.float32).ravel())
    return pa.table(
        {
            "id": pa.array(list(holdout.ids), pa.string()),
            "label": pa.array(classes[holdout.labels], pa.string()),
            "predicted": pa.array(classes[log_prob.argmax(1)], pa.string()),
            "log_prob": pa.FixedSizeListArray.from_arrays(flat, len(classes)),
        }
    )
