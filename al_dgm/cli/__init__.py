"""`al-dgm`: what one types beside `dvc repro`. Thin: one function a command, the work is done elsewhere.

Imports are late, so that ``--help`` and ``version`` answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from al_dgm.errors import one_line_errors

EXIT_USAGE = 2  # what command lines end with that cannot be read


def _help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


def _group(name: str, about: str) -> typer.Typer:
    """Commands under one name; alone it prints their list. Plain text, so that it can be piped."""
    return typer.Typer(
        name=name,
        help=about,
        callback=_help,
        invoke_without_command=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )


app = _group("al-dgm", "Active learning with Bayesian deep generative models.")
data = _group("data", "Data sets that are not made on the spot.")
app.add_typer(data)


@app.command()
def rounds(count: Annotated[int, typer.Argument(metavar="N", help="How often labels are bought.")]) -> None:
    """Unroll the loop to N rounds.

    Writes rounds.yaml, which `dvc repro` follows. Finished rounds stay cached: only added ones run.

    Example: al-dgm rounds 12
    """
    from al_dgm.cli.unroll import unroll

    print(unroll(count, Path.cwd()))


@data.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Which data set; an unknown name lists them all.")],
    folder: Annotated[Path | None, typer.Option(help="Where its files go, if not where the loop looks.")] = None,
) -> None:
    """Download a data set and check its files.

    A file whose checksum is not the published one is refused; what is there already is not fetched again.

    Example: al-dgm data fetch mnist
    """
    from al_dgm.data import fetch as published

    for path in published.fetch(name, folder or Path(published.default_folder(name)), print):
        print(path)


Changes = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Another value than in params.yaml; any number of them.")
]
Saved = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a saved model, such as rounds/3/model.")]


@app.command()
def train(
    labels: Annotated[
        str, typer.Option(help="Known labels: a number in all, of each class alike; all, none, or a ledger.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the model and its metrics.")],
    start: Annotated[Path | None, typer.Option("--from", metavar="DIR", help="Start from these weights.")] = None,
    changes: Changes = [],  # noqa: B006 - never mutated
) -> None:
    """Train one model, without the loop.

    The model of params.yaml on the prepared data. A killed training goes on where it was when asked for again.

    Example: al-dgm train --labels 100 --out models/m2 --set training.steps=5000
    """
    from al_dgm.cli.alone import train_and_describe

    print(train_and_describe(labels, out, start, changes))


@app.command()
def evaluate(
    folder: Saved,
    samples: Annotated[int, typer.Option("--importance-samples", min=1, help="Of the bound on log p(x).")] = 100,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the numbers to as well.")] = None,
) -> None:
    """Measure a saved model on the holdout.

    Accuracy, negative log-likelihood and calibration; for a model of x its ELBO and its importance-weighted bound, of
    Bernoulli data that is binarised once, by a fixed seed. ± is the standard error over the examples.

    Example: al-dgm evaluate models/vae --importance-samples 5000
    """
    from al_dgm.cli.alone import evaluate_and_describe

    print(evaluate_and_describe(folder, samples, out))


@app.command()
def draw(
    folder: Saved,
    out: Annotated[Path | None, typer.Option(help="Folder for the PNG files, if not figures/DIR.")] = None,
    only: Annotated[list[str], typer.Option(metavar="NAME", help="One of them; any number of times.")] = [],  # noqa: B006
) -> None:
    """Draw what a saved model has learnt.

    generation, analogies, reconstruction, latents, activity: as far as they make sense for the model and the data.

    Example: al-dgm draw models/m2
    """
    from al_dgm.cli.alone import draw_and_describe

    print(draw_and_describe(folder, out, only))


@app.command()
def status() -> None:
    """Show how far the loop is and who is waited for.

    A table of the rounds, and what the next `dvc repro` does.

    Example: al-dgm status
    """
    from al_dgm.cli.status import describe
    from al_dgm.learning.layout import Layout

    print(describe(Layout.here()))


@app.command()
def report() -> None:
    """Print the last report, and how to open MLflow.

    Example: al-dgm report
    """
    from al_dgm.learning.layout import Layout
    from al_dgm.learning.report import print_report
    from al_dgm.tracking.address import default_uri, ui_command

    layout = Layout.here()
    print_report(layout.report)
    print(f"\nMLflow: {ui_command(default_uri(layout.home))}")
    print("        there: Model training (top left), the experiment, its chart view: strategies over labels")


@app.command()
def doctor() -> None:
    """Check machine, project and services.

    One line each with ok, warn or fail, and how to mend it; exit code 1 if anything failed.

    Example: al-dgm doctor
    """
    from al_dgm.cli.doctor import Level, examine
    from al_dgm.learning.layout import Layout

    failed = False
    for finding in examine(Layout.here()):
        print(finding.line(), flush=True)
        failed |= finding.level is Level.FAIL
    raise typer.Exit(int(failed))


@app.command()
def version() -> None:
    """Print the version.

    Example: al-dgm version
    """
    from importlib.metadata import version as installed

    print(f"al-dgm {installed('al-dgm')}")


def main() -> None:
    """Entry point: every failure is one line on standard error."""
    with one_line_errors():
        try:
            code = app(prog_name="al-dgm", standalone_mode=False)
        except typer.TyperException as error:  # the command line cannot be read
            command = getattr(getattr(error, "ctx", None), "command_path", "al-dgm")
            print(f"al-dgm: error: {error.format_message().rstrip('.')}; see {command} --help", file=sys.stderr)
            code = EXIT_USAGE
    sys.exit(code)
