"""Files that are one JSON array, or indented JSON objects, read as one line for each element, in bounded memory."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from mmprep.pipeline.reject_reasons import Reason, Reject, excerpt
from mmprep.stages.ingest.line_reader import DAMAGE, MAX_LINE_BYTES, PIECE_BYTES, LineBlock, raw_pieces, read_blocks

DOCUMENT = re.compile(rb"\s*(?:\[|\{[ \t\r]*\n\s*[\"}])")
BETWEEN = re.compile(r"[\s,]*")


def read_rows(path: Path, source: str, longest: int = MAX_LINE_BYTES) -> Iterator[LineBlock | Reject]:
    """Yield a file's lines in blocks, as `read_blocks` does; for a JSON document, the elements as lines.

    Lines of a document are the numbers of its elements from 1. A fault ends the document: it gives the elements before
    it and one reject.

    Args:
        path: the file.
        source: the file's name in rejects.
        longest: maximum length of a line or an element in bytes.
    """
    if not is_document(path):
        yield from read_blocks(path, source, longest)
        return
    number, lines, size = 1, list[bytes](), 0
    for element in Elements(path, longest).read():
        if isinstance(element, str):
            if lines:
                yield LineBlock(number, b"".join(lines))
            yield Reject(source, number + len(lines), Reason.BROKEN_DOCUMENT, excerpt(element.encode()))
            return
        lines.append(element)
        size += len(element)
        if size >= PIECE_BYTES:
            yield LineBlock(number, b"".join(lines))
            number, lines, size = number + len(lines), [], 0
    if lines:
        yield LineBlock(number, b"".join(lines))


def read_row_lines(path: Path, source: str, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes] | Reject]:
    """Yield each non-blank line or element with its number from 1, and rejects; see `read_rows`."""
    for piece in read_rows(path, source, longest):
        if isinstance(piece, Reject):
            yield piece
        else:
            yield from piece.lines()


def is_document(path: Path) -> bool:
    """Whether a file begins with a bracket, or with a brace that ends its line before a field."""
    try:
        return DOCUMENT.match(next(raw_pieces(path), b"")) is not None
    except DAMAGE:
        return False


class Elements:
    """The elements of the arrays in a file, and the objects outside of arrays."""

    def __init__(self, path: Path, longest: int) -> None:
        self._pieces = raw_pieces(path)
        self._longest = longest
        # Bytes that are not UTF-8 pass through, so that they are a fault of their element.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at = "", 0

    def read(self) -> Iterator[bytes | str]:
        """Yield each element as a line, and at a fault, last, what is wrong."""
        decode, in_array = json.JSONDecoder().raw_decode, False
        while True:
            self._at = self._skip()
            start = self._text[self._at : self._at + 1]
            if not start:
                if self._extend(1):
                    continue
                if in_array:
                    yield "it ends within the array"
                return
            if start == "]" or (start == "[" and not in_array):
                in_array = start == "["
                self._at += 1
                continue
            try:
                _, end = decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                # Twice as much each time, so that long elements take linear time.
                if len(self._text) - self._at <= self._longest and self._extend(len(self._text) - self._at):
                    continue
                yield str(error)
                return
            if start not in '{["' and end == len(self._text) and self._extend(1):
                continue  # a number may go on
            row = self._text[self._at : end].replace("\n", " ").replace("\r", " ")
            self._at = end
            yield row.encode("utf-8", errors="surrogateescape") + b"\n"

    def _skip(self) -> int:
        match = BETWEEN.match(self._text, self._at)
        return self._at if match is None else match.end()

    def _extend(self, characters: int) -> bool:
        """Read at least so many more characters if there are any; False at the end of the file or at damage."""
        parts, size = [self._text[self._at :]], 0
        try:
            while size < characters and (piece := next(self._pieces, None)) is not None:
                parts.append(self._decoder.decode(piece))
                size += len(parts[-1])
        except DAMAGE:
            pass
        self._text, self._at = "".join(parts), 0
        return size > 0
