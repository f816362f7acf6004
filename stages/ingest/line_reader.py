"""Read compressed or plain files in blocks of whole lines, in bounded memory."""

import codecs
import gzip
import re
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from queue import Queue
from threading import Event
from typing import TypeVar, cast

import numpy as np
import zstandard
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from mmprep.pipeline.reject_reasons import Reason, Reject, excerpt

GZIP_MAGIC, ZSTD_MAGIC, ZIP_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PIECE_BYTES = 1 << 20
FREE_BYTES = 64 << 20  # that a compressed file may expand to whatever its size
MAX_RATIO = 200  # JSON and CSV shrink to a third or a tenth; only padding or bombs expand a thousandfold
STEPS_AHEAD = 4
EXCERPT_BYTES = 1000
ZSTD_STEP = 1 << 10
MAX_LINE_BYTES = 16 << 20  # the longest description of an item seen is below 1 MB
DAMAGE: tuple[type[Exception], ...] = (
    EOFError,
    OSError,
    zlib.error,
    cast("type[Exception]", isal_zlib.error),
    zstandard.ZstdError,
)
BAD_ZIP = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, OSError, EOFError, ValueError)

LINE_END = ord("\n")

T = TypeVar("T")


class ExpandsTooMuchError(Exception):
    """A compressed file expands to more than MAX_RATIO times its size."""


@dataclass(frozen=True)
class LineBlock:
    """A block of consecutive whole lines.

    Attributes:
        first: the number of the first line, from 1.
        content: the lines with their line ends; the last line of a file may have none.
        ends: positions of the line ends in `content`.
    """

    first: int
    content: bytes
    ends: NDArray[np.intp] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        content = np.frombuffer(self.content, dtype=np.uint8)
        object.__setattr__(self, "ends", np.flatnonzero(content == LINE_END))

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Each non-blank line, stripped, with its number."""
        if not self.content.strip():
            return
        for number, line in enumerate(self.content.split(b"\n"), start=self.first):
            if stripped := line.strip():
                yield number, stripped

    def halves(self) -> tuple["LineBlock", "LineBlock"] | None:
        """The block split in two at a line end, or None if it is one line."""
        middle = self.content.find(b"\n", len(self.content) // 2) + 1
        if middle in (0, len(self.content)):
            middle = self.content.rfind(b"\n", 0, len(self.content) // 2) + 1
        if middle == 0:
            return None
        before = self.content[:middle]
        return LineBlock(self.first, before), LineBlock(self.first + before.count(b"\n"), self.content[middle:])


def read_blocks(path: Path, source: str, longest: int = MAX_LINE_BYTES) -> Iterator[LineBlock | Reject]:
    """Yield a file's lines in blocks of about a megabyte, and rejects of unreadable parts, in the order of lines.

    A truncated compressed file yields the lines before the cut and a reject of the file, a line that is too long a
    reject of the line.

    Args:
        path: the file: gzip (also twice), zstd or a zip of one file, detected by its content, or plain; in UTF-8, or in
            UTF-16 with a byte order mark.
        source: the file's name in rejects.
        longest: maximum length of a line in bytes.
    """
    number, rest, skipping = 1, bytearray(), False
    pieces = raw_pieces(path)
    while True:
        try:
            raw = next(pieces, None)
        except ExpandsTooMuchError as error:
            yield Reject(source, number, Reason.EXPANDS_TOO_MUCH, str(error))
            return
        except DAMAGE as error:
            # The rest is the beginning of a line that is cut off.
            yield Reject(source, number, Reason.CUT_OFF_FILE, str(error))
            return
        if raw is None:
            if rest:
                yield LineBlock(number, bytes(rest))
            return
        if skipping:
            _, line_end, raw = raw.partition(b"\n")
            skipping = not line_end
            number += len(line_end)
        if is_too_long(rest, raw, longest):
            first, line_end, raw = raw.partition(b"\n")
            yield Reject(source, number, Reason.LINE_TOO_LONG, excerpt(bytes(rest[:EXCERPT_BYTES]) or first))
            rest, skipping = bytearray(), not line_end
            number += len(line_end)
        end = raw.rfind(b"\n") + 1
        if end:
            piece = LineBlock(number, b"".join((rest, memoryview(raw)[:end])))
            yield piece
            number += len(piece.ends)
            rest = bytearray()
        rest += memoryview(raw)[end:]


def prefetch(steps: Iterator[T]) -> Iterator[T]:
    """Yield an iterator's values; a thread computes the next few of them while the caller uses the last one."""
    queue: Queue[object] = Queue(STEPS_AHEAD)
    end, stop = object(), Event()

    def fill() -> None:
        try:
            for step in steps:
                queue.put(step)
                if stop.is_set():
                    return
        finally:
            queue.put(end)

    step: object = None
    with ThreadPoolExecutor(max_workers=1) as thread:
        filling = thread.submit(fill)
        try:
            while (step := queue.get()) is not end:
                yield cast("T", step)
            filling.result()  # raises what the iterator raised
        finally:
            stop.set()
            while step is not end:  # empty the queue, so that the thread can end
                step = queue.get()


