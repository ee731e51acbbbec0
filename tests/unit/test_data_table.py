import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from al_dgm.data.prepared import load_holdout, load_pool, prepare
from al_dgm.data.table import table
from al_dgm.errors import AlDgmError, ConfigError, DataError, UnknownClassError

N = 12
FRAME = pd.DataFrame(
    {
        "name": [f"{n:03d}" for n in range(N)],
        "height": np.arange(N) * 0.5,
        "width": np.arange(N)[::-1],
        "species": ["10", "9", None] * 4,
    }
)
OPTIONS = {"id": "name", "label": "species"}


def write_csv(frame, folder):
    frame.to_csv(folder / "mine.csv", index=False)
    return folder / "mine.csv"


def write_parquet(frame, folder):
    frame.to_parquet(folder / "mine.parquet")
    return folder / "mine.parquet"


def write_npz(frame, folder):
    frame = frame.astype({"name": str}).assign(species=frame["species"].fillna(""))
    np.savez(folder / "mine.npz", **{str(c): np.array(frame[c].tolist()) for c in frame})
    return folder / "mine.npz"


WRITERS = {"csv": write_csv, "parquet": write_parquet, "npz": write_npz}


def csv(folder, text, name="mine.csv"):
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("kind", WRITERS)
def test_three_formats_are_one(tmp_path, kind):
    """Ids with leading zeros, numbers, missing labels: the same data set from each."""
    raw = table(0, str(WRITERS[kind](FRAME, tmp_path)), **OPTIONS)
    assert raw.name == "mine"
    assert raw.ids.tolist() == FRAME["name"].tolist()
    np.testing.assert_array_equal(raw.features, FRAME[["height", "width"]].to_numpy(np.float32))
    assert raw.labels.tolist() == ["10", "9", None] * 4
    assert raw.classes == ("9", "10")
    assert raw.feature_names == ("height", "width")
    assert (raw.shape, raw.observation.kind, raw.mean, raw.sd) == ((2,), "gaussian", None, None)


def test_prepared_and_back(tmp_path):
    """A user's table through to what the loop trains on."""
    raw = table(0, str(write_csv(FRAME, tmp_path)), **OPTIONS, holdout=0.25)
    info = prepare(raw, tmp_path / "prepared", 5, 0)
    pool, held = load_pool(tmp_path / "prepared"), load_holdout(tmp_path / "prepared", info)
    assert (len(pool.ids), len(held.ids)) == (10, 2)
    x = np.concatenate([pool.x, held.x]) * np.array(info.scale.sd) + np.array(info.scale.mean)
    order = np.argsort(np.concatenate([pool.ids, held.ids]))
    np.testing.assert_allclose(x[order], FRAME[["height", "width"]], atol=1e-5)


def test_the_holdout_is_drawn_from_the_labelled(tmp_path):
    """A quarter of eight, by the seed; whatever the order of the rows."""
    path = str(write_csv(FRAME, tmp_path))
    raw = table(0, path, **OPTIONS, holdout=0.25)
    assert raw.holdout.sum() == 2
    assert all(raw.labels[raw.holdout])
    others = [table(seed, path, **OPTIONS, holdout=0.25) for seed in range(9)]
    assert len({tuple(other.ids[other.holdout]) for other in others}) > 2
    backwards = table(0, str(write_parquet(FRAME[::-1], tmp_path)), **OPTIONS, holdout=0.25)
    assert set(backwards.ids[backwards.holdout]) == set(raw.ids[raw.holdout])


