"""Stage `prepare`: the data set as a pool, a holdout and the hidden truth."""

from __future__ import annotations

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors


def main() -> None:
    """Load the data set that params.yaml names and write its prepared form."""
    params = load_params()
    from al_dgm.data import DATASETS
    from al_dgm.data.prepared import prepare
    from al_dgm.learning.layout import Layout

    layout = Layout.here()
    raw = params.data.build(DATASETS, "data", seed=params.seed)
    info = prepare(raw, layout.prepared, params.data.shard_size, params.seed)
    print(f"{info.name}: {info.examples} examples in the pool, {info.holdout} in the holdout")
    for part in ("pool", "holdout"):
        print(f"labels in the {part}: {raw.label_counts(part)}")


if __name__ == "__main__":
    with one_line_errors():
        main()
