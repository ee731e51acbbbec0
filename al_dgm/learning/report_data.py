"""What the report shows, gathered from the loop's files. No torch.

Only the rounds that rounds.yaml names are read: folders of an earlier, longer loop may still lie beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from al_dgm.config import Rounds
from al_dgm.data.prepared import DatasetInfo, iter_pool, load_info
from al_dgm.errors import DataError
from al_dgm.files import read_table
from al_dgm.labelling.ledger import consensus, read_ledger, total_cost
from al_dgm.labelling.query import Query, read_query
from al_dgm.learning import metrics
from al_dgm.learning.outcome import SCORES, measured, read_history, read_metrics, read_predictions, read_seconds
from al_dgm.shapes import image_shape

Array = npt.NDArray[Any]
SKIPPED = "(skipped)"  # beside the classes, so nothing that a class is called
_BACKGROUND = 3000  # examples of the pool behind a scatter plot: more only make it darker


@dataclass(frozen=True, eq=False)
class ReportData:
    """One finished loop.

    Attributes:
        info: of the data set.
        curve: a row a round: round, labels, the scores, and what else was measured.
        queries: the seed set's and every later one, in order.
        labels: example id -> class name, of all that somebody labelled.
        cost: of all answers, in the user's unit.
        histories: round -> training curve; rounds without one are absent.
        reliability: of the last round, as `metrics.reliability`.
        holdout: example id -> class name.
    """

    info: DatasetInfo
    curve: pd.DataFrame
    queries: Sequence[Query]
    labels: pd.Series[str]
    cost: float
    histories: dict[int, pd.DataFrame]
    reliability: pd.DataFrame
    holdout: dict[str, str]

    def summary(self) -> dict[str, Any]:
        """The loop in a few numbers: the last round's scores, and the accuracy curve's area and speed."""
        last, labels, accuracy = self.curve.iloc[-1], self.curve["labels"].tolist(), self.curve["accuracy"].tolist()
        return {
            "rounds": len(self.curve),
            "labels": int(last["labels"]),
            "holdout": self.info.holdout,
            "cost": self.cost,
            **{name: float(last[name]) for name in SCORES},
            "area_under_curve": metrics.area_under_curve(labels, accuracy),
            "labels_to_95": metrics.labels_to(0.95, labels, accuracy),
        }

    def class_counts(self) -> pd.DataFrame:
        """How many examples of each class a query brought; a row a round, a column a class, and `SKIPPED` if any."""
        counts = pd.DataFrame(0, index=[query.round for query in self.queries], columns=[*self.info.classes, SKIPPED])
        for query in self.queries:
            for name, count in self._answers(query).value_counts().items():
                counts.loc[query.round, str(name)] = count
        return counts if counts[SKIPPED].any() else counts.drop(columns=SKIPPED)

    def _answers(self, query: Query) -> pd.Series[str]:
        return self.labels.reindex(list(query.ids)).fillna(SKIPPED)

    def queried(self) -> pd.DataFrame:
        """id, round, label (None: skipped) of every queried example, best first within its round."""
        rows = [(name, query.round, self.labels.get(name)) for query in self.queries for name in query.ids]
        return pd.DataFrame(rows, columns=["id", "round", "label"])


def read_loop(rounds_folder: Path, prepared_folder: Path, rounds: Rounds) -> ReportData:
    """Everything the report shows of the rounds that ``rounds`` names.

    Raises:
        DataError: a file of one of them is missing or malformed.
    """
    info = load_info(prepared_folder)
    trained = [int(k) for k in rounds.trainings]
    asked = [0, *(int(k) for k in rounds.queries)]
    ledger = read_ledger(rounds_folder / str(asked[-1]) / "labels.parquet")
    last = rounds_folder / str(trained[-1])
    log_prob, truth = read_predictions(last, info.classes)
    histories = {k: read_history(rounds_folder / str(k)) for k in trained}
    return ReportData(
        info=info,
        curve=pd.DataFrame([_row(rounds_folder / str(k), k) for k in trained]),
        queries=[read_query(rounds_folder / str(k) / "query.parquet") for k in asked],
        labels=consensus(ledger),
        cost=total_cost(ledger),
        histories={k: history for k, history in histories.items() if history is not None},
        reliability=metrics.reliability(log_prob, truth),
        holdout=_named(last / "predictions.parquet"),
    )


def _row(folder: Path, k: int) -> dict[str, Any]:
    content = read_metrics(folder)
    if content["round"] != k:
        raise DataError(f"{folder / 'metrics.json'}: expected round {k}, got {content['round']}")
    scores = {name: content[name] for name in SCORES}
    others = {name: value for name, value in measured(content).items() if name not in scores and "/" not in name}
    return {"round": k, "labels": content["labels"], **scores, **others, **read_seconds(folder)}


def _named(path: Path) -> dict[str, str]:
    table = read_table(path, ["id", "label"])
    return dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))


def stored_features(prepared_folder: Path, info: DatasetInfo, ids: Sequence[str]) -> dict[str, Array]:
    """Example id -> its features [D] on the scale they were stored in; reads the pool shard by shard.

    Raises:
        DataError: an id is not in the pool.
    """
    wanted = set(ids)
    found: dict[str, Array] = {}
    for names, x in _shards(prepared_folder, info):
        rows = np.flatnonzero(np.isin(names, list(wanted)))
        found |= {str(names[row]): x[row] for row in rows}
    if missing := wanted - set(found):
        raise DataError(f"{prepared_folder / 'pool'}: expected example '{min(missing)}' of a query, got a pool without")
    return found


def background(prepared_folder: Path, info: DatasetInfo) -> Array:
    """The first features [N, D] of the pool, which was shuffled when it was written: a random sample of it."""
    rows: list[Array] = []
    for _, x in _shards(prepared_folder, info):
        rows.append(x[: _BACKGROUND - sum(map(len, rows))])
        if sum(map(len, rows)) >= _BACKGROUND:
            break
    return np.concatenate(rows)


def _shards(prepared_folder: Path, info: DatasetInfo) -> Iterator[tuple[Array, Array]]:
    mean, sd = np.array(info.scale.mean), np.array(info.scale.sd)
    for shard in iter_pool(prepared_folder):
        yield shard.ids, shard.x * sd + mean


def as_image(features: Array, shape: Sequence[int]) -> Array | None:
    """An example as [H, W] or [H, W, 3], or None where its shape is no image's."""
    found = image_shape(shape)
    if found is None or found.channels not in {1, 3}:
        return None
    if found.channels == 1:
        return features.reshape(found.height, found.width)
    image = np.moveaxis(features.reshape(shape), 0, -1) if found.channels_first else features.reshape(shape)
    return image / max(float(image.max()), 1.0)
