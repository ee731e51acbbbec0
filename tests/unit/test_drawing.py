"""What a saved model is asked for when it is drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from al_dgm.data.prepared import DatasetInfo, Holdout
from al_dgm.errors import ConfigError
from al_dgm.learning import drawing, model_figures
from al_dgm.learning.drawing import PICTURES, NotDrawnError, Subject, draw_model
from al_dgm.learning.job import ModelSpec
from al_dgm.models import MODELS
from al_dgm.nn.bayesian import mean_weights
from al_dgm.nn.noise import NoNoise

SIZES = {"hidden": [7], "latent": 3, "auxiliary": 2}
HIERARCHY = {"hidden": [7, 6], "latents": [3, 2], "auxiliary": [2, 2]}
GENERATIVE = sorted(name for name, model in MODELS.items() if getattr(model, "generative", False))
WITH_CLASSES = sorted(name for name in GENERATIVE if getattr(MODELS[name], "decodes_class", False))


def subject(name="m2", shape=(4, 2), classes=3, rows=20, kind="bernoulli", **chosen):
    """A small model of random data, as it starts."""
    D = math.prod(shape)
    names = tuple("abcdefghijklmnopqrstuvwxyz"[:classes])
    known = MODELS[name].__init__.__annotations__
    sizes = HIERARCHY if "latents" in known else SIZES
    options = {option: value for option, value in sizes.items() if option in known} | chosen
    observation = {"kind": kind, "trials": 1}
    model = ModelSpec(name, options, D, names, observation, 0.5, 0.3, shape).build(0)
    info = DatasetInfo(
        name="random",
        examples=9,
        holdout=rows,
        shape=shape,
        classes=names,
        feature_names=None,
        observation=observation,
        scale={"mean": [2.0], "sd": [4.0]},
        centre=0.5,
        spread=0.3,
        labelled=9,
        permanent_ids=True,
    )
    stream = np.random.default_rng(0)
    x = stream.uniform(size=(rows, D)).astype(np.float32)
    holdout = Holdout(np.arange(rows).astype(str), x, stream.permutation(np.arange(rows) % classes))
    return Subject(model.eval(), info, holdout, seed=0)


@pytest.fixture
def drawn(monkeypatch):
    """What every function of `model_figures` was called with; nothing is drawn."""
    calls = {}
    for name in ("image_grid", "analogies", "reconstructions", "latent_planes", "unit_activity", "generated_points"):
        monkeypatch.setattr(model_figures, name, lambda *args, name=name: calls.__setitem__(name, args))
    monkeypatch.setattr(drawing.figures, "save", lambda figure, path: None)
    return calls


def decoded(subject, y, z):
    """Mean images of p(x | y, z, ·) with whatever stands between z and x at its mean."""
    with torch.no_grad(), mean_weights(subject.model):
        return subject.mean_images(subject.model.decode(torch.full((len(z),), y), z, NoNoise()))


@pytest.mark.parametrize("name", GENERATIVE)
def test_every_generative_model_can_be_drawn(name, tmp_path, monkeypatch):
    """Every picture, but for analogies of models that do not decode a class."""
    saved = []
    monkeypatch.setattr(drawing.figures, "save", lambda figure, path: saved.append(path.stem))
    lines = draw_model(subject(name), tmp_path)
    assert len(lines) == len(PICTURES)
    assert set(saved) == set(PICTURES) - (set() if name in WITH_CLASSES else {"analogies"})


def test_pictures_are_files_and_equal_each_time(tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        lines = draw_model(subject(), folder, ["generation", "activity"])
        assert lines == [str(folder / "generation.png"), str(folder / "activity.png")]
    for name in ("generation.png", "activity.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_column_of_the_grid_is_one_latent_decoded_as_every_class(drawn, tmp_path):
    """The same z in every row, of a model whose decoder sees nothing else."""
    it = subject("m2")
    draw_model(it, tmp_path, ["generation"])
    images, names, *_ = drawn["image_grid"]
    assert (images.shape, list(names)) == ((3, drawing.COLUMNS, 4, 2), ["a", "b", "c"])
    z = it.noise("latents").normal(torch.Size([drawing.COLUMNS, 3]))
    for y in range(3):
        np.testing.assert_allclose(images[y], decoded(it, y, z), atol=1e-6)


def test_a_model_without_classes_gives_a_grid_of_draws(drawn, tmp_path):
    it, count = subject("lvae"), drawing.ROWS * drawing.COLUMNS
    draw_model(it, tmp_path, ["generation"])
    images, names, *_ = drawn["image_grid"]
    assert (images.shape, list(names)) == ((drawing.ROWS, drawing.COLUMNS, 4, 2), [])
    with torch.no_grad(), mean_weights(it.model):
        expected = it.mean_images(it.model.generate(it.noise("latents"), count))
    np.testing.assert_allclose(images.reshape(expected.shape), expected, atol=1e-6)


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_analogies_are_of_the_latents_inferred_with_the_known_class(name, drawn, tmp_path):
    """Row by row the original, and its z as every class."""
    it = subject(name)
    draw_model(it, tmp_path, ["analogies"])
    originals, images, own, names = drawn["analogies"]
    assert (list(own), list(names)) == ([0, 1, 2] * 3 + [0], ["a", "b", "c"])
    _, x, y = it.examples(10)
    np.testing.assert_allclose(originals, it.images(x.numpy()))
    with torch.no_grad(), mean_weights(it.model):
        z = it.model.encode(x, y, NoNoise())
    for c in range(3):
        np.testing.assert_allclose(images[:, c], decoded(it, c, z), atol=1e-6)


def test_analogies_whose_pixels_depend_on_each_other_are_drawn_by_the_same_numbers_for_every_class(drawn, tmp_path):
    """Where y and z move nothing classes are alike, and rows are not: each has its own draws of the pixels before."""
    it = subject("sdgm", convolutions=[4], pixelcnn=[8, 1], bayesian="none")
    with torch.no_grad():
        for parameter in it.model.decoder.pixels.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        for network in (it.model.decoder.maps, it.model.auxiliary_decoder, it.model.auxiliary, it.model.encoder):
            network.layers[-1].weight.zero_()
    draw_model(it, tmp_path, ["analogies"])
    images = drawn["analogies"][1]
    np.testing.assert_allclose(images, images[:, :1].repeat(3, axis=1), atol=1e-6)
    assert images[:, 0].std(0).max() > 1e-3


def test_reconstructions_are_those_of_the_model(drawn, tmp_path):
    """In whole rows: of 20 examples twelve, and of four all in one row."""
    for rows, grid in ((20, (1, 12)), (4, (1, 4)), (50, (4, 12))):
        it = subject("vae", rows=rows)
        draw_model(it, tmp_path, ["reconstruction"])
        originals, reconstructed, _ = drawn["reconstructions"]
        assert originals.shape == reconstructed.shape == (*grid, 4, 2)
        images, x, _ = it.examples(math.prod(grid))
        np.testing.assert_array_equal(originals.reshape(images.shape), images)
        with torch.no_grad(), mean_weights(it.model):
            expected = it.mean_images(it.model.reconstruct(x, NoNoise()))
        np.testing.assert_allclose(reconstructed.reshape(images.shape), expected, atol=1e-6)


def test_latent_means_are_taken_apart_by_layer(drawn, tmp_path, monkeypatch):
    """Activity is their variance over the holdout; of many examples some are shown, with their own labels."""
    monkeypatch.setattr(drawing, "SHOWN", 15)
    it = subject("lvae")
    draw_model(it, tmp_path, ["latents", "activity"])
    with torch.no_grad(), mean_weights(it.model):
        means = it.model.represent(torch.from_numpy(it.holdout.x), NoNoise()).numpy()
    (variances,) = drawn["unit_activity"]
    assert [len(layer) for layer in variances] == [3, 2]
    np.testing.assert_allclose(np.concatenate(variances), means.var(axis=0), rtol=1e-4)
    layers, labels, _ = drawn["latent_planes"]
    shown = np.concatenate(layers, axis=1)
    assert shown.shape == (15, 5)
    for row, label in zip(shown, labels, strict=True):
        (place,) = np.flatnonzero(np.isclose(means, row, atol=1e-6).all(1))
        assert it.holdout.labels[place] == label


def test_generated_points_are_drawn_from_p_of_x_with_noise_of_its_own(drawn, tmp_path, monkeypatch):
    """On the stored scale. The noise on top of the decoder is not that of the latents over again."""
    it = subject("m2", shape=(2,), kind="gaussian")
    seen = []

    def decode(y, z, noise):
        """A standard normal p(x | ·) whatever z is."""
        seen.append(z)
        return torch.zeros(len(z), 4)

    monkeypatch.setattr(it.model, "decode", decode)
    draw_model(it, tmp_path, ["generation"])
    real, generated, _ = drawn["generated_points"]
    np.testing.assert_allclose(real, it.holdout.x * 4 + 2, rtol=1e-6)
    for x in generated.values():
        noise = (x - 2) / 4
        assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
        assert noise.std() == pytest.approx(1, abs=0.2)
        assert abs(np.corrcoef(noise.ravel(), seen[0].ravel()[: noise.size])[0, 1]) < 5 / math.sqrt(noise.size)
    assert len({x.tobytes() for x in generated.values()}) == 3


@pytest.mark.parametrize(
    ("shape", "wanted", "reason"),
    [
        ((2,), "analogies", r"examples of shape \[2\] are no images"),
        ((6,), "reconstruction", r"examples of shape \[6\] are no images"),
        ((2, 3, 4), "generation", r"examples of shape \[2, 3, 4\] are no images"),
        ((1,), "generation", "a single feature is neither an image nor a point in a plane nor a curve"),
    ],
)
def test_what_makes_no_sense_is_left_out_and_refused_by_name(shape, wanted, reason, tmp_path):
    it = subject(shape=shape, kind="gaussian")
    with pytest.raises(NotDrawnError, match=rf"{wanted}\.png is not drawn: {reason}"):
        draw_model(it, tmp_path, [wanted])
    assert not list(tmp_path.iterdir())
    (tmp_path / f"{wanted}.png").write_text("of another model")
    (line,) = [line for line in draw_model(it, tmp_path) if f"{wanted}.png" in line]
    assert "is not drawn" in line
    assert {path.stem for path in tmp_path.iterdir()} >= {"activity"}
    assert not (tmp_path / f"{wanted}.png").exists()


def test_an_unknown_picture_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"--only: unknown name 'analogy' \(did you mean 'analogies'\?\)"):
        draw_model(subject(), tmp_path, ["activity", "analogy"])
    assert not list(tmp_path.iterdir())


def test_images_are_scaled_by_the_holdouts_range_and_colour_is_kept():
    """0 and 1 at its ends, clipped beyond; channels first become channels last."""
    it = subject(shape=(3, 2, 2), kind="gaussian")
    x = it.holdout.x
    low, high = x.min(), x.max()
    images = it.images(np.concatenate([x, x[:1] - 5, x[:1] + 5]))
    assert images.shape == (22, 2, 2, 3)
    expected = ((x - low) / (high - low)).reshape(-1, 3, 2, 2).transpose(0, 2, 3, 1)
    np.testing.assert_allclose(images[:-2], expected, atol=1e-6)
    assert (images[-2].max(), images[-1].min()) == (0, 1)
    same = replace(it, holdout=replace(it.holdout, x=np.zeros_like(x)))
    assert np.isfinite(same.images(np.zeros_like(x))).all()


def test_examples_go_round_the_classes_as_long_as_there_are_any():
    """And leave out the classes that a picture has no room for."""
    it = subject(classes=3, rows=8)
    labels = np.array([2, 2, 2, 2, 0, 1, 0, 2])
    it = replace(it, holdout=replace(it.holdout, labels=labels))
    assert it.examples(99)[2].tolist() == [0, 1, 2, 0, 2, 2, 2, 2]
    many = subject(classes=26, rows=60)
    assert len(many.classes) == drawing.CLASSES
    assert many.examples(999)[2].max() == drawing.CLASSES - 1
