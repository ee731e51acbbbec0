"""Stage `train@k`: train on the labels so far, measure on the holdout, show the round in MLflow."""

from __future__ import annotations

from al_dgm.config import load_params
from al_dgm.errors import one_line_errors
from pipelines import parse_round


def main() -> None:
    """Train round k's model through Ray Train."""
    k, params = parse_round(__doc__), load_params()
    from al_dgm.data.prepared import load_info
    from al_dgm.distributed.address import check_cluster
    from al_dgm.learning.layout import Layout
    from pipelines.track import check_tracking, tracked

    # What can be refused is refused at once: before torch is loaded, and before an hour of training.
    layout = Layout.here()
    check_tracking(params, layout)
    if params.compute.workers:
        check_cluster()
    info = load_info(layout.prepared)
    with tracked(params, k):
        from al_dgm.learning.components import check_components

        check_components(params, info)
        from al_dgm.distributed.train import train
        from al_dgm.learning.rounds import train_round

        train_round(params, layout, k, train)


if __name__ == "__main__":
    with one_line_errors():
        main()
