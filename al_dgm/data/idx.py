"""The IDX format of MNIST and its descendants: a big-endian header, then unsigned bytes.

    0, 0, type (8: unsigned byte), n dimensions, n sizes of 32 bits, the values in row-major order

Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, "File formats".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from al_dgm.errors import DataError

UNSIGNED_BYTE = 8
GZIP_MAGIC = b"\x1f\x8b"


def read_content(path: Path) -> bytes:
    """A file's bytes, uncompressed where it is gzip, whatever its name says.

    Raises:
        DataError: the file cannot be read, or the gzip stream is cut off or damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content
    except EOFError:
        raise DataError(f"{path}: expected a whole gzip file, got one that is cut off") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: expected a gzip file, got a damaged one: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def parse_idx(content: bytes, dimensions: int, source: Path) -> np.ndarray:
    """The array in ``content``, uint8 with that many dimensions, read-only.

    Raises:
        DataError: not IDX, not unsigned bytes, other dimensions, or not as many values as the header says.
    """
    expected = bytes([0, 0, UNSIGNED_BYTE, dimensions])
    if content[:4] != expected:
        raise DataError(f"{source}: expected IDX magic 0x{expected.hex()}, got 0x{content[:4].hex() or '(nothing)'}")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise DataError(f"{source}: truncated: expected a header of {start} bytes, got {len(content)}")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    values = math.prod(shape)
    if len(content) != start + values:
        word = "truncated" if len(content) < start + values else "too long"
        sizes = " x ".join(map(str, shape))
        raise DataError(f"{source}: {word}: expected {values} values ({sizes}), got {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
