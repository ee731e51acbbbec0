"""Stage `train@k`: train on the labels so far, measure on the holdout, show the round in MLflow."""

from __future__ import annotations

import argparse

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors


def main() -> None:
    """Train round k's model through Ray Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round", type=int, required=True)
    k = parser.parse_args().round
    params = load_params()
    from al_dgm.distributed.train import train
    from al_dgm.learning.layout import Layout
    from al_dgm.learning.rounds import train_round
    from pipelines.track import check_tracking, track_if_possible

    layout = Layout.here()
    check_tracking(params, layout)
    train_round(params, layout, k, train)
    track_if_possible(params, layout, upto=k)


if __name__ == "__main__":
    with one_line_errors():
        main()
