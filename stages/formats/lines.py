"""Reading compressed or plain files line by line, with the line's number."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from pipeline.rejects import Reason, Reject

GZIP_MAGIC = b"\x1f\x8b"


def read_lines(path: Path, source: str, rejects: list[Reject]) -> Iterator[tuple[int, bytes]]:
    """Give each line that is not blank with its number from 1.

    A compressed file that is cut off gives the lines before the cut, and a reject of the file.

    Args:
        path: the file, gzip (told by its content) or plain.
        source: its name for rejects.
        rejects: where a damaged file is noted.
    """
    with open_bytes(path) as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                if stripped := line.strip():
                    yield number, stripped.removeprefix(b"\xef\xbb\xbf")
        except (EOFError, OSError, zlib.error) as error:
            rejects.append(Reject(source, number + 1, Reason.CUT_OFF_FILE, str(error)))


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if it is gzip."""
    with path.open("rb") as file:
        magic = file.read(len(GZIP_MAGIC))
    return cast("IO[bytes]", gzip.open(path, "rb")) if magic == GZIP_MAGIC else path.open("rb")
