"""The stages that need no model: the seed set, and the answers to a query. Nothing here loads torch."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from al_dgm.config import Params
from al_dgm.data.prepared import DatasetInfo, load_ids, load_info, load_truth
from al_dgm.errors import ConfigError
from al_dgm.labelling import build_source
from al_dgm.labelling.known import KnownLabels
from al_dgm.labelling.ledger import count, empty, read_ledger, write_ledger
from al_dgm.labelling.query import Query, make_query, read_query, write_query
from al_dgm.labelling.rounds import describe_pending, label_query
from al_dgm.labelling.seed_set import choose_seed_set
from al_dgm.labelling.source import LabelSource
from al_dgm.learning.layout import Layout


def label_seed_set(params: Params, layout: Layout) -> int:
    """Choose the seed set, have it labelled, write round 0; returns the number of labels.

    Raises:
        LabelsPendingError: people have not answered yet; asking again asks for the same examples.
    """
    info = load_info(layout.prepared)
    query, source = _seed_query(params, layout, info)
    ledger = label_query(query, source, empty(), info.classes)
    write_query(layout.round(0) / "query.parquet", query)
    write_ledger(layout.round(0) / "labels.parquet", ledger)
    return count(ledger)


def label_round(params: Params, layout: Layout, k: int) -> int:
    """Have round ``k``'s query labelled and write the ledger so far; returns the number of labels.

    Raises:
        LabelsPendingError: people have not answered yet.
    """
    info = load_info(layout.prepared)
    query, source = _query(params, layout, info, k)
    before = read_ledger(layout.round(k - 1) / "labels.parquet")
    ledger = label_query(query, source, before, info.classes)
    write_ledger(layout.round(k) / "labels.parquet", ledger)
    return count(ledger)


def pending(params: Params, layout: Layout, k: int) -> str | None:
    """What round ``k``'s query (0: the seed set) waits for, in words; None if every answer is there. Asks nobody."""
    info = load_info(layout.prepared)
    query, source = _query(params, layout, info, k) if k else _seed_query(params, layout, info)
    answers = source.collect(query)
    return describe_pending(query, answers, source) if answers.pending else None


def corrections(params: Params, layout: Layout, k: int) -> list[str]:
    """Answers to round ``k``'s query (0: the seed set) that people changed after the ledger took them, in words."""
    if not (layout.round(k) / "labels.parquet").exists():
        return []
    source = _chosen_source(params, layout, load_info(layout.prepared))
    if source.simulated:
        return []
    query = read_query(layout.round(k) / "query.parquet")
    ledger = read_ledger(layout.round(k) / "labels.parquet")
    own = (ledger["query_id"] == query.id) & (ledger["source"] == source.name)
    taken, said = _in_words(ledger[own]), _in_words(source.collect(query).labels)
    stage = f"label@{k}" if k else "seed_set"
    return [
        f"round {k} took {words} for {name}, which now says {now}; `dvc repro -f -s {stage}` takes that"
        for name, words in taken.items()
        if (now := said.get(name, "nothing")) != words
    ]


def _in_words(answers: pd.DataFrame) -> dict[str, str]:
    """Example id -> what was answered: a label before a skip."""
    labels = answers.sort_values("label", kind="stable").drop_duplicates("id").set_index("id")["label"]
    return {str(name): "a skip" if pd.isna(label) else f"'{label}'" for name, label in labels.items()}


def _query(params: Params, layout: Layout, info: DatasetInfo, k: int) -> tuple[Query, LabelSource]:
    return read_query(layout.round(k) / "query.parquet"), _chosen_source(params, layout, info)


def _seed_query(params: Params, layout: Layout, info: DatasetInfo) -> tuple[Query, LabelSource]:
    wanted, truth = params.seed_set, partial(load_truth, layout.prepared)
    ids = choose_seed_set(wanted.strategy, wanted.size, load_ids(layout.prepared), info.classes, truth, params.seed)
    query = make_query(0, "none", f"seed set: {wanted.strategy}", ids, np.zeros(len(ids)))
    # Labels that the data came with were paid for before: nobody is asked for them again.
    if wanted.strategy == "given":
        return query, KnownLabels(truth)
    return query, _chosen_source(params, layout, info)


def _chosen_source(params: Params, layout: Layout, info: DatasetInfo) -> LabelSource:
    """The label source that params.yaml names, if it can answer for these data."""
    # The truth is passed as a way to read it: only a source that takes it, the oracle, ever opens the file.
    truth = partial(load_truth, layout.prepared)
    source = build_source(params.labels, truth=truth, classes=info.classes, seed=params.seed, root=layout.home)
    check_source(params.labels.name, source, info)
    return source


def check_source(name: str, source: LabelSource, info: DatasetInfo) -> None:
    """Refuse a label source that cannot answer for these data.

    Raises:
        ConfigError: it simulates, but not all labels are known; or it asks people, but the ids are row numbers.
    """
    if source.simulated and info.labelled < info.examples:
        raise ConfigError(
            f"labels.name '{name}': expected data whose labels are all known, so that answers can be simulated, got "
            f"{info.labelled} labels of {info.examples} examples; let people answer, with 'csv'"
        )
    if not (info.permanent_ids or source.simulated):
        raise ConfigError(
            f"labels.name '{name}': expected examples with permanent ids, got numbers of rows, which move the labels "
            "when a row is inserted; name a column in data.table.id"
        )
