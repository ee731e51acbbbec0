import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from al_dgm.data.idx import parse_idx, read_content
from al_dgm.errors import DataError

HERE = Path("a/file")
IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
CONTENT = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 4) + IMAGES.tobytes()


def test_round_trip():
    """Row-major values under a big-endian header come back in their shape."""
    np.testing.assert_array_equal(parse_idx(CONTENT, 3, HERE), IMAGES)


def test_no_values_at_all():
    """An empty array is an array."""
    assert parse_idx(struct.pack(">BBBBI", 0, 0, 8, 1, 0), 1, HERE).shape == (0,)


@pytest.mark.parametrize(
    ("content", "dimensions", "message"),
    [
        (CONTENT, 1, r"expected IDX magic 0x00000801, got 0x00000803"),
        (b"\x00\x00\x0d" + CONTENT[3:], 3, r"expected IDX magic 0x00000803, got 0x00000d03"),
        (b"<html>404", 3, r"got 0x3c68746d"),
        (b"", 3, r"got 0x\(nothing\)"),
        (CONTENT[:12], 3, r"truncated: expected a header of 16 bytes, got 12"),
        (CONTENT[:-1], 3, r"truncated: expected 24 values \(2 x 3 x 4\), got 23"),
        (CONTENT + b"\x00", 3, r"too long: expected 24 values \(2 x 3 x 4\), got 25"),
        (struct.pack(">BBBBIII", 0, 0, 8, 3, *[2**32 - 1] * 3), 3, r"truncated: expected 792281624"),
    ],
)
def test_not_idx(content, dimensions, message):
    """Whatever is wrong is said with the file's name, what was expected and what came."""
    with pytest.raises(DataError, match=rf"^a/file: .*{message}"):
        parse_idx(content, dimensions, HERE)


@pytest.mark.parametrize("name", ["plain", "named.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_compressed_or_not_whatever_its_name(tmp_path, name, pack):
    """Servers and browsers unpack some files on the way and keep their names."""
    (tmp_path / name).write_bytes(pack(CONTENT))
    assert read_content(tmp_path / name) == CONTENT


def test_a_download_that_broke_off(tmp_path):
    """A gzip file cut in the middle is told as such."""
    (tmp_path / "x.gz").write_bytes(gzip.compress(CONTENT)[:-12])
    with pytest.raises(DataError, match=r"x.gz: expected a whole gzip file, got one that is cut off"):
        read_content(tmp_path / "x.gz")


def test_a_damaged_download(tmp_path):
    """So is one with a wrong byte."""
    packed = bytearray(gzip.compress(CONTENT))
    packed[-5] ^= 1
    (tmp_path / "x.gz").write_bytes(packed)
    with pytest.raises(DataError, match=r"x.gz: expected a gzip file, got a damaged one: CRC"):
        read_content(tmp_path / "x.gz")


def test_no_file(tmp_path):
    """The system's own words, with the path."""
    with pytest.raises(DataError, match=r"none: cannot be read: No such file"):
        read_content(tmp_path / "none")
