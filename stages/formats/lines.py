"""Reading compressed or plain files in pieces of whole lines, in bounded memory."""

import gzip
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import zstandard
from isal import igzip, isal_zlib

from pipeline.rejects import Reason, Reject, excerpt

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PIECE_BYTES = 1 << 20
ZSTD_STEP = 1 << 10
MAX_LINE_BYTES = 16 << 20  # the longest description of an item seen is below 1 MB
DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    OSError,
    zlib.error,
    cast("type[Exception]", isal_zlib.error),
    zstandard.ZstdError,
)


@dataclass(frozen=True)
class Piece:
    """Some whole lines.

    Attributes:
        first: the number of the first line, from 1.
        content: the lines with their ends; the file's last one may have none.
    """

    first: int
    content: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each line that is not blank, stripped, with its number."""
        for number, line in enumerate(self.content.split(b"\n"), start=self.first):
            if stripped := line.strip():
                yield number, stripped

    def halves(self) -> tuple["Piece", "Piece"] | None:
        """The piece in two, or None if it is one line."""
        middle = self.content.find(b"\n", len(self.content) // 2) + 1
        if middle in (0, len(self.content)):
            middle = self.content.rfind(b"\n", 0, len(self.content) // 2) + 1
        if middle == 0:
            return None
        before = self.content[:middle]
        return Piece(self.first, before), Piece(self.first + before.count(b"\n"), self.content[middle:])


def read_pieces(path: Path, source: str, rejects: list[Reject]) -> Iterator[Piece]:
    """Give a file's lines in pieces of about a megabyte.

    A compressed file that is cut off gives the lines before the cut and a reject of the file, a line of more than 16 MB
    a reject of the line.

    Args:
        path: the file: gzip or zstd, told by its content, or plain.
        source: its name for rejects.
        rejects: where such faults are noted.
    """
    number, rest, skipping = 1, b"", False
    pieces = raw_pieces(path)
    while True:
        try:
            raw = next(pieces, None)
        except DAMAGE as error:
            # What is left is the beginning of a line whose end is lost.
            rejects.append(Reject(source, number, Reason.CUT_OFF_FILE, str(error)))
            return
        ended, content = raw is None, rest + (raw or b"")
        if skipping:
            _, line_end, content = content.partition(b"\n")
            skipping = not line_end
            number += len(line_end)
        if is_too_long(content):
            first, line_end, content = content.partition(b"\n")
            rejects.append(Reject(source, number, Reason.LINE_TOO_LONG, excerpt(first)))
            skipping = not line_end
            number += len(line_end)
        end = len(content) if ended else content.rfind(b"\n") + 1
        whole, rest = content[:end], content[end:]
        if whole:
            yield Piece(number, whole)
            number += whole.count(b"\n")
        if ended:
            return


def read_ahead(path: Path, source: str, rejects: list[Reject]) -> Iterator[Piece]:
    """As `read_pieces`, reading the next piece on a thread while the last one is worked on."""
    pieces = read_pieces(path, source, rejects)
    with ThreadPoolExecutor(max_workers=1) as thread:
        following = thread.submit(next, pieces, None)
        while (piece := following.result()) is not None:
            following = thread.submit(next, pieces, None)
            yield piece


def is_too_long(content: bytes) -> bool:
    """Whether the first line is; a later one cannot be, as a file is read in smaller pieces than that."""
    return len(content) > MAX_LINE_BYTES and not 0 <= content.find(b"\n") <= MAX_LINE_BYTES


def raw_pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes, decompressed, without a byte order mark; raises one of DAMAGE where it is cut off or damaged."""
    with path.open("rb") as file:
        magic = file.read(len(ZSTD_MAGIC))
    if magic.startswith(GZIP_MAGIC):
        pieces = gzip_pieces(path)
    else:
        pieces = zstd_pieces(path) if magic == ZSTD_MAGIC else plain_pieces(path)
    yield next(pieces, b"").removeprefix(BYTE_ORDER_MARK)
    yield from pieces


def plain_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file that is not compressed."""
    with path.open("rb") as file:
        while raw := file.read(PIECE_BYTES):
            yield raw


def gzip_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a gzip file."""
    given = 0
    try:
        with igzip.open(path, "rb") as quick:  # type: ignore[no-untyped-call]
            while raw := quick.read(PIECE_BYTES):
                yield raw
                given += len(raw)
    except DAMAGE:
        # isal keeps the piece in which it finds damage to itself; Python's module gives what comes before the damage.
        with gzip.open(path, "rb") as slow:
            while given and (skipped := slow.read(min(given, PIECE_BYTES))):
                given -= len(skipped)
            while raw := slow.read1():
                yield raw


def zstd_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a zstd file of one or more frames."""
    pending = b""
    try:
        for raw in zstd_steps(path):
            pending += raw
            while len(pending) >= PIECE_BYTES:
                yield pending[:PIECE_BYTES]
                pending = pending[PIECE_BYTES:]
    except DAMAGE:
        yield pending  # what came before the damage is sound
        raise
    yield pending


def zstd_steps(path: Path) -> Iterator[bytes]:
    """The bytes of a zstd file as they come of small steps: a kilobyte may hold tens of megabytes."""
    frame = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as file:
        while packed := file.read(ZSTD_STEP):
            while packed:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                yield frame.decompress(packed)
                packed = frame.unused_data
    if not frame.eof:
        raise EOFError("compressed file ended before the end of its last frame")


def read_lines(path: Path, source: str, rejects: list[Reject]) -> Iterator[tuple[int, bytes]]:
    """Give each line that is not blank with its number from 1; for faults see `read_pieces`."""
    for piece in read_pieces(path, source, rejects):
        yield from piece.lines()
