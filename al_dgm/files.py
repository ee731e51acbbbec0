"""Files that are whole or absent: nothing here leaves half a file behind, whatever dies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from al_dgm.errors import DataError


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path``, flush it to disk, and rename it into place."""
    _replace(path, lambda temporary: temporary.write_bytes(content))


def write_table(path: Path, table: pa.Table) -> None:
    """Write an Arrow table as Parquet, atomically."""
    _replace(path, lambda temporary: pq.write_table(table, temporary))


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a Parquet file, or a folder of them in the order of their names.

    Raises:
        DataError: the file is missing, is not Parquet, or lacks one of ``columns``.
    """
    if not path.exists():
        raise DataError(f"{path}: file not found")
    try:
        dataset = pq.ParquetDataset(path)
        missing = [name for name in columns or [] if name not in dataset.schema.names]
        if missing:
            raise DataError(f"{path}: expected columns {columns}, got {dataset.schema.names}")
        return dataset.read(columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: expected a Parquet file, got: {str(error).splitlines()[0]}") from None


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
