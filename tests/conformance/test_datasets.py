"""What every data set promises, for each that is registered; one that reads files needs a maker here."""

import hashlib
import inspect
from dataclasses import replace

import numpy as np
import pytest

from al_dgm.data import DATASETS
from al_dgm.data.prepared import load_holdout, load_info, load_pool, load_truth, prepare
from al_dgm.data.published import PUBLISHED


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def published(name, folder, monkeypatch):
    """Small files in place of the published ones, and their checksums in place of the published ones'."""
    draw = np.random.default_rng(0)
    sha256 = {}
    for part, n in (("train", 40), ("t10k", 20)):
        images, labels = draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        for file, values in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            (folder / file).write_bytes(idx(values))
            sha256[file] = hashlib.sha256(idx(values)).hexdigest()
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sha256=sha256))
    return {"folder": str(folder)}


def table(folder):
    rows = [f"{i * i % 7},{i % 5},{'abc'[i % 3] if i % 2 else ''}" for i in range(60)]
    (folder / "mine.csv").write_text("\n".join(["height,width,label", *rows]))
    return {"path": str(folder / "mine.csv"), "holdout": 0.5}


MAKERS = {
    "digits": lambda folder, patch: {},
    "half_moons": lambda folder, patch: {"examples": 60, "holdout": 20},
    "mnist": lambda folder, patch: published("mnist", folder, patch),
    "fashion_mnist": lambda folder, patch: published("fashion_mnist", folder, patch),
    "table": lambda folder, patch: table(folder),
}


@pytest.fixture(params=DATASETS)
def name(request):
    """Each registered data set's name."""
    return request.param


@pytest.fixture
def make(name, tmp_path, monkeypatch):
    """seed -> the data set."""
    options = MAKERS[name](tmp_path, monkeypatch)
    return lambda seed=0: DATASETS[name](seed=seed, **options)


def test_equal_seeds_are_equal_data(make):
    """Everything that is drawn comes from the seed."""
    first, second = make(3), make(3)
    for what in ("ids", "features", "labels", "holdout"):
        np.testing.assert_array_equal(getattr(first, what), getattr(second, what))


def test_ids_are_permanent(make):
    """An id names the same example in every split, and an example that is there again has the same id."""
    first, second = (
        {name: bytes(x) for name, x in zip(raw.ids, raw.features, strict=True)} for raw in map(make, (0, 1))
    )
    shared = set(first) & set(second)
    assert all(first[name] == second[name] for name in shared)
    assert not set(first.values()) & {x for name, x in second.items() if name not in shared}


def test_every_class_is_measured(make):
    """The holdout has examples of each class, and no label is unknown there."""
    raw = make()
    assert set(raw.labels[raw.holdout]) == set(raw.classes)


def test_prepared_and_back(make, name, tmp_path):
    """All examples arrive in model space under their ids, the holdout with its labels, the pool without."""
    raw, folder = make(), tmp_path / "prepared"
    info = prepare(raw, folder, shard_size=23, seed=0)
    pool, holdout = load_pool(folder), load_holdout(folder, info)
    assert load_info(folder) == info
    assert (info.examples, info.holdout) == (len(pool.ids), len(holdout.ids))
    row = {example: i for i, example in enumerate(raw.ids)}
    mean, sd = np.array(info.scale.mean), np.array(info.scale.sd)
    for part in (pool, holdout):
        rows = [row[example] for example in part.ids]
        np.testing.assert_allclose(part.x * sd + mean, raw.features[rows], rtol=1e-4, atol=1e-4)
        assert part.x.dtype == np.float32
    rows = [row[example] for example in holdout.ids]
    assert [info.classes[c] for c in holdout.labels] == raw.labels[rows].tolist()
    truth = load_truth(folder)
    known = {str(i): y for i, y, held in zip(raw.ids, raw.labels, raw.holdout, strict=True) if y and not held}
    assert truth == known
    assert set(pool.ids) == set(raw.ids[~raw.holdout])


def test_model_space_suits_the_observation_model(make, tmp_path):
    """Binary and counted features are proportions; real ones are standardised; `centre` and `spread` describe both."""
    info = prepare(make(), tmp_path / "prepared", shard_size=1000, seed=0)
    x = load_pool(tmp_path / "prepared").x.astype(np.float64)
    if info.observation.kind == "gaussian":
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(x.std(0), 1, atol=1e-5)
    else:
        assert x.min() >= 0
        assert x.max() <= 1
        assert info.observation.kind == "bernoulli" or np.allclose(x * info.observation.trials % 1, 0)
    assert info.centre == pytest.approx(x.mean(), abs=1e-6)
    assert info.spread == pytest.approx(x.std(), rel=1e-6)


def test_the_default_folder_is_the_one_that_fetch_fills():
    """`al-dgm data fetch` and the data set agree without being told."""
    for name, published_set in PUBLISHED.items():
        assert inspect.signature(DATASETS[name]).parameters["folder"].default == published_set.folder
