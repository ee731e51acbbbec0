import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pytest

from al_dgm.data import DATASETS
from al_dgm.data.published import PUBLISHED
from al_dgm.errors import ChecksumError, DataError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(values):
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def files(n_train=12, n_test=11):
    draw = np.random.default_rng(0)
    parts = []
    for n in (n_train, n_test):
        parts += [draw.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10]
    return dict(zip(NAMES, parts, strict=True))


def put(folder, arrays, monkeypatch, name="mnist"):
    """Write the arrays and declare them to be the published ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, values in arrays.items():
        (folder / file).write_bytes(idx(values))
    sha256 = {file: hashlib.sha256(idx(values)).hexdigest() for file, values in arrays.items()}
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], sha256=sha256))


@pytest.mark.parametrize(("name", "stem"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist")])
def test_train_is_the_pool_and_test_the_holdout(tmp_path, monkeypatch, name, stem):
    """In the publisher's order, with ids that say which file and which image."""
    arrays = files()
    put(tmp_path, arrays, monkeypatch, name)
    raw = DATASETS[name](seed=0, folder=str(tmp_path))
    assert raw.ids.tolist()[:2] == [f"{stem}-train-00000", f"{stem}-train-00001"]
    assert raw.ids.tolist()[-1] == f"{stem}-test-00010"
    np.testing.assert_array_equal(raw.features[~raw.holdout], arrays[NAMES[0]].reshape(12, 784))
    np.testing.assert_array_equal(raw.features[raw.holdout], arrays[NAMES[2]].reshape(11, 784))
    assert raw.labels.tolist() == [raw.classes[i % 10] for i in [*range(12), *range(11)]]
    assert (raw.shape, raw.sd, raw.observation.kind) == ((28, 28), 255.0, "bernoulli")


def test_classes():
    """MNIST's label bytes are the digits; Fashion-MNIST's stand for the publisher's names, in that order."""
    assert PUBLISHED["mnist"].classes == tuple("0123456789")
    assert PUBLISHED["fashion_mnist"].classes[0] == "T-shirt/top"
    assert PUBLISHED["fashion_mnist"].classes[9] == "Ankle boot"
    assert len(set(PUBLISHED["fashion_mnist"].classes)) == 10


def test_gz_will_do(tmp_path, monkeypatch):
    """The files as they are downloaded, plain and packed mixed."""
    put(tmp_path, files(), monkeypatch)
    plain = DATASETS["mnist"](seed=0, folder=str(tmp_path))
    for name in NAMES[:3]:
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
        (tmp_path / name).unlink()
    packed = DATASETS["mnist"](seed=0, folder=str(tmp_path))
    np.testing.assert_array_equal(packed.features, plain.features)


def test_experiments_find_the_users_files(tmp_path, monkeypatch):
    """A relative folder lies in the working copy that DVC_ROOT names, else in the current folder."""
    put(tmp_path / "home" / "data" / "raw" / "mnist", files(), monkeypatch)
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "home"))
    assert DATASETS["mnist"](seed=0).name == "mnist"
    monkeypatch.delenv("DVC_ROOT")
    with pytest.raises(DataError, match=r"copy/data/raw/mnist: expected the file train-images"):
        DATASETS["mnist"](seed=0)
    monkeypatch.chdir(tmp_path / "home")
    assert DATASETS["mnist"](seed=0).name == "mnist"


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_missing_file_says_what_fetches_it(tmp_path, name):
    """Nobody has to look up where the files come from."""
    with pytest.raises(DataError, match=rf"got none; `al-dgm data fetch {name}` fetches it"):
        DATASETS[name](seed=0, folder=str(tmp_path / "none"))


def test_another_file_than_the_published_one(tmp_path, monkeypatch):
    """One wrong pixel in a file that is well-formed otherwise."""
    arrays = files()
    put(tmp_path, arrays, monkeypatch)
    arrays[NAMES[2]][3, 4, 5] ^= 1
    (tmp_path / NAMES[2]).write_bytes(idx(arrays[NAMES[2]]))
    with pytest.raises(ChecksumError, match=r"t10k-images-idx3-ubyte: expected the published file with SHA-256 "):
        DATASETS["mnist"](seed=0, folder=str(tmp_path))


def test_a_truncated_file_is_called_so(tmp_path, monkeypatch):
    """Rather than a file with a wrong checksum."""
    put(tmp_path, files(), monkeypatch)
    (tmp_path / NAMES[0]).write_bytes((tmp_path / NAMES[0]).read_bytes()[:1000])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: truncated: expected 9408 values \(12 x 28 x 28\)"):
        DATASETS["mnist"](seed=0, folder=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({NAMES[1]: np.zeros(9, np.uint8)}, "train: expected 12 labels, one for each image, got 9"),
        ({NAMES[3]: np.full(11, 10, np.uint8)}, "t10k: expected labels 0 to 9, got 10"),
    ],
)
def test_files_that_disagree(tmp_path, monkeypatch, change, message):
    """Counts and classes are compared over the files."""
    put(tmp_path, files() | change, monkeypatch)
    with pytest.raises(DataError, match=message):
        DATASETS["mnist"](seed=0, folder=str(tmp_path))