@pytest.mark.parametrize("labelled_pool", [True, False])
def test_the_holdout_may_be_a_second_file(tmp_path, labelled_pool):
    """Then the pool need not have a single label, nor the column for them."""
    pool = csv(tmp_path, "a,label\n1,x\n2,\n" if labelled_pool else "a\n1\n2\n")
    held = csv(tmp_path, "a,label\n3,x\n4,y\n", "held.csv")
    raw = table(0, pool, holdout=held)
    assert raw.ids.tolist() == ["row-000001", "row-000002", "holdout-000001", "holdout-000002"]
    assert raw.holdout.tolist() == [False, False, True, True]
    assert raw.features.ravel().tolist() == [1, 2, 3, 4]
    assert raw.labels.tolist() == ["x" if labelled_pool else None, None, "x", "y"]
    assert raw.classes == ("x", "y")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["1.5", "1.25", "10"], ("1.25", "1.5", "10")),
        (["10", "9", "b"], ("10", "9", "b")),
        (["zebra", "Ape", "cat"], ("Ape", "cat", "zebra")),
        (["1", "01", "2"], ("01", "1", "2")),
        ([" cat", "cat ", "dog"], ("cat", "dog")),
    ],
)
def test_the_order_of_classes(tmp_path, labels, classes):
    """By name, numbers by value."""
    path = csv(tmp_path, "a,label\n" + "".join(f"{i},{y}\n" for i, y in enumerate(labels)))
    assert table(0, path, holdout=0.4).classes == classes


@pytest.mark.parametrize("gap", ["NA", "nan", "null", "None"])
def test_what_programs_write_for_nothing_is_a_class_only_by_name(tmp_path, gap):
    """Nothing that a person may call a class is taken for an empty cell, or the other way round."""
    path = csv(tmp_path, f"a,label\n1,x\n2,y\n3,{gap}\n4,x\n")
    with pytest.raises(DataError, match=rf"column 'label': expected an empty cell .* got '{gap}'; if that is a class"):
        table(0, path, holdout=0.4)
    raw = table(0, path, holdout=0.4, classes=["x", "y", gap])
    assert raw.labels.tolist() == ["x", "y", gap, "x"]


def test_whole_numbers_as_labels(tmp_path):
    """pandas makes 3.0 of 3 where a label is missing: still class 3."""
    pd.DataFrame({"a": [1, 2, 3], "label": [3, None, 7]}).to_parquet(tmp_path / "t.parquet")
    raw = table(0, str(tmp_path / "t.parquet"))
    assert raw.labels.tolist() == ["3", None, "7"]


def test_categories_as_labels(tmp_path):
    """pandas' categories are names."""
    frame = pd.DataFrame({"a": [1, 2, 3], "label": pd.Categorical(["dog", None, "cat"])})
    frame.to_parquet(tmp_path / "t.parquet")
    assert table(0, str(tmp_path / "t.parquet")).labels.tolist() == ["dog", None, "cat"]


@pytest.mark.parametrize("writer", [write_csv, write_parquet])
def test_the_index_of_pandas_is_no_feature(tmp_path, writer):
    """The number of a row says nothing about an example, but would say its class in a sorted file."""
    if writer is write_csv:
        FRAME.to_csv(tmp_path / "t.csv")
        path = tmp_path / "t.csv"
    else:
        FRAME.sort_values("species").to_parquet(path := tmp_path / "t.parquet")
        assert "__index_level_0__" in pq.read_schema(path).names
    assert table(0, str(path), **OPTIONS).feature_names == ("height", "width")


def test_a_column_called_id_is_the_id(tmp_path):
    """Without being told, rather than being a feature; without one, rows are numbered from 1."""
    assert table(0, csv(tmp_path, "id,a,label\n07,1,x\n08,2,y\n")).ids.tolist() == ["07", "08"]
    assert table(0, csv(tmp_path, "a,label\n1,x\n2,y\n")).ids.tolist() == ["row-000001", "row-000002"]


def test_only_ids_of_a_column_are_permanent(tmp_path):
    """The number of a row becomes another example's when a row is inserted."""
    assert table(0, csv(tmp_path, "id,a,label\n07,1,x\n08,2,y\n")).permanent_ids
    assert not table(0, csv(tmp_path, "a,label\n1,x\n2,y\n")).permanent_ids


def test_a_table_with_gaps_and_one_without_name_the_same_classes(tmp_path):
    """pandas writes 0.0 where a label is missing somewhere in the column and 0 where none is."""
    held = csv(tmp_path, "a,label\n3,0\n4,1\n", "held.csv")
    raw = table(0, csv(tmp_path, "a,label\n5,0.0\n7,1.0\n9,\n"), holdout=held)
    assert raw.classes == ("0", "1")
    assert raw.labels.tolist() == ["0", "1", None, "0", "1"]


