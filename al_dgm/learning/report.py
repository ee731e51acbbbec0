"""The report of a finished loop: figures, tables for DVC, one page that shows all, and a print for the terminal.

learning_curve.png  class_balance.png  queries.png  calibration.png  latent.png  training.png
curve.csv           a row a round: labels, accuracy, nll, ece, brier, …   (DVC plots)
calibration.csv     the last round's reliability table                    (DVC plots)
metrics.json        the loop in a few numbers                             (DVC metrics)
index.html          all of it on one page
"""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from al_dgm.config import Rounds
from al_dgm.errors import DataError
from al_dgm.files import write_atomically
from al_dgm.learning.outcome import read_json
from al_dgm.learning.report_data import ReportData, as_image, background, read_loop, stored_features

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

_GRID_ROWS, _GRID_COLUMNS = 12, 14  # a grid larger than this is not looked at
_CAPTIONS = {
    "learning_curve.png": "Holdout accuracy and negative log-likelihood over the number of labels.",
    "class_balance.png": "Classes of the examples that each query brought; 0 is the seed set.",
    "queries.png": "Queried examples and the labels they were given; of images the first choice of a query first.",
    "calibration.png": "Accuracy over confidence on the holdout after the last round.",
    "latent.png": "Latent means after the last round; queried examples are ringed, unlabelled ones grey.",
    "training.png": "The terms of the objective during each round's training, in nats.",
}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
figure {{ margin: 2rem 0 }} img {{ max-width: 100% }} figcaption, .note {{ color: #616e7c; font-size: .9rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #d9dee3; font-weight: normal }}
th {{ color: #616e7c }} .wide {{ overflow-x: auto }}
</style>
<h1>{title}</h1>
{body}
</html>
"""


class _NotDrawnError(Exception):
    """Why a figure has nothing to show; the page says so in its place."""


def write_report(
    rounds_folder: Path, prepared_folder: Path, rounds: Rounds, folder: Path, latents: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Write the report of the rounds that ``rounds`` names into ``folder``; returns what ``metrics.json`` holds.

    Args:
        rounds_folder: with the folders 0, 1, 2, …
        prepared_folder: with the prepared data.
        rounds: rounds.yaml; folders of other rounds are not read.
        folder: of the report, made if need be.
        latents: mean of q(z|x) of some examples of pool and holdout after the last round: a row an example, indexed
            by its id, a column a latent dimension. None for a model without latent variables.

    Raises:
        DataError: a file of a round is missing or malformed.
    """
    data = read_loop(rounds_folder, prepared_folder, rounds)
    summary = data.summary()
    _write(folder / "curve.csv", data.curve.to_csv(index=False))
    _write(folder / "calibration.csv", data.reliability.to_csv(index=False))
    _write(folder / "metrics.json", json.dumps(summary, indent=2) + "\n")
    missing = _draw_all(data, prepared_folder, latents, folder)
    _write(folder / "index.html", _page(data, summary, missing))
    return summary


def _write(path: Path, text: str) -> None:
    write_atomically(path, text.encode())


def _draw_all(data: ReportData, prepared_folder: Path, latents: pd.DataFrame | None, folder: Path) -> dict[str, str]:
    """Draw what can be drawn; returns for each other figure why not."""
    from al_dgm.learning import figures  # noqa: PLC0415  matplotlib takes a second; the print needs none

    drawings: dict[str, Callable[[], Figure]] = {
        "learning_curve.png": lambda: figures.learning_curve(data.curve),
        "class_balance.png": lambda: figures.class_balance(data.class_counts()),
        "queries.png": lambda: _queries(data, prepared_folder),
        "calibration.png": lambda: figures.reliability_diagram(data.reliability, float(data.curve["ece"].iloc[-1])),
        "latent.png": lambda: _latent(data, latents),
        "training.png": lambda: _training(data),
    }
    missing: dict[str, str] = {}
    for name, draw in drawings.items():
        try:
            figures.save(draw(), folder / name)
        except _NotDrawnError as reason:
            missing[name] = str(reason)
            (folder / name).unlink(missing_ok=True)
    return missing


def _queries(data: ReportData, prepared_folder: Path) -> Figure:
    from al_dgm.learning import figures  # noqa: PLC0415

    features = stored_features(prepared_folder, data.info, data.queried()["id"].tolist())
    if len(data.info.shape) > 1:
        return figures.query_grid(_grid(data, features), data.info.classes)
    if data.info.shape[0] < 2:
        raise _NotDrawnError("the examples are neither images nor have two features")
    points = pd.DataFrame([features[name][:2] for name in data.queried()["id"]], columns=["x", "y"])
    names = data.info.feature_names or ("feature 1", "feature 2")
    pool = background(prepared_folder, data.info)
    return figures.query_plane(pool[:, :2], points.join(data.queried()[["label", "round"]]), (names[0], names[1]))


def _grid(data: ReportData, features: dict[str, Any]) -> dict[str, list[Any]]:
    """Image rows of the grid; of a long loop the seed set and evenly spaced rounds."""
    from al_dgm.learning.figures import QueriedExample  # noqa: PLC0415

    count = len(data.queries)
    shown = np.unique(np.linspace(0, count - 1, min(count, _GRID_ROWS)).round().astype(int))
    rows: dict[str, list[Any]] = {}
    for query in (data.queries[place] for place in shown):
        images = [(as_image(features[name], data.info.shape), name) for name in query.ids[:_GRID_COLUMNS]]
        if any(image is None for image, _ in images):
            raise _NotDrawnError(f"examples of the shape {list(data.info.shape)} are no images")
        name = f"round {query.round}" if query.round else "seed set"
        rows[name] = [QueriedExample(image, data.labels.get(example)) for image, example in images if image is not None]
    return rows


def _latent(data: ReportData, latents: pd.DataFrame | None) -> Figure:
    from al_dgm.learning import figures  # noqa: PLC0415

    if latents is None:
        raise _NotDrawnError("the model has no latent variables")
    known = data.holdout | {str(name): label for name, label in data.labels.items()}
    labels = [known.get(str(name)) for name in latents.index]
    queried = latents.index.isin(data.queried()["id"])
    return figures.latent_plane(latents.to_numpy(), labels, queried, data.info.classes)


def _training(data: ReportData) -> Figure:
    from al_dgm.learning import figures  # noqa: PLC0415

    if not data.histories:
        raise _NotDrawnError("no round has left a training curve")
    return figures.training_curves(data.histories)


def _page(data: ReportData, summary: dict[str, Any], missing: dict[str, str]) -> str:
    reached = summary["labels_to_95"]
    speed = (
        f"95 % accuracy after about {reached:.0f} labels" if reached is not None else "95 % accuracy was not reached"
    )
    text = (
        f"{summary['rounds']} rounds, {summary['labels']} labels of {data.info.examples} examples: "
        f"accuracy {summary['accuracy']:.1%}, NLL {summary['nll']:.3f} nats, ECE {summary['ece']:.3f} on "
        f"{data.info.holdout} holdout examples; {speed}; area under the accuracy curve "
        f"{summary['area_under_curve']:.3f}."
    )
    parts = [f"<p>{text}</p>"]
    for name, caption in _CAPTIONS.items():
        if name in missing:
            parts.append(f'<p class="note">{name} is not drawn: {escape(missing[name])}.</p>')
        else:
            parts.append(f'<figure><img src="{name}" alt="{caption}"><figcaption>{caption}</figcaption></figure>')
    table = data.curve[_shown_columns(data.curve)].to_html(
        index=False, border=0, float_format="{:.3f}".format, na_rep=""
    )
    return _PAGE.format(
        title=f"Active learning on {escape(data.info.name)}",
        body="\n".join([*parts, f'<div class="wide">{table}</div>']),
    )


def _shown_columns(curve: pd.DataFrame) -> list[str]:
    wanted = ["round", "labels", "accuracy", "nll", "ece", "brier", "bound", "train_total_seconds"]
    return [name for name in wanted if name in curve]


def print_report(folder: Path, console: Console | None = None) -> None:
    """Print the table of rounds and the learning curve to the terminal.

    Raises:
        DataError: there is no report in ``folder``.
    """
    from rich.console import Console  # noqa: PLC0415

    summary = read_json(folder / "metrics.json")
    curve = _read_curve(folder / "curve.csv")
    console = console or Console()
    console.print(_table(curve))
    if len(curve) > 1:
        console.print(_plot(curve, min(console.width, 90)), markup=False, highlight=False)
    reached = summary["labels_to_95"]
    console.print(
        f"{summary['labels']} labels, accuracy {summary['accuracy']:.1%} on {summary['holdout']} holdout examples, "
        f"area under the curve {summary['area_under_curve']:.3f}, "
        + (f"95 % after about {reached:.0f} labels" if reached is not None else "95 % not reached"),
        highlight=False,
    )


def _read_curve(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise DataError(f"{path}: file not found; `dvc repro report` writes it")
    return pd.read_csv(path)


def _table(curve: pd.DataFrame) -> Any:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold")
    columns = _shown_columns(curve)
    for name in columns:
        table.add_column({"train_total_seconds": "seconds"}.get(name, name), justify="right")
    for row in curve[columns].itertuples(index=False):
        table.add_row(*(_cell(name, value) for name, value in zip(columns, row, strict=True)))
    return table


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return "–"
    if name in {"round", "labels"}:
        return str(int(value))
    return {"accuracy": f"{value:.1%}", "bound": f"{value:.2f}", "train_total_seconds": f"{value:.1f}"}.get(
        name, f"{value:.3f}"
    )


def _plot(curve: pd.DataFrame, width: int) -> str:
    """The learning curve as characters."""
    import plotext  # noqa: PLC0415

    labels, percent = curve["labels"].tolist(), (100 * curve["accuracy"]).tolist()
    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, 16)
    figure.title("holdout accuracy (%) over labels")
    figure.draw(figure.signal(labels, percent, marker="braille").lines())
    figure.draw(figure.signal(labels, percent, marker="●"))
    shown = labels[:: 1 + len(labels) // 12]
    figure.ruler("x").ticks(shown, [str(count) for count in shown])
    drawn: str = figure.build().string(colorless=True)
    figure.clear()
    return drawn
