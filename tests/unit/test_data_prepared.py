import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from al_dgm.data import prepared
from al_dgm.data.prepared import iter_pool, load_holdout, load_ids, load_info, load_pool, load_truth, prepare
from al_dgm.data.raw import Observation, RawData
from al_dgm.errors import ConfigError, DataError

N, HELD = 50, 8


@pytest.fixture
def raw():
    """Counts in bytes; sorted by class; a third of the pool unlabelled; the holdout first."""
    draw = np.random.default_rng(0)
    labels = np.array(["cat"] * 25 + ["dog"] * 25, dtype=object)
    held = np.arange(N) % 6 == 0
    held[np.flatnonzero(held)[HELD:]] = False
    labels[(np.arange(N) % 3 == 1) & ~held] = None
    return RawData(
        name="tiny",
        ids=np.array([f"x{i}" for i in range(N)]),
        features=draw.integers(0, 17, (N, 6), np.uint8),
        labels=labels,
        holdout=held,
        shape=(2, 3),
        classes=("dog", "cat"),
        observation=Observation(kind="binomial", trials=16),
        sd=16.0,
    )


@pytest.fixture
def real(raw):
    """Real numbers far from zero, one column constant."""
    x = (1e4 + np.random.default_rng(1).normal(size=(N, 6)) * [1, 2, 3, 4, 5, 0]).astype(np.float32)
    return replace(raw, features=x, observation=Observation(kind="gaussian"), mean=None, sd=None)


def test_sizes_and_shards(raw, tmp_path):
    """42 examples in shards of 10 are five files, the last of two; all in order of their names."""
    info = prepare(raw, tmp_path, shard_size=10, seed=0)
    assert [p.name for p in sorted((tmp_path / "pool").iterdir())] == [f"{i:05d}.parquet" for i in range(5)]
    assert [len(shard.ids) for shard in iter_pool(tmp_path)] == [10, 10, 10, 10, 2]
    assert (info.examples, info.holdout, info.shape, info.classes) == (42, 8, (2, 3), ("dog", "cat"))
    np.testing.assert_array_equal(load_ids(tmp_path), load_pool(tmp_path).ids)


@pytest.mark.parametrize("shard_size", [1, 41, 42, 43, 10**9])
def test_the_shards_do_not_matter(raw, tmp_path, shard_size):
    """However many rows a file holds, the pool is the same."""
    prepare(raw, tmp_path / "a", shard_size=10, seed=0)
    prepare(raw, tmp_path / "b", shard_size, seed=0)
    first, second = load_pool(tmp_path / "a"), load_pool(tmp_path / "b")
    np.testing.assert_array_equal(first.ids, second.ids)
    np.testing.assert_array_equal(first.x, second.x)


def test_the_order_is_the_seeds(raw, tmp_path):
    """Shuffled; equal for equal seeds, different for others; and every id keeps its values."""
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(raw, tmp_path / folder, 10, seed)
    a, b, c = (load_pool(tmp_path / folder) for folder in "abc")
    original = raw.ids[~raw.holdout]
    assert a.ids.tolist() == b.ids.tolist()
    assert len({tuple(ids) for ids in (a.ids, c.ids, original)}) == 3
    assert set(a.ids) == set(c.ids) == set(original)
    assert (a.x[np.argsort(a.ids)] == c.x[np.argsort(c.ids)]).all()
    first_half = sum(raw.labels[int(i[1:])] == "cat" for i in a.ids[:21])
    assert 0 < first_half < sum(raw.labels[~raw.holdout] == "cat")


def test_equal_runs_write_equal_files(raw, tmp_path):
    """So that DVC sees that nothing changed."""
    for folder in ("a", "b"):
        prepare(raw, tmp_path / folder, 10, seed=0)
    names = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 8
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_truth_is_hidden(raw, tmp_path):
    """No file of the pool has labels; truth.parquet has those that are known, and no other file does."""
    prepare(raw, tmp_path, 10, seed=0)
    for path in (tmp_path / "pool").iterdir():
        assert pq.read_schema(path).names == ["id", "x"]
    known = {i: y for i, y, held in zip(raw.ids, raw.labels, raw.holdout, strict=True) if y and not held}
    assert load_truth(tmp_path) == known
    assert pq.read_schema(tmp_path / "truth.parquet").names == ["id", "label"]