def is_too_long(rest: bytearray, raw: bytes, longest: int) -> bool:
    """Whether the line that begins with `rest` is too long; later ones cannot be, as files are read in small pieces."""
    if len(rest) + len(raw) <= longest:
        return False
    line_end = raw.find(b"\n")
    return line_end < 0 or len(rest) + line_end > longest


def raw_pieces(path: Path) -> Iterator[bytes]:
    """A file's bytes in UTF-8, decompressed, without a byte order mark.

    Raises:
        one of DAMAGE: it is truncated or damaged.
    """
    pieces, is_packed = unpacked_pieces(path)
    first = next(pieces, b"")
    if is_packed and first.startswith(GZIP_MAGIC):
        pieces = limited(inflate(chain([first], pieces)), path)
        first = next(pieces, b"")
    if first.startswith(UTF16_MARKS):
        pieces = recode(chain([first], pieces))
        first = next(pieces, b"")
    yield first.removeprefix(BYTE_ORDER_MARK)
    yield from pieces


def unpacked_pieces(path: Path) -> tuple[Iterator[bytes], bool]:
    """The bytes of a file, and whether they are decompressed."""
    with path.open("rb") as file:
        magic = file.read(len(ZSTD_MAGIC))
    if magic.startswith(GZIP_MAGIC):
        return limited(gzip_pieces(path), path), True
    if magic == ZSTD_MAGIC:
        return limited(zstd_pieces(path), path), True
    return (limited(zip_pieces(path), path), True) if magic == ZIP_MAGIC else (plain_pieces(path), False)


def zip_member(path: Path) -> zipfile.ZipInfo | Reason:
    """The only file in a zip, or why there is none; hidden files and those of macOS do not count."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                member
                for member in archive.infolist()
                if not member.is_dir() and not re.search(r"(?:^|/)(?:\.|__MACOSX/)", member.filename)
            ]
    except BAD_ZIP:
        return Reason.BAD_ARCHIVE
    if len(members) != 1:
        return Reason.SEVERAL_FILES
    return Reason.ENCRYPTED if members[0].flag_bits & 1 else members[0]


def zip_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of the only file in a zip."""
    member = zip_member(path)
    if isinstance(member, Reason):
        raise OSError(member.value)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            while raw := file.read(PIECE_BYTES):
                yield raw
    except BAD_ZIP as error:
        raise OSError(str(error)) from error


def inflate(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The bytes of gzip within gzip."""
    inner = zlib.decompressobj(wbits=31)
    for piece in filter(None, pieces):
        packed = piece
        if inner.eof:
            inner = zlib.decompressobj(wbits=31)
        while True:
            raw = inner.decompress(packed, PIECE_BYTES)
            if raw:
                yield raw
            if inner.eof:
                packed = inner.unused_data
                if not packed:
                    break
                inner = zlib.decompressobj(wbits=31)
                continue
            packed = inner.unconsumed_tail
            if not packed and len(raw) < PIECE_BYTES:
                break
    if not inner.eof:
        raise EOFError("gzip within gzip ended before its end")


def recode(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """UTF-16 with a byte order mark as UTF-8; broken characters become bytes that are not UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")
    try:
        for piece in pieces:
            yield decoder.decode(piece).encode("utf-8", errors="surrogatepass")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise EOFError(f"UTF-16 cut off ({error.reason})") from error


def limited(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """Decompressed pieces of a file, up to MAX_RATIO times its size or FREE_BYTES.

    Raises:
        ExpandsTooMuchError: there are more.
    """
    left = max(FREE_BYTES, MAX_RATIO * path.stat().st_size)
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise ExpandsTooMuchError(f"{path.stat().st_size} bytes, compressed")
        yield piece


def plain_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a file that is not compressed."""
    with path.open("rb") as file:
        while raw := file.read(PIECE_BYTES):
            yield raw


def gzip_pieces(path: Path) -> Iterator[bytes]:
    """The bytes of a gzip file."""
    yielded = 0
    try:
        with igzip.open(path, "rb") as fast:  # type: ignore[no-untyped-call]
            while raw := fast.read(PIECE_BYTES):
                yield raw
                yielded += len(raw)
    except DAMAGE:
        # isal discards the piece in which it detects damage; Python's module returns the bytes before the damage.
        with gzip.open(path, "rb") as slow:
            while yielded and (skipped := slow.read(min(yielded, PIECE_BYTES))):
                yielded -= len(skipped)
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
        yield pending  # the bytes before the damage are intact
        raise
    yield pending


def zstd_steps(path: Path) -> Iterator[bytes]:
    """The bytes of a zstd file, decompressed in small steps: a kilobyte may expand to tens of megabytes."""
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


def read_lines(path: Path, source: str, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes] | Reject]:
    """Yield each non-blank line with its number from 1, and rejects; see `read_blocks`."""
    for piece in read_blocks(path, source, longest):
        if isinstance(piece, Reject):
            yield piece
        else:
            yield from piece.lines()


def read_whole_lines(path: Path, source: str, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes] | Reject]:
    """Yield each line, blank ones too, with its number and surrounding blanks but without its end, and rejects."""
    for piece in read_blocks(path, source, longest):
        if isinstance(piece, Reject):
            yield piece
            continue
        lines = piece.content.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for number, line in enumerate(lines, start=piece.first):
            yield number, line.removesuffix(b"\r")
