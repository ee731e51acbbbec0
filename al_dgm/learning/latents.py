"""Where a trained model puts examples in its latent space, for the report's picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from al_dgm.data.prepared import iter_pool, load_holdout, load_info
from al_dgm.labelling.ledger import answered, read_ledger
from al_dgm.learning.layout import Layout
from al_dgm.learning.model_files import load_model
from al_dgm.models import GenerativeModel
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.noise import CommonNoise, generator
from al_dgm.seeding import integer_seed

SHOWN = 4000  # unlabelled examples of the pool, and as many of the holdout; more would be one blot
BATCH = 1000


def latent_means(layout: Layout, k: int, seed: int) -> pd.DataFrame | None:
    """Means of the latents by round ``k``'s model at the mean of its weights.

    A row an example, indexed by id: all that the model was trained on, up to `SHOWN` others of the pool, and up to
    `SHOWN` of the holdout; a column a latent dimension. None for a model without latent variables.

    Raises:
        DataError: the model, the data or the labels are missing or damaged.
    """
    model, _, _ = load_model(layout.round(k) / "model")
    if not isinstance(model, GenerativeModel):
        return None
    frames = [pd.DataFrame(represented(model, x, seed), index=ids) for ids, x in _examples(layout, k)]
    return pd.concat(frames).rename_axis("id")


def _examples(layout: Layout, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(ids [n], x [n, D]), part by part."""
    asked = list(answered(read_ledger(layout.round(k - 1) / "labels.parquet")))
    room = SHOWN
    for shard in iter_pool(layout.prepared):
        rows = np.isin(shard.ids, asked)
        rows[np.flatnonzero(~rows)[:room]] = True
        room -= min(room, int((~np.isin(shard.ids[rows], asked)).sum()))
        yield shard.ids[rows], shard.x[rows]
    holdout = load_holdout(layout.prepared, load_info(layout.prepared))
    yield holdout.ids[:SHOWN], holdout.x[:SHOWN]


@torch.no_grad()
def represented(model: GenerativeModel, x: np.ndarray, seed: int) -> np.ndarray:
    """Latent means of x [N, D] at the mean of the weights, [N, Z]."""
    parts = []
    with mean_weights(model):
        for part in torch.from_numpy(x).split(BATCH):
            noise = CommonNoise(generator(integer_seed(seed, "latents")))
            parts.append(model.represent(part, noise).numpy())
    return np.concatenate(parts)
