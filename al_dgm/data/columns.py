"""Users' files as Arrow tables with named columns, and columns as ids, class names and features.

==========================  ===========================================================================================
.parquet, .pq, or a folder  columns of numbers, or of lists of numbers of one length
.csv, .tsv                  a header line; commas, semicolons or tabs; UTF-8; may be compressed (.csv.gz)
.npz                        one array [N] for each column, or arrays [N, …], which count as lists; no pickled objects
==========================  ===========================================================================================
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from al_dgm.errors import DataError
from al_dgm.files import read_table
from al_dgm.registry import nearest

INDEX_COLUMNS = {"", "Unnamed: 0", "__index_level_0__"}  # how pandas writes the rows' numbers
WHOLE_NUMBER = r"^[+-]?\d+(\.0+)?$"
SHOWN = 20  # column names in a message


def read_columns(path: Path, texts: Sequence[str]) -> pa.Table:
    """The columns of a file; the index that pandas writes is left out.

    Args:
        path: of the file.
        texts: names of the columns that are texts even where they look like numbers ("007").

    Raises:
        DataError: the file is missing, of another format, damaged, empty, or has a column twice.
    """
    if not path.exists():
        raise DataError(f"{path}: file not found; data.table in params.yaml names it")
    suffix = path.with_suffix("").suffix if path.suffix in {".gz", ".zst", ".bz2"} else path.suffix
    if path.is_dir() or suffix in {".parquet", ".pq"}:
        table = read_table(path)
    elif suffix in {".csv", ".tsv"}:
        table = _read_csv(path, texts)
    elif suffix == ".npz":
        table = _read_npz(path)
    else:
        raise DataError(f"{path}: expected a file .parquet, .pq, .csv, .tsv or .npz, got '{path.suffix}'")
    table = table.drop_columns([name for name in set(table.column_names) if name in INDEX_COLUMNS])
    twice = [name for name in table.column_names if table.column_names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: expected each column once, got '{twice[0]}' {twice.count(twice[0])} times")
    if not table.num_rows:
        raise DataError(f"{path}: expected rows, got none")
    return table


def column(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    """One column.

    Raises:
        DataError: there is no such column; the message names the nearest one.
    """
    if name in table.column_names:
        return table[name]
    names = table.column_names
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise DataError(
        f"{path}: expected a column '{name}'{nearest(name, names)}, got the columns: {', '.join(names[:SHOWN])}{more}"
    )


def as_names(table: pa.Table, name: str, path: Path) -> np.ndarray:
    """A column as names [N], stripped; whole numbers without a fraction ("3", not "3.0"); None where empty.

    So also in a column of texts if all of them are whole numbers: a table with gaps says 3.0 where one without says 3.

    Raises:
        DataError: there is no such column, or it holds fractions or lists.
    """
    values = column(table, name, path)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):
        # pandas turns whole numbers into these where one is missing.
        values = values.cast(pa.float64())
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
        fractions = pc.filter(values, pc.or_(pc.not_equal(pc.floor(values), values), pc.is_inf(values)))
        if len(fractions):
            raise DataError(f"{path}: column '{name}': expected names or whole numbers, got {fractions[0]}")
        values = values.cast(pa.int64())
    if pa.types.is_nested(values.type):
        raise DataError(f"{path}: column '{name}': expected one name in a row, got {values.type}")
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if pc.all(pc.match_substring_regex(texts, WHOLE_NUMBER)).as_py():
        texts = pc.replace_substring_regex(texts, r"\.0+$", "")
    return np.array(texts.to_pylist(), dtype=object)


def as_features(table: pa.Table, names: Sequence[str], path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """The columns ``names`` side by side, [N, D], and the D names; a list in column ``x`` gives x[0], x[1], ….

    uint8 where all of them are stored as such, else float32, NaN where a cell is empty.

    Raises:
        DataError: there is no such column, it is not of numbers (with the first value that is none), or its numbers
            are too close together for float32.
    """
    blocks = [(name, _numbers(column(table, name, path), name, path)) for name in names]
    labels: list[str] = []
    for name, block in blocks:
        labels += [name] if block.ndim == 1 else [f"{name}[{i}]" for i in range(block.shape[1])]
    kind = np.uint8 if all(block.dtype == np.uint8 for _, block in blocks) else np.float32
    features = np.empty((table.num_rows, len(labels)), kind)
    start = 0
    for name, block in blocks:
        width = 1 if block.ndim == 1 else block.shape[1]
        _check_resolution(block, name, path)
        # Out of float32's range becomes infinite, which the data set's check refuses by its example.
        with np.errstate(over="ignore"):
            features[:, start : start + width] = block.reshape(-1, width)
        start += width
    return features, tuple(labels)


def _check_resolution(block: np.ndarray, name: str, path: Path) -> None:
    """Refuse large numbers that differ by little, such as times in seconds since 1970: float32 would make them equal.

    float32 rounds x by up to 2^-24 |x|; that has to be below a thousandth of the column's range.
    """
    if block.dtype.itemsize < 4 or block.dtype == np.float32:
        return
    low, high = np.fmin.reduce(block).astype(np.float64), np.fmax.reduce(block).astype(np.float64)
    fine = (low == high) | ~(np.maximum(abs(low), abs(high)) * 2.0**-24 > (high - low) / 1000)
    if not np.all(fine):
        at = int(np.argmin(np.atleast_1d(fine)))
        low, high = np.atleast_1d(low)[at], np.atleast_1d(high)[at]
        raise DataError(
            f"{path}: column '{name}': expected numbers that float32 tells apart, got {low:.12g} to {high:.12g}; "
            "subtract a constant from them"
        )


def _numbers(values: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    """A column as numbers, [N] or [N, width]."""
    kind = values.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _lists(values, name, path)
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        values = values.cast(pa.float64())
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_struct(kind):
        raise DataError(f"{path}: column '{name}': expected numbers, got {kind}; of an encoded image give the pixels")
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        row, value = _first_text(values)
        raise DataError(
            f"{path}: column '{name}': expected numbers, got '{value}' in row {row} ({kind}); "
            "name the columns of numbers in the option 'features'"
        )
    # A boolean column becomes numbers too: Arrow hands one with gaps over as objects.
    numbers = values.cast(pa.uint8()) if pa.types.is_boolean(kind) else values
    return np.asarray(numbers.to_numpy())


def _lists(values: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    widths = pc.unique(pc.fill_null(pc.list_value_length(values), -1)).to_pylist()
    if len(widths) != 1 or widths[0] < 1:
        shown = ", ".join("none" if width < 0 else str(width) for width in sorted(widths))
        raise DataError(f"{path}: column '{name}': expected lists of one length in every row, got lengths {shown}")
    inner = _numbers(pa.chunked_array([pc.list_flatten(values.combine_chunks())]), name, path)
    return inner.reshape(len(values), widths[0] * (1 if inner.ndim == 1 else inner.shape[1]))


def _first_text(values: pa.ChunkedArray) -> tuple[int, str]:
    """Row, from 1, and text of the first value that is no number; the first one where all could be read as numbers."""
    texts = values.cast(pa.string()).to_pylist()
    for row, text in enumerate(texts, start=1):
        try:
            float(text or "nan")
        except ValueError:
            return row, text
    return 1, texts[0]


def _read_csv(path: Path, texts: Sequence[str]) -> pa.Table:
    convert = pa_csv.ConvertOptions(column_types={name: pa.string() for name in texts})
    try:
        with pa.input_stream(path, compression="detect") as stream:
            header = stream.read(1 << 16).partition(b"\n")[0]
        delimiter = next((mark for mark in ",;\t" if mark.encode() in header), ",")
        return pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(delimiter=delimiter), convert_options=convert)
    except (pa.ArrowInvalid, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: expected comma-separated values with a header, got: {_line(error)}") from None


def _read_npz(path: Path) -> pa.Table:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected named arrays of numbers or texts in .npz, got: {_line(error)}") from None
    rows = {name: array.shape[0] if array.ndim else None for name, array in arrays.items()}
    if len(set(rows.values())) > 1 or None in rows.values():
        sizes = ", ".join(f"'{name}' {array.shape}" for name, array in arrays.items())
        raise DataError(f"{path}: expected arrays with one row for each example, got {sizes}")
    return pa.table({name: _arrow(array, name, path) for name, array in arrays.items()})


def _arrow(array: np.ndarray, name: str, path: Path) -> pa.Array:
    native = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    try:
        flat = pa.array(native.reshape(-1))
        return flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        got = f"{array.dtype} {array.shape}"
        raise DataError(f"{path}: array '{name}': expected numbers or texts in each row, got {got}") from None


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
