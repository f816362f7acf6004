"""Reader of the image features of Amazon's reviews of 2014: `image_features_CATEGORY.b`, records of id and vector."""

import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from isal import igzip, isal_zlib

from mmprep.pipeline.errors import DataError

DIMENSION = 4096
ASIN_BYTES = 10
RECORD = np.dtype([("id", f"V{ASIN_BYTES}"), ("vector", "<f4", (DIMENSION,))])
VISIBLE = (0x21, 0x7E)  # the first and the last visible ASCII character
GZIP_MAGIC = b"\x1f\x8b"
BAD_GZIP: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, cast("type[Exception]", isal_zlib.error))


def check_records(path: Path) -> None:
    """Check the size of a file, unless it is compressed, and its first record.

    Raises:
        DataError: the file is truncated, damaged or of another format.
    """
    size = path.stat().st_size
    if not is_gzip(path) and (size == 0 or size % RECORD.itemsize):
        raise DataError(
            f"{path}: found {size:,} bytes, expected an array of numpy's, or records of {RECORD.itemsize:,} bytes each "
            "as in image_features_CATEGORY.b; it is cut off or something else"
        )
    with closing(read_records(path, 1)) as records:
        next(records)


def read_records(path: Path, rows: int) -> Generator[tuple[list[str | None], npt.NDArray[np.float32]], None, None]:
    """Iterate over blocks of at most `rows` ids and their vectors [n, 4096].

    Raises:
        DataError: the file is empty, truncated, damaged or of another format.
    """
    start = 0
    try:
        with igzip.open(path, "rb") if is_gzip(path) else path.open("rb") as file:  # type: ignore[no-untyped-call]
            while raw := read_fully(file, rows * RECORD.itemsize):
                whole, over = divmod(len(raw), RECORD.itemsize)
                if over:
                    raise DataError(f"{path}: cut off in record {start + whole + 1}, or something else than features")
                records = np.frombuffer(raw, dtype=RECORD)
                yield asins_of(records["id"], start, path), records["vector"]
                start += whole
    except BAD_GZIP as error:
        raise DataError(f"{path}: cut off or damaged after record {start} ({error}); fetch it again") from error
    if not start:
        raise DataError(f"{path}: holds nothing; fetch it again")


def is_gzip(path: Path) -> bool:
    """Whether a file is gzip, by its content."""
    with path.open("rb") as file:
        return file.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def read_fully(file: BinaryIO, size: int) -> bytearray:
    """Read `size` bytes, fewer only at the end; a single read of a compressed file may return fewer."""
    raw = bytearray()
    while len(raw) < size and (more := file.read(size - len(raw))):
        raw += more
    return raw


def asins_of(fields: npt.NDArray[np.void], start: int, path: Path) -> list[str | None]:
    """Decode the ids of records; `start` is the number of the first one, from 0.

    Raises:
        DataError: an id has invisible or non-ASCII characters, so the file is of another format.
    """
    raw = fields.tobytes()
    characters = np.frombuffer(raw, dtype=np.uint8).reshape(-1, ASIN_BYTES)
    bad = ((characters < VISIBLE[0]) | (characters > VISIBLE[1])).any(axis=1)
    if bad.any():
        first = int(bad.argmax())
        raise DataError(
            f"{path}: record {start + first + 1} begins with {bytes(characters[first])!r}, expected an ASIN of ten "
            "visible characters; the file is damaged or something else than image_features_CATEGORY.b"
        )
    text = raw.decode("ascii")
    return [text[place : place + ASIN_BYTES] for place in range(0, len(text), ASIN_BYTES)]
