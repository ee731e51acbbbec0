"""A whole loop's files, made by a small real loop: logistic regression that asks for its smallest margins."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
from sklearn.linear_model import LogisticRegression

from al_dgm.config import Rounds
from al_dgm.data.prepared import load_holdout, load_pool, load_truth, prepare
from al_dgm.files import write_table
from al_dgm.labelling.ledger import append, consensus, empty, write_ledger
from al_dgm.labelling.query import make_query, write_query
from al_dgm.learning import metrics


def make_loop(root, raw, queries=4, size=10, skipped=()):
    """Write data/prepared and rounds/0, 1, … below ``root``; returns the rounds."""
    info = prepare(raw, root / "data", shard_size=400, seed=0)
    pool, truth, holdout = load_pool(root / "data"), load_truth(root / "data"), load_holdout(root / "data", info)
    first = [next(name for name in pool.ids if truth[name] == label) for label in info.classes]
    query = make_query(0, "none", "seed set", first, np.zeros(len(first)))
    ledger = answer(root, query, empty(), truth, info.classes, skipped)
    trainings, asked = Rounds.chain(queries)
    for k in range(1, queries + 2):
        labels = consensus(ledger)
        rows = np.isin(pool.ids, labels.index)
        model = LogisticRegression(max_iter=200).fit(pool.x[rows], labels[pool.ids[rows]])
        measure(root / "rounds" / str(k), k, len(labels), model, holdout, info.classes)
        if str(k) in asked:
            probability = np.sort(model.predict_proba(pool.x), axis=1)
            margin = probability[:, -1] - probability[:, -2] + 2.0 * np.isin(pool.ids, ledger["id"])
            chosen = np.argsort(margin)[:size]
            query = make_query(k, f"v{k}", "margin", pool.ids[chosen], -margin[chosen])
            ledger = answer(root, query, ledger, truth, info.classes, skipped)
    return Rounds(trainings=trainings, queries=asked)


def answer(root, query, ledger, truth, classes, skipped):
    """Label the query from the truth, apart from the ``skipped`` (round, rank) ones."""
    labels = [None if (query.round, rank) in skipped else truth[name] for rank, name in enumerate(query.ids, 1)]
    constants = {"annotator": "oracle", "source": "oracle", "round": query.round, "time": None}
    constants |= {"query_id": query.id, "model_version": query.model_version, "cost": 1.0}
    longer = append(ledger, pd.DataFrame({"id": query.ids, "label": labels, **constants}), classes)
    write_query(root / "rounds" / str(query.round) / "query.parquet", query)
    write_ledger(root / "rounds" / str(query.round) / "labels.parquet", longer)
    return longer


def measure(folder, k, labels, model, holdout, classes):
    """Write what a training leaves."""
    folder.mkdir(parents=True, exist_ok=True)
    log_prob = np.full((len(holdout.ids), len(classes)), -30.0)
    log_prob[:, [list(classes).index(name) for name in model.classes_]] = model.predict_log_proba(holdout.x)
    names = np.array(classes, dtype=object)
    columns = {"id": holdout.ids.tolist(), "label": names[holdout.labels], "predicted": names[log_prob.argmax(1)]}
    flat = pa.array(log_prob.ravel().astype(np.float32))
    table = pa.table(columns).append_column("log_prob", pa.FixedSizeListArray.from_arrays(flat, len(classes)))
    write_table(folder / "predictions.parquet", table)
    scores = {name: getattr(metrics, name)(log_prob, holdout.labels) for name in ("accuracy", "nll", "ece", "brier")}
    content = {"round": k, "labels": labels, "model": "m2", **scores, "bound": -20.0 - 10 / k, "kl_weights": 0.1 * k}
    (folder / "metrics.json").write_text(json.dumps({**content, "steps": 2000, "kl_weights_per_layer": {"c.0": 0.1}}))
    seconds = {"fit_seconds": 2.0 * k, "evaluate_seconds": 0.5, "total_seconds": 2.0 * k + 1}
    (folder / "timings.json").write_text(json.dumps(seconds))
    training_curve(k).to_csv(folder / "history.csv", index=False)


def training_curve(k):
    """Terms that fall and rise like real ones."""
    step = np.arange(25, 2001, 25)
    noise = np.random.default_rng(k).normal(0, 0.4, len(step))
    objective = 22 + 30 * np.exp(-step / 250) - k / 3 + noise
    return pd.DataFrame(
        {
            "step": step,
            "objective": objective,
            "classification": 2.3 * np.exp(-step / 300) + 0.02,
            "labelled_bound": -objective + 2,
            "unlabelled_bound": -objective - 1,
            "kl_weights": 1 - np.exp(-step / 800),
        }
    )