def test_stored_as_it_was(raw, tmp_path):
    """Bytes stay bytes on disk; model space is made on reading."""
    prepare(raw, tmp_path, 10, seed=0)
    assert pq.read_schema(tmp_path / "pool" / "00000.parquet").field("x").type == pa.list_(pa.uint8(), 6)
    holdout = load_holdout(tmp_path, load_info(tmp_path))
    np.testing.assert_array_equal(holdout.x, raw.features[raw.holdout] / np.float32(16))
    assert holdout.labels.tolist() == [("dog", "cat").index(y) for y in raw.labels[raw.holdout]]


def test_standardised_by_the_pool_alone(real, tmp_path):
    """Mean 0 and standard deviation 1 over the pool; the holdout is on the pool's scale; a constant column is 0."""
    info = prepare(real, tmp_path, 10, seed=0)
    pool = real.features[~real.holdout].astype(np.float64)
    np.testing.assert_allclose(info.scale.mean, pool.mean(0), rtol=1e-12)
    np.testing.assert_allclose(info.scale.sd[:5], pool.std(0)[:5], rtol=1e-9)
    assert info.scale.sd[5] == 1
    assert (load_pool(tmp_path).x[:, 5] == 0).all()
    held = load_holdout(tmp_path, info)
    wanted = (real.features[real.holdout].astype(np.float64) - pool.mean(0)) / np.array(info.scale.sd)
    np.testing.assert_allclose(held.x, wanted, atol=2e-3)  # float32 at 10000 has steps of 0.001


@pytest.mark.parametrize("shape", [(2, 2, 3), (3, 2, 2), (4, 3)])
def test_quantised_images_are_scaled_by_their_channels(raw, tmp_path, shape):
    """Mean 0 in each channel, one standard deviation for all; a pixel that hardly varies stays as small as it is."""
    images = np.random.default_rng(1).integers(0, 200, (N, *shape)).astype(np.uint8)
    channels = np.moveaxis(images, 1 if shape == (3, 2, 2) else -1, -1) if len(shape) == 3 else images[..., None]
    channels += np.arange(channels.shape[-1], dtype=np.uint8) * 20  # a view: into images
    images.reshape(N, 12)[:, 5], images[0].reshape(12)[5] = 7, 8
    quantised = Observation(kind="quantised")
    own = replace(raw, features=images.reshape(N, 12), shape=shape, observation=quantised, mean=None, sd=None)
    info = prepare(own, tmp_path, 10, seed=0)
    pool = channels[~raw.holdout].astype(np.float64)
    centred = pool - pool.mean((0, 1, 2))
    np.testing.assert_allclose(info.scale.sd, [centred.std()], rtol=1e-9)
    found = load_pool(tmp_path).x[np.argsort(load_ids(tmp_path))].reshape(-1, *shape)
    found = np.moveaxis(found, 1, -1) if shape == (3, 2, 2) else found.reshape(pool.shape)
    np.testing.assert_allclose(found, (centred / centred.std())[np.argsort(raw.ids[~raw.holdout])], atol=1e-5)
    assert (info.centre, info.spread) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_a_constant_is_constant_whatever_its_value(real, tmp_path):
    """0.1 in float32 times any number of rows: rounding must not pass for variation, and then be blown up."""
    real.features[:, 5] = 0.1
    assert prepare(real, tmp_path, 10, seed=0).scale.sd[5] == 1


def test_chunks_do_not_matter(real, tmp_path, monkeypatch):
    """The statistics are those of the whole, however few rows are in float64 at a time."""
    whole = prepare(real, tmp_path / "a", 10, seed=0)
    monkeypatch.setattr(prepared, "CHUNK", 5)
    parts = prepare(real, tmp_path / "b", 10, seed=0)
    np.testing.assert_allclose(parts.scale.mean, whole.scale.mean, rtol=1e-14)
    np.testing.assert_allclose(parts.scale.sd, whole.scale.sd, rtol=1e-12)


