"""The report of a real small loop, written once for the module."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from loop_files import make_loop
from rich.console import Console

from al_dgm.config import Rounds
from al_dgm.data import DATASETS
from al_dgm.data.prepared import load_info, load_pool
from al_dgm.errors import DataError
from al_dgm.labelling.query import read_query
from al_dgm.learning import outcome
from al_dgm.learning.report import print_report, write_report
from al_dgm.learning.report_data import as_image, background, read_loop, stored_features

FIGURES = {"learning_curve.png", "class_balance.png", "queries.png", "calibration.png", "latent.png", "training.png"}
TABLES = {"curve.csv", "calibration.csv", "metrics.json", "index.html"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """(root, rounds) of a loop on digits: seed set, two queries, three trainings; one answer is a skip."""
    root = tmp_path_factory.mktemp("digits")
    return root, make_loop(root, DATASETS["digits"](seed=0), queries=2, skipped={(1, 3)})


@pytest.fixture
def loop(digits, tmp_path):
    """A copy of the loop to damage."""
    shutil.copytree(digits[0], tmp_path / "loop")
    return tmp_path / "loop", digits[1]


def write(root, rounds, **more):
    return write_report(root / "rounds", root / "data", rounds, root / "report", **more)


def test_a_report_has_every_figure_and_table(digits):
    """And nothing else; the page refers to each figure."""
    root, rounds = digits
    pool = load_pool(root / "data")
    latents = pd.DataFrame(pool.x[:200, 20:24], index=pool.ids[:200])
    write(root, rounds, latents=latents)
    assert {path.name for path in (root / "report").iterdir()} == FIGURES | TABLES
    page = (root / "report" / "index.html").read_text()
    assert all(f'src="{name}"' in page for name in FIGURES)
    assert "Active learning on digits" in page


def test_the_summary_is_what_the_rounds_say(digits):
    """10 seeds and 20 answers, one of them a skip: 29 labels for a cost of 30."""
    root, rounds = digits
    summary = write(root, rounds)
    last = json.loads((root / "rounds" / "3" / "metrics.json").read_text())
    assert json.loads((root / "report" / "metrics.json").read_text()) == summary
    assert (summary["rounds"], summary["labels"], summary["cost"]) == (3, 29, 30.0)
    assert {name: summary[name] for name in outcome.SCORES} == {name: last[name] for name in outcome.SCORES}
    curve = pd.read_csv(root / "report" / "curve.csv")
    assert curve["labels"].tolist() == [10, 19, 29]
    a, b, c = curve["accuracy"]
    assert summary["area_under_curve"] == pytest.approx((9 * (a + b) / 2 + 10 * (b + c) / 2) / 19)
    assert summary["labels_to_95"] is None
    assert {"ece", "brier", "nll", "bound", "train_total_seconds"} <= set(curve)


def test_rounds_of_an_earlier_longer_loop_are_not_read(loop):
    """Only what rounds.yaml names counts, even if the rest is damaged."""
    root, _ = loop
    trainings, queries = Rounds.chain(1)
    (root / "rounds" / "3" / "metrics.json").write_text("damaged")
    (root / "rounds" / "2" / "labels.parquet").unlink()
    summary = write(root, Rounds(trainings=trainings, queries=queries))
    assert (summary["rounds"], summary["labels"]) == (2, 19)
    assert pd.read_csv(root / "report" / "curve.csv")["round"].tolist() == [1, 2]


def test_a_figure_without_content_is_left_out_with_its_reason(loop):
    """No latents, no training curves: an older picture of them goes too, and the page says why."""
    root, rounds = loop
    (root / "report").mkdir(exist_ok=True)
    (root / "report" / "latent.png").write_bytes(b"old")
    for k in (1, 2, 3):
        (root / "rounds" / str(k) / "history.csv").unlink()
    write(root, rounds)
    assert {path.name for path in (root / "report").iterdir()} == (FIGURES - {"latent.png", "training.png"}) | TABLES
    page = (root / "report" / "index.html").read_text()
    assert "latent.png is not drawn: the model has no latent variables" in page
    assert "training.png is not drawn: no round has left a training curve" in page


def test_class_counts_add_up_to_each_query(digits):
    """The seed set brings one of each class; the skip of query 1 is counted as such."""
    root, rounds = digits
    counts = read_loop(root / "rounds", root / "data", rounds).class_counts()
    assert counts.loc[0].tolist() == [1] * 10 + [0]
    assert counts.sum(axis=1).tolist() == [10, 10, 10]
    assert counts["(skipped)"].tolist() == [0, 1, 0]


def test_a_class_may_be_called_skipped(digits):
    """What people did not answer is counted beside the classes, whatever those are called."""
    root, rounds = digits
    loop = read_loop(root / "rounds", root / "data", rounds)
    info = loop.info.model_copy(update={"classes": ("skipped", *loop.info.classes[1:])})
    renamed = replace(loop, info=info, labels=loop.labels.replace("0", "skipped"))
    assert renamed.class_counts().to_numpy().tolist() == loop.class_counts().to_numpy().tolist()


def test_features_come_back_as_they_were_stored(digits):
    """By id, over shards, in counts 0..16; the right example under the right id."""
    root, _ = digits
    raw, info = DATASETS["digits"](seed=0), load_info(root / "data")
    ids = read_query(root / "rounds" / "1" / "query.parquet").ids
    features = stored_features(root / "data", info, ids)
    rows = dict(zip(raw.ids, raw.features, strict=True))
    for name in ids:
        np.testing.assert_allclose(features[name], rows[name], atol=1e-5)
    with pytest.raises(DataError, match="expected example 'nobody' of a query"):
        stored_features(root / "data", info, ["nobody"])


def test_the_background_is_bounded(digits):
    """No more of the pool than a scatter plot can show."""
    root, _ = digits
    info = load_info(root / "data")
    assert background(root / "data", info).shape == (min(3000, info.examples), 64)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 3), (2, 3)), ((1, 2, 3), (2, 3)), ((2, 3, 1), (2, 3)), ((3, 2, 4), (2, 4, 3)), ((2, 4, 3), (2, 4, 3))],
)
def test_images_of_any_layout(shape, expected):
    """Channels first or last, grey or colour; colour within 0..1."""
    image = as_image(np.arange(np.prod(shape), dtype=float), shape)
    assert image.shape == expected
    assert image.ndim == 2 or image.max() <= 1


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (1, 2, 2, 1)])
def test_other_shapes_are_no_images(shape):
    """A row, two channels, a volume."""
    assert as_image(np.zeros(int(np.prod(shape))), shape) is None


def test_examples_that_are_rows_are_drawn_in_the_plane(tmp_path):
    """Half moons have two features; the report is complete but for the latents."""
    rounds = make_loop(tmp_path, DATASETS["half_moons"](seed=0, examples=120, holdout=60), queries=1, size=4)
    write(tmp_path, rounds)
    assert {path.name for path in (tmp_path / "report").iterdir()} == (FIGURES - {"latent.png"}) | TABLES


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.json", None, r"2/metrics\.json: file not found"),
        ("metrics.json", "{", r"2/metrics\.json: not valid JSON"),
        ("metrics.json", "[]", "expected a JSON object, got list"),
        ("metrics.json", '{"round": 2}', "expected keys round, labels"),
        ("history.csv", "objective\n1\n", "expected a column 'step'"),
        ("history.csv", "", "expected a table"),
        ("query.parquet", None, r"2/query\.parquet: file not found"),
    ],
)
def test_a_damaged_round_is_named(loop, file, content, message):
    """The message says which file and what is wrong with it."""
    root, rounds = loop
    path = root / "rounds" / "2" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=message):
        write(root, rounds)


def test_a_round_in_the_wrong_folder_is_refused(loop):
    """A copied folder would otherwise be drawn as a round it is not."""
    root, rounds = loop
    shutil.copy(root / "rounds" / "1" / "metrics.json", root / "rounds" / "2" / "metrics.json")
    with pytest.raises(DataError, match="expected round 2, got 1"):
        write(root, rounds)


def test_predictions_of_other_classes_are_refused(digits):
    """Positions of probabilities would name the wrong classes."""
    with pytest.raises(DataError, match="expected 2 classes, got 10"):
        outcome.read_predictions(digits[0] / "rounds" / "1", ["0", "1"])


def printed(folder, width=80):
    stream = io.StringIO()
    print_report(folder, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_terminal_shows_rounds_and_curve(digits):
    """A row a round, the curve within the width, the summary last."""
    root, rounds = digits
    summary = write(root, rounds)
    text = printed(root / "report")
    table = [line.split() for line in text.splitlines()[:4]]
    assert table[0] == ["round", "labels", "accuracy", "nll", "ece", "brier", "bound", "seconds"]
    assert [line[:2] for line in table[1:]] == [["1", "10"], ["2", "19"], ["3", "29"]]
    assert "holdout accuracy (%) over labels" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert f"29 labels, accuracy {summary['accuracy']:.1%}" in text
    assert "95 % not reached" in text


def test_printing_again_prints_the_same(digits):
    """The plotting library keeps a figure of its own between calls."""
    write(*digits)
    assert printed(digits[0] / "report") == printed(digits[0] / "report")


def test_no_report_no_print(tmp_path):
    """The message says what writes one."""
    with pytest.raises(DataError, match="file not found"):
        print_report(tmp_path)


def test_reporting_loads_neither_torch_nor_matplotlib_before_it_draws():
    """The terminal's print starts at once."""
    code = "import sys, al_dgm.learning.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "matplotlib", "plotext"}.isdisjoint(loaded)