def test_numbers_that_are_names_are_left_alone(tmp_path):
    """007 keeps its zeros; one fraction in the column makes all of them names."""
    assert table(0, csv(tmp_path, "a,label\n5,007\n7,008\n")).classes == ("007", "008")
    assert table(0, csv(tmp_path, "a,label\n5,1.0\n7,1.5\n")).classes == ("1.0", "1.5")


def test_one_more_label_moves_one_example_at_most(tmp_path):
    """Models of before and after are measured on the same holdout but for one example."""
    rows = [f"r{i},{i % 9},{'ab'[i % 2]}" for i in range(100)]
    splits = []
    for text in ([*rows, "more,3,"], [*rows, "more,3,a"]):
        raw = table(0, csv(tmp_path, "\n".join(["id,x,label", *text])))
        splits.append(set(raw.ids[raw.holdout]))
    assert len(splits[0]) == 20
    assert len(splits[0] ^ splits[1]) <= 2


def test_chosen_features(tmp_path):
    """In the order of the option; a column of words that is not named is left alone."""
    path = csv(tmp_path, "colour,a,b,label\nred,1,2,x\nblue,3,4,y\n")
    raw = table(0, path, features=["b", "a"])
    assert raw.feature_names == ("b", "a")
    assert raw.features.tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize(
    "text", ["a;b;label\n1;2;x\n3;4;y\n", "a\tb\tlabel\n1\t2\tx\n3\t4\ty\n", "\ufeffa,b,label\r\n1,2,x\r\n3,4,y"]
)
def test_what_spreadsheets_write(tmp_path, text):
    """Semicolons, tabs, a byte order mark, carriage returns."""
    raw = table(0, csv(tmp_path, text))
    assert raw.features.tolist() == [[1, 2], [3, 4]]
    assert raw.feature_names == ("a", "b")


def test_compressed_csv(tmp_path):
    """.csv.gz is read as it is."""
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a;label\n1;x\n2;y\n"))
    raw = table(0, str(tmp_path / "t.csv.gz"))
    assert (raw.name, raw.features.tolist()) == ("t", [[1], [2]])


def test_truth_values_are_numbers(tmp_path):
    """true and false are 1 and 0."""
    assert table(0, csv(tmp_path, "a,label\ntrue,x\nfalse,y\n")).features.tolist() == [[1], [0]]


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_images(tmp_path, kind):
    """Bytes out of 255 in an array [N, 4, 3] or in lists, kept as bytes, with their shape."""
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    labels = np.array(["x", "y"] * 3)
    if kind == "npz":
        np.savez(tmp_path / "t.npz", x=images, label=labels)
    else:
        pq.write_table(pa.table({"x": images.reshape(6, 12).tolist(), "label": labels}), tmp_path / "t.parquet")
    raw = table(0, str(tmp_path / f"t.{kind}"), observation="gaussian", shape=[4, 3])
    np.testing.assert_array_equal(raw.features, images.reshape(6, 12))
    assert raw.shape == (4, 3)
    assert raw.feature_names[:2] == ("x[0]", "x[1]")
    bytes_of_colours = table(0, str(tmp_path / f"t.{kind}"), observation="quantised", shape=[2, 2, 3])
    assert (bytes_of_colours.observation.kind, bytes_of_colours.sd) == ("quantised", None)
    if kind == "npz":
        grey = table(0, str(tmp_path / "t.npz"), observation="bernoulli", shape=[4, 3])
        assert (grey.features.dtype, grey.sd) == (np.uint8, 255.0)


def test_counts_and_proportions(tmp_path):
    """`binomial` divides by the trials, `bernoulli` takes what is from 0 to 1 already."""
    path = csv(tmp_path, "a,label\n0,x\n1,y\n1,y\n")
    assert table(0, path, observation="binomial", trials=4).sd == 4
    assert table(0, path, observation="binomial", trials=4).observation.trials == 4
    assert table(0, path, observation="bernoulli").sd == 1
    assert table(0, path, trials=4).observation.trials == 1


def test_a_relative_path_lies_in_the_users_working_copy(tmp_path, monkeypatch):
    """Also for an experiment that runs in a temporary copy."""
    csv(tmp_path, "a,label\n1,x\n2,y\n")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert len(table(0, "mine.csv").ids) == 2