@pytest.mark.parametrize("data", ["raw", "real"])
def test_centre_and_spread(data, request, tmp_path):
    """Of all features of the pool together, in model space."""
    info = prepare(request.getfixturevalue(data), tmp_path, 10, seed=0)
    x = load_pool(tmp_path).x.astype(np.float64)
    assert info.centre == pytest.approx(x.mean(), abs=1e-3)
    assert info.spread == pytest.approx(x.std(), abs=1e-3)


def test_preparing_anew_leaves_nothing_old(raw, tmp_path):
    """Fewer shards than before are not mixed with the old ones."""
    prepare(raw, tmp_path, 5, seed=0)
    prepare(raw, tmp_path, 30, seed=0)
    assert len(load_pool(tmp_path).ids) == 42
    assert len(list((tmp_path / "pool").iterdir())) == 2


@pytest.mark.parametrize(("shards", "message"), [([4], "expected 42 examples, got 40"), ([0, 1, 2, 3, 4], "got 0")])
def test_missing_shards(raw, tmp_path, shards, message):
    """A pool with a hole is told, not trained on."""
    prepare(raw, tmp_path, 10, seed=0)
    for number in shards:
        (tmp_path / "pool" / f"{number:05d}.parquet").unlink()
    with pytest.raises(DataError, match=message):
        load_pool(tmp_path)


def test_a_shard_too_many(raw, tmp_path):
    """Rows beyond those that dataset.json counts are told as well."""
    prepare(raw, tmp_path, 10, seed=0)
    for number in ("00005", "00006"):
        (tmp_path / "pool" / f"{number}.parquet").write_bytes((tmp_path / "pool" / "00000.parquet").read_bytes())
    with pytest.raises(DataError, match="expected 42 examples, got 62"):
        load_pool(tmp_path)


def test_nothing_prepared(tmp_path):
    """The error says what prepares."""
    with pytest.raises(DataError, match=r"no prepared data here; `dvc repro prepare` makes them"):
        load_info(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ('{"name": 1}', "dataset.json: name: input should be a valid str")],
)
def test_a_damaged_description(tmp_path, content, message):
    """One line with the file's name."""
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load_info(tmp_path)


def test_a_holdout_with_a_foreign_class(raw, tmp_path):
    """dataset.json and the holdout have to be of one preparation."""
    prepare(raw, tmp_path, 10, seed=0)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"classes": ["dog", "cow"]}))
    with pytest.raises(DataError, match=r"holdout.parquet: expected labels among \['dog', 'cow'\], got 'cat'"):
        load_holdout(tmp_path, load_info(tmp_path))


@pytest.mark.parametrize(
    "read",
    [load_ids, load_truth, lambda folder: load_holdout(folder, load_info(folder))],
    ids=["ids", "truth", "holdout"],
)
def test_a_part_that_is_gone(raw, tmp_path, read):
    """The error names the file and what makes it."""
    prepare(raw, tmp_path, 10, seed=0)
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    (tmp_path / "pool").rmdir()
    with pytest.raises(DataError, match=r"(pool|truth.parquet|holdout.parquet): file not found; `dvc repro prepare`"):
        read(tmp_path)


def test_only_the_prepared_form_is_replaced(raw, tmp_path):
    """A folder named by mistake keeps what is in it."""
    (tmp_path / "thesis.tex").write_text("years of work")
    prepare(raw, tmp_path, 10, seed=0)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_no_rows_in_a_shard(raw, tmp_path):
    """Refused before anything is removed."""
    prepare(raw, tmp_path, 10, seed=0)
    with pytest.raises(ConfigError, match=r"data\.shard_size: expected at least 1, got 0"):
        prepare(raw, tmp_path, 0, seed=0)
    assert len(load_pool(tmp_path).ids) == 42
