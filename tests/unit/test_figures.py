"""The report's pictures: what is drawn is what was handed in."""

import numpy as np
import pandas as pd
import pytest

from al_dgm.learning import figures, metrics


def bars(axes):
    return [round(patch.get_height(), 6) for patch in axes.patches]


def test_learning_curve_draws_both_measures_over_labels():
    """Two lines with the numbers given, the last accuracy written beside its point."""
    curve = pd.DataFrame({"labels": [10, 20], "accuracy": [0.5, 0.875], "nll": [2.0, 1.25]})
    left, right = figures.learning_curve(curve).axes
    assert left.lines[0].get_xydata().tolist() == [[10, 0.5], [20, 0.875]]
    assert right.lines[0].get_xydata().tolist() == [[10, 2.0], [20, 1.25]]
    assert [text.get_text() for text in (*left.texts, *right.texts)] == ["87.5%", "1.250"]
    assert right.get_ylim()[0] == 0


def test_class_balance_stacks_to_the_size_of_the_query():
    """Each bar starts where the one below ends."""
    counts = pd.DataFrame({"cat": [1, 3], "dog": [2, 0], "skipped": [0, 1]}, index=[0, 1])
    (axes,) = figures.class_balance(counts).axes
    assert bars(axes) == [1, 3, 2, 0, 0, 1]
    assert [patch.get_y() for patch in axes.patches] == [0, 0, 1, 3, 3, 3]


def test_query_grid_has_a_row_a_query():
    """Every image under its label, a shorter query leaves its places empty."""
    example = figures.QueriedExample
    image = np.arange(4.0).reshape(2, 2)
    rows = {"seed set": [example(image, "a"), example(image.T, "b")], "round 1": [example(image, None)]}
    axes = figures.query_grid(rows, ["a", "b"]).axes
    assert [one.get_title() for one in axes] == ["a", "b", "skip", ""]
    assert [len(one.images) for one in axes] == [1, 1, 1, 0]
    np.testing.assert_array_equal(axes[1].images[0].get_array(), image.T)


def test_query_plane_shows_every_queried_example():
    """The pool first, then each label's examples; the bar on the right counts the rounds."""
    queried = pd.DataFrame({"x": [0.0, 1.0, 2.0], "y": 0.5, "label": ["up", "down", None], "round": [0, 1, 1]})
    figure = figures.query_plane(np.zeros((5, 2)), queried, ("a", "b"))
    collections = figure.axes[0].collections
    assert [len(points.get_offsets()) for points in collections] == [5, 1, 1, 1]
    assert (figure.axes[0].get_xlabel(), figure.axes[1].get_ylabel()) == ("a", "round")


def test_reliability_diagram_leaves_empty_bins_out():
    """Points only where there are predictions; the shares sum to one."""
    log_prob = np.log([[0.6, 0.4], [0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    table = metrics.reliability(log_prob, np.array([0, 0, 0, 1]))
    top, bottom = figures.reliability_diagram(table, 0.25).axes
    np.testing.assert_allclose(top.lines[1].get_xydata(), [[0.6, 1.0], [0.9, 2 / 3]])
    assert sum(bars(bottom)) == pytest.approx(1)
    assert top.get_legend().get_title().get_text() == "ECE 0.250"


def test_principal_plane_finds_the_line_the_points_lie_on():
    """Points on a line in five dimensions: all variance along the first component, distances kept."""
    direction = np.array([3.0, 0, 0, 4.0, 0]) / 5
    places = np.array([-2.0, 0.0, 1.0, 5.0])
    plane, shares = figures.principal_plane(7.0 + places[:, None] * direction)
    np.testing.assert_allclose(plane[:, 0], places - places.mean(), atol=1e-12)
    np.testing.assert_allclose(plane[:, 1], 0, atol=1e-12)
    assert shares == pytest.approx((1, 0))


def test_principal_plane_of_one_dimension_is_a_line():
    """A model with a single latent variable can be drawn too, and so can means that are all equal."""
    plane, shares = figures.principal_plane(np.array([[1.0], [3.0]]))
    np.testing.assert_allclose(plane, [[-1, 0], [1, 0]])
    assert shares == pytest.approx((1, 0))
    assert figures.principal_plane(np.ones((3, 2)))[1] == (0, 0)


def test_latent_plane_rings_the_queried():
    """Unlabelled, one collection a class, then the rings."""
    means = np.random.default_rng(0).normal(size=(6, 3))
    queried = np.array([True, False, False, False, False, True])
    (axes,) = figures.latent_plane(means, ["a", "a", "b", None, None, None], queried, ["a", "b"]).axes
    assert [len(points.get_offsets()) for points in axes.collections] == [3, 2, 1, 2]
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), figures.principal_plane(means)[0][[0, 5]])


def test_training_curves_draw_a_panel_a_term():
    """A round without a term has no line there; panels that are left over are hidden."""
    first = pd.DataFrame({"step": [1, 2], "objective": [3.0, 2.0]})
    second = first.assign(a=1.0, b=1.0, c=1.0)
    *panels, bar = figures.training_curves({1: first, 2: second}).axes
    assert [len(axes.lines) for axes in panels if axes.get_visible()] == [2, 1, 1, 1]
    assert [axes.get_title(loc="left") for axes in panels[:4]] == ["objective", "a", "b", "c"]
    assert bar.get_ylabel() == "round"


def test_a_curve_of_one_point_is_seen():
    one = pd.DataFrame({"step": [50], "objective": [3.0]})
    lines = [figures.training_curves({1: curve}).axes[0].lines[0] for curve in (one, pd.concat([one, one]))]
    assert [line.get_marker() for line in lines] == [".", "None"]


@pytest.mark.parametrize("count", [1, 10, 11, 47])
def test_every_class_has_a_colour_of_its_own(count):
    """Also beyond ten, and none is the grey of skipped or unlabelled examples."""
    colours = figures.class_colours(count)
    assert len(set(colours)) == count
    assert figures.PALE not in colours


def test_equal_figures_are_equal_files(tmp_path):
    """So that DVC sees no change where there is none."""
    curve = pd.DataFrame({"labels": [10], "accuracy": [0.5], "nll": [2.0]})
    for name in ("a.png", "b.png"):
        figures.save(figures.learning_curve(curve), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