BAD = {
    "no such column": (
        "a,lable\n1,x\n2,y\n",
        {},
        DataError,
        "expected a column 'label' .did you mean 'lable'..*: a, la",
    ),
    "no such id": ("nam,a,label\nu,1,x\nv,2,y\n", {"id": "name"}, DataError, "a column 'name' .did you mean 'nam'"),
    "no such feature": (
        "a,label\n1,x\n2,y\n",
        {"features": ["b"]},
        DataError,
        "a column 'b', got the columns: a, label",
    ),
    "words": (
        "colour,label\n1,x\nred,y\nblue,x\n",
        {},
        DataError,
        "column 'colour': expected numbers, got 'red' in row 2",
    ),
    "decimal comma": ('a;label\n1;x\n"2,5";y\n', {}, DataError, "column 'a': expected numbers, got '2,5' in row 2"),
    "dates": ("a,label\n2020-01-01,x\n2021-01-01,y\n", {}, DataError, "expected numbers, got '2020-01-01' in row 1"),
    "empty cell": (
        "a,b,label\n1,2,x\n3,,y\n",
        {},
        DataError,
        "example 'row-000002': 'b': expected a finite number, got nan",
    ),
    "too large": ("a,label\n1,x\n1e300,y\n", {}, DataError, "'row-000002': 'a': expected a finite number, got inf"),
    "same id": ("id,a,label\nu,1,x\nu,2,y\n", {}, DataError, "expected unique ids, got 'u' twice"),
    "no id": ("id,a,label\nu,1,x\n,2,y\n", {}, DataError, "column 'id': expected an id in row 2, got none"),
    "no labels": (
        "a,label\n1,\n2, \n",
        {},
        DataError,
        "expected labels in column 'label' to draw the holdout from, got",
    ),
    "one class": ("a,label\n1,x\n2,\n3,x\n", {}, DataError, r"at least 2 classes in column 'label', got \['x'\]"),
    "no features": ("id,label\nu,x\nv,y\n", {}, DataError, "expected columns of numbers beside id and label, got none"),
    "leak": (
        "a,label\n1,0\n2,1\n",
        {"features": ["a", "label"]},
        ConfigError,
        "beside id and label, each once, got 'lab",
    ),
    "twice": ("a,label\n1,0\n2,1\n", {"features": ["a", "a"]}, ConfigError, "features: .* each once, got 'a'"),
    "same column": ("a,a,label\n1,2,x\n3,4,y\n", {}, DataError, "expected each column once, got 'a' 2 times"),
    "fraction": ("a,label\n1,x\n2,y\n", {"holdout": 1.0}, ConfigError, "holdout: expected a fraction .* got 1$"),
    "shape": ("a,b,label\n1,2,x\n3,4,y\n", {"shape": [2, 2]}, ConfigError, r"a shape of 2 features, got \[2, 2\]"),
    "counts": ("a,label\n1,x\n5,y\n", {"observation": "binomial", "trials": 4}, DataError, "from 0 to 4, got 5"),
    "proportions": ("a,label\n1,x\n5,y\n", {"observation": "bernoulli"}, DataError, "a number from 0 to 1, got 5"),
    "no rows": ("a,label\n", {}, DataError, "mine.csv: expected rows, got none"),
    "empty": ("", {}, DataError, "mine.csv: expected comma-separated values with a header, got: Empty CSV file"),
    "ragged": (
        "a,label\n1,x\n2\n",
        {},
        DataError,
        "mine.csv: expected comma-separated values .* Expected 2 columns, got 1",
    ),
    "all in the holdout": (
        "a,label\n1,x\n2,y\n",
        {"holdout": 0.9},
        DataError,
        "expected examples in the pool, got none",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_tables(tmp_path, what):
    """Each says what was expected and what came, and nothing but al-dgm's own errors comes out."""
    text, options, error, message = BAD[what]
    with pytest.raises(error, match=message) as caught:
        table(0, csv(tmp_path, text), **options)
    assert "\n" not in str(caught.value)


def test_the_columns_of_the_second_file_go_by_name(tmp_path):
    """In whatever order they stand there."""
    held = csv(tmp_path, "label,b,a\nx,1,2\ny,3,4\n", "held.csv")
    raw = table(0, csv(tmp_path, "a,b,label\n5,6,x\n7,8,y\n"), holdout=held)
    assert raw.feature_names == ("a", "b")
    assert raw.features.tolist() == [[5, 6], [7, 8], [2, 1], [4, 3]]


@pytest.mark.parametrize("kind", [pa.binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])])
def test_encoded_images_are_no_numbers(tmp_path, kind):
    """As Parquet files of images often have them."""
    cells = [b"\x89PNG"] * 4 if pa.types.is_binary(kind) else [{"bytes": b"\x89PNG", "path": "a.png"}] * 4
    path = tmp_path / "images.parquet"
    pq.write_table(pa.table({"image": pa.array(cells, kind), "label": ["x", "y"] * 2}), path)
    with pytest.raises(
        DataError, match=r"column 'image': expected numbers, got .*; of an encoded image give the pixel"
    ):
        table(0, str(path))


