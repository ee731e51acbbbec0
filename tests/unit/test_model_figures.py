"""The pictures of a model: what is drawn is what was handed in."""

import numpy as np
import pytest

from al_dgm.learning import model_figures
from al_dgm.learning.figures import principal_plane, save

STREAM = np.random.default_rng(0)


def images(*grid, size=(3, 2)):
    return STREAM.uniform(0.1, 0.9, (*grid, *size))


def words(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("colours", [(), (3,)], ids=["grey", "colour"])
def test_a_mosaic_holds_every_image_where_it_belongs(colours):
    """And white between them: no ink of grey images, light of coloured ones."""
    parts = images(2, 4, size=(3, 5, *colours))
    whole = model_figures.mosaic(parts, gap=2)
    assert whole.shape == (2 * 5, 4 * 7, *colours)
    for row in range(2):
        for column in range(4):
            cell = whole[5 * row : 5 * row + 5, 7 * column : 7 * column + 7]
            np.testing.assert_array_equal(cell[:3, :5], parts[row, column])
            assert np.unique(np.concatenate([cell[3:].ravel(), cell[:, 5:].ravel()])) == (1.0 if colours else 0.0)


def test_a_grid_names_its_rows_where_they_have_names():
    named = model_figures.image_grid(images(3, 4), ["a", "b", "c"], "Generated", "a note")
    (axes,) = named.axes
    assert words(axes) == ["a", "b", "c"]
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("Generated", "a note")
    assert words(model_figures.image_grid(images(3, 4), [], "", "").axes[0]) == []


def test_names_are_no_formulas(tmp_path):
    """Dollars are drawn as they are, in titles, legends, and beside rows; a logarithmic axis has numbers."""
    names = ["$1_$", "$a^$"]
    drawn = [
        model_figures.image_grid(images(2, 4), names, "$x_$", "$^$"),
        model_figures.latent_planes([STREAM.normal(size=(6, 2))], np.arange(6) % 2, names),
        model_figures.generated_points(STREAM.normal(size=(5, 2)), {name: np.zeros((3, 2)) for name in names}, names),
        model_figures.unit_activity([np.array([1.0, 1e-4])]),
    ]
    for number, figure in enumerate(drawn):
        save(figure, tmp_path / f"{number}.png")
    assert [text.get_text() for text in drawn[-1].axes[0].get_yticklabels()][1:-1] == [
        "0.0001",
        "0.001",
        "0.01",
        "0.1",
        "1",
    ]


def test_analogies_frame_the_class_that_each_original_has():
    """Two pictures, of originals and of all classes, and one frame a row, in the class's column."""
    originals, decoded = images(4), images(4, 3)
    (axes,) = model_figures.analogies(originals, decoded, [2, 0, 1, 1], ["a", "b", "c"]).axes
    np.testing.assert_array_equal(axes.images[0].get_array(), model_figures.mosaic(originals[:, None], 1))
    np.testing.assert_array_equal(axes.images[1].get_array(), model_figures.mosaic(decoded, 1))
    left = axes.images[1].get_extent()[0]
    assert [round(patch.get_x() - left) for patch in axes.patches] == [2, 0, 1, 1]
    tall = 4 / 3
    assert [round(patch.get_y() / tall) for patch in axes.patches] == [0, 1, 2, 3]
    assert words(axes) == ["a", "b", "c"]


@pytest.mark.parametrize("classes", [["cat", "dog"], ["automobile", "airplane"], ["a name of very many words", "b"]])
def test_a_narrow_grid_keeps_its_note_and_its_names_apart(classes, tmp_path):
    """Inside the figure, and nothing over anything else, in whatever length of names."""
    figure = model_figures.analogies(images(4), images(4, 2), [1, 0, 1, 1], classes)
    save(figure, tmp_path / "narrow.png")  # lays it out
    (axes,) = figure.axes
    names, whole = [text for text in axes.texts if text.get_text()], figure.bbox
    for text in (*names, axes.xaxis.label, axes._left_title):
        box = text.get_window_extent()
        assert whole.x0 <= box.x0, text
        assert box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0, text
        assert box.y1 <= whole.y1, text
    title = axes._left_title.get_window_extent()
    assert not any(title.overlaps(name.get_window_extent()) for name in names)


def test_reconstructions_stand_below_their_originals():
    originals, reconstructed = images(2, 4), images(2, 4)
    (axes,) = model_figures.reconstructions(originals, reconstructed, "x, and what is made of it").axes
    shown = [image.get_array() for image in axes.images]
    for found, row in zip(shown, [originals[0], reconstructed[0], originals[1], reconstructed[1]], strict=True):
        np.testing.assert_array_equal(found, model_figures.mosaic(row[None], 1))
    tops = [image.get_extent()[3] for image in axes.images]
    assert tops == sorted(tops)
    assert words(axes) == ["x", "x̂"] * 2


def test_generated_points_lie_over_the_real_ones():
    real, generated = STREAM.normal(size=(5, 2)), {"up": STREAM.normal(size=(3, 2)), "down": STREAM.normal(size=(2, 2))}
    (axes,) = model_figures.generated_points(real, generated, ("a", "b")).axes
    for found, expected in zip(axes.collections, [real, *generated.values()], strict=True):
        np.testing.assert_allclose(found.get_offsets(), expected)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")


def test_generated_bands_are_quantiles_of_each_feature():
    """A panel a class; one without real examples shows the generated ones alone."""
    generated = {name: STREAM.normal(size=(50, 4)) for name in "abcd"}
    real = {**{name: STREAM.normal(size=(9, 4)) for name in "abc"}, "d": np.zeros((0, 4))}
    figure = model_figures.generated_bands(real, generated, ["w", "x", "y", "z"])
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == list("abcd")
    for axes, name in zip(shown, "abcd", strict=True):
        np.testing.assert_allclose(axes.lines[-1].get_ydata(), np.median(generated[name], axis=0))
        corners = axes.collections[-1].get_paths()[0].vertices
        assert corners[:, 1].max() == pytest.approx(np.quantile(generated[name], 0.9, axis=0).max())
    assert [len(axes.lines) for axes in shown] == [2, 2, 2, 1]


def test_each_layer_has_a_plane_of_its_own():
    """Every example a point in the colour of its class; the share of the variance is that layer's."""
    layers, labels = [STREAM.normal(size=(6, 3)), STREAM.normal(size=(6, 1))], np.array([0, 1, 1, 0, 1, 0])
    figure = model_figures.latent_planes(layers, labels, ["a", "b"])
    for axes, means, name in zip(figure.axes, layers, ["z₁", "z₂"], strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets(), principal_plane(means)[0])
        colours = [tuple(colour) for colour in axes.collections[0].get_facecolors()]
        assert [colour == colours[0] for colour in colours] == [True, False, False, True, False, True]
        assert axes.get_title(loc="left") == f"Latent means of {name}"
    assert "(100% of the variance)" in figure.axes[1].get_xlabel()
    assert model_figures.latent_planes(layers[:1], labels, ["a", "b"]).axes[0].get_title(loc="left") == "Latent means"


def test_units_are_sorted_within_their_layer_and_counted():
    """Active above 0.01; a unit that never moves ends at the axis instead of at minus infinity."""
    (axes,) = model_figures.unit_activity([np.array([0.5, 2.0, 0.0]), np.array([0.009, 0.011])]).axes
    heights = [patch.get_height() for patch in axes.patches]
    assert heights == [2.0, 0.5, model_figures.FAINTEST, 0.011, 0.009]
    assert axes.get_title(loc="left") == "3 of 5 latent units are active"
    assert axes.get_legend_handles_labels()[1] == ["active above 0.01", "z₁: 2 of 3", "z₂: 1 of 2"]
    assert model_figures.unit_activity([np.ones(2)]).axes[0].get_legend_handles_labels()[1][1] == "z: 2 of 2"
