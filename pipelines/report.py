"""Stage `report`: the learning curve, tables and figures; all of it shown in MLflow."""

from __future__ import annotations

from al_dgm.config import load_params, load_rounds
from al_dgm.errors import one_line_errors


def main() -> None:
    """Write the report and mirror the whole loop into MLflow."""
    params, rounds = load_params(), load_rounds()
    from al_dgm.learning.latents import latent_means
    from al_dgm.learning.layout import Layout
    from al_dgm.learning.report import write_report
    from pipelines.track import check_tracking, track

    layout, last = Layout.here(), len(rounds.trainings)
    check_tracking(params, layout)
    latents = latent_means(layout, last, params.seed)
    write_report(layout.rounds, layout.prepared, rounds, layout.report, latents)
    print(f"the report is {layout.report / 'index.html'}; `al-dgm report` prints it")
    track(params, layout, upto=last, files=[layout.report])


if __name__ == "__main__":
    with one_line_errors():
        main()
