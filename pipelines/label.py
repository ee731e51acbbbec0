"""Stage `label@k`: the answers to round k's query; stops with exit code 75 while people are still labelling."""

from __future__ import annotations

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors
from pipelines import parse_round


def main() -> None:
    """Hand the query to the label source and write the longer ledger once every answer is there."""
    k, params = parse_round(__doc__), load_params()
    from al_dgm.learning.labels import label_round
    from al_dgm.learning.layout import Layout

    label_round(params, Layout.here(), k)


if __name__ == "__main__":
    with one_line_errors():
        main()
