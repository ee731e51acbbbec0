"""Stage `acquire@k`: which examples to ask labels for next."""

from __future__ import annotations

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors
from pipelines import parse_round


def main() -> None:
    """Score the pool with round k's model and write the query."""
    k, params = parse_round(__doc__), load_params()
    from al_dgm.learning.acquire import acquire_round
    from al_dgm.learning.layout import Layout

    acquire_round(params, Layout.here(), k)


if __name__ == "__main__":
    with one_line_errors():
        main()