HELD = {
    "unlabelled row": ("a,label\n3,x\n4,\n", "expected labels in the holdout, got none of 'holdout-000002'"),
    "no label column": ("a,lab\n3,x\n4,y\n", "held.csv: expected a column 'label'"),
    "feature missing": ("b,label\n3,x\n4,y\n", "'a' in the first only"),
    "feature too many": ("a,b,label\n3,1,x\n4,1,y\n", "'b' in the second only"),
    "other classes": ("a,label\n3,up\n4,down\n", "such as 'x', got only others, such as 'down'"),
    "same id": ("id,a,label\nrow-000001,3,x\nv,4,y\n", "expected unique ids, got 'row-000001' twice"),
}


@pytest.mark.parametrize("what", HELD)
def test_bad_holdout_files(tmp_path, what):
    """The second file has to be of the same form, and labelled in full."""
    text, message = HELD[what]
    with pytest.raises(DataError, match=message):
        table(0, csv(tmp_path, "a,label\n1,x\n2,y\n"), holdout=csv(tmp_path, text, "held.csv"))


FILES = {
    "none.csv": (None, "none.csv: file not found; data.table in params.yaml names it"),
    "t.xlsx": (b"PK", "expected a file .parquet, .pq, .csv, .tsv or .npz, got '.xlsx'"),
    "t.parquet": (b"a,label\n1,x\n", "t.parquet: expected a Parquet file, got"),
    "t.npz": (b"a,label\n1,x\n", "t.npz: expected named arrays of numbers or texts in .npz, got"),
    "t.csv": (b"a,label\n1,\xff\n", "t.csv: expected comma-separated values with a header, got"),
    "t.csv.gz": (b"\x1f\x8b\x08broken", "t.csv.gz: expected comma-separated values with a header, got"),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files(tmp_path, name):
    """Missing, of another format than the name says, or of an unknown one."""
    content, message = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(AlDgmError, match=message) as caught:
        table(0, str(tmp_path / name))
    assert isinstance(caught.value, DataError)


ARRAYS = {
    "rows": (
        {"x": np.zeros((3, 2)), "label": np.array(["a", "b"])},
        r"one row for each example, got 'x' \(3, 2\), 'label'",
    ),
    "number": ({"x": np.zeros(()), "label": np.zeros(())}, r"one row for each example, got 'x' \(\)"),
    "objects": ({"x": np.zeros(2), "label": np.array(["a", None], object)}, "expected named arrays .* allow_pickle"),
    "fractions": (
        {"x": np.zeros(2), "label": np.array([0.5, 1])},
        "column 'label': expected names or whole .* got 0.5",
    ),
    "infinite": (
        {"x": np.zeros(2), "label": np.array([np.inf, 1])},
        "column 'label': expected names or whole .* got inf",
    ),
    "lists": (
        {"x": np.zeros(2), "label": np.zeros((2, 2))},
        "column 'label': expected one name in a row, got fixed_size",
    ),
    "complex": (
        {"x": np.zeros(2, complex), "label": np.array(["a", "b"])},
        "array 'x': expected numbers or texts in each row, got complex128",
    ),
    "width": (
        {"x": np.zeros((2, 0)), "label": np.array(["a", "b"])},
        r"array 'x': expected numbers or texts in each row, got float64 .2, 0.",
    ),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_bad_arrays(tmp_path, what):
    """NPZ files whose arrays are no columns."""
    arrays, message = ARRAYS[what]
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=message):
        table(0, str(tmp_path / "t.npz"))


LISTS = {
    "ragged": ([[1, 2], [3]], "column 'x': expected lists of one length in every row, got lengths 1, 2"),
    "missing": ([[1, 2], None], "column 'x': expected lists of one length in every row, got lengths none, 2"),
    "words": ([["u", "1"], ["2", "3"]], "column 'x': expected numbers, got 'u'"),
}


@pytest.mark.parametrize("what", LISTS)
def test_bad_lists(tmp_path, what):
    """Parquet lists that make no matrix."""
    values, message = LISTS[what]
    pq.write_table(pa.table({"x": values, "label": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=message):
        table(0, str(tmp_path / "t.parquet"))


def test_a_gap_in_a_list(tmp_path):
    """An empty place inside a list is an empty cell."""
    pq.write_table(pa.table({"x": [[1.0, None], [3.0, 4.0]], "label": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"example 'row-000001': 'x\[1\]': expected a finite number, got nan"):
        table(0, str(tmp_path / "t.parquet"))


def test_a_gap_in_truth_values(tmp_path):
    """So it is among true and false."""
    with pytest.raises(DataError, match=r"example 'row-000002': 'a': expected a finite number, got nan"):
        table(0, csv(tmp_path, "a,b,label\ntrue,1,x\n,2,y\n"))


def test_numbers_written_as_texts(tmp_path):
    """A Parquet column of the wrong type is told with its type."""
    pq.write_table(pa.table({"a": ["1", "2"], "label": ["x", "y"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"column 'a': expected numbers, got '1' in row 1 \(string\)"):
        table(0, str(tmp_path / "t.parquet"))


def test_big_endian_arrays(tmp_path):
    """NPZ files from other machines."""
    np.savez(tmp_path / "t.npz", x=np.array([[1.5, 2], [3, 4]], ">f8"), label=np.array(["a", "b"]))
    assert table(0, str(tmp_path / "t.npz")).features.tolist() == [[1.5, 2], [3, 4]]


def test_classes_that_nobody_has_labelled_yet(tmp_path):
    """Named in the options, they are classes, in that order."""
    path = csv(tmp_path, "a,label\n1,x\n2,y\n3,\n")
    assert table(0, path, classes=["z", "y", "x"]).classes == ("z", "y", "x")
    with pytest.raises(
        UnknownClassError, match=r"example 'row-000002': label 'y' is not a class; expected one of: x, z"
    ):
        table(0, path, classes=["x", "z"])


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_numbers_that_float32_makes_equal(tmp_path, kind):
    """Seconds since 1970 that differ by a minute would be constant; counted from the first, they are not."""
    seconds = (1_700_000_000 + 60 * np.arange(12)).astype(kind)
    frame = FRAME.assign(height=seconds)
    with pytest.raises(
        DataError, match="'height': expected numbers that float32 tells apart, got 1700000000 to 17000006"
    ):
        table(0, str(write_parquet(frame, tmp_path)), **OPTIONS)
    raw = table(0, str(write_parquet(frame.assign(height=seconds - seconds[0]), tmp_path)), **OPTIONS)
    np.testing.assert_array_equal(raw.features[:, 0], 60 * np.arange(12))


@pytest.mark.parametrize("column", [[1e300] * 12, [1e9] * 12, [-1e9, 1e9] * 6])
def test_large_numbers_as_such_are_no_matter(tmp_path, column):
    """Nor a constant: it is the differences that count; what float32 cannot hold is another error."""
    path = str(write_parquet(FRAME.assign(height=column), tmp_path))
    if column[0] == 1e300:
        with pytest.raises(DataError, match="'height': expected a finite number, got inf"):
            table(0, path, **OPTIONS)
    else:
        assert table(0, path, **OPTIONS).features[0, 0] == column[0]
