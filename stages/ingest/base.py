"""Interface of raw file formats: detection and parsing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mmprep.pipeline.reject_reasons import Reject
from mmprep.stages.ingest.columns import NO_COLUMNS, ColumnsParams
from mmprep.stages.ingest.line_reader import LineBlock
from mmprep.stages.ingest.records import Parse, Parsed

Kind = Literal["reviews", "items"]
ParseBlock = Callable[[LineBlock], pl.DataFrame | None]
ReadParsed = Callable[[Path, str], Iterator[list[tuple[int, Parsed]] | Reject]]


@dataclass(frozen=True)
class FileHead:
    """The beginning of a file, from which its format is detected.

    Attributes:
        path: the file.
        lines: its first lines, without line ends.
        objects: the JSON objects among these lines.
        columns: section `ingest.columns`.
        parquet_columns: names of the columns of a Parquet file; empty for files of lines.
    """

    path: Path
    lines: tuple[bytes, ...]
    objects: tuple[dict[str, Any], ...]
    columns: ColumnsParams = NO_COLUMNS
    parquet_columns: frozenset[str] = frozenset()


ReadFrames = Callable[[FileHead, str], Iterator[pl.DataFrame | Reject]]


def no_lines(head: FileHead) -> Parse:
    """Make the line parser of a format without lines, which is never called."""

    def refuse(line: bytes) -> Parsed:
        raise ValueError(f"{head.path} has no lines, found one of {len(line)} bytes")

    return refuse


@dataclass(frozen=True)
class Format:
    """One format of raw files.

    Attributes:
        name: for messages.
        kind: whether it holds reviews or describes items.
        matches: whether a file has this format.
        parser: makes the function that parses one line of a file.
        parse_block: parses a block of lines at once if all of them are valid, and returns None otherwise; None if the
            format has no such parser.
        block_parser: makes such a function for a file, which accepts nothing that `parser` rejects.
        read_frames: for a format whose rows are not lines, yields valid rows and rejects of a file, given its head and
            its path below the raw folder; None for formats of lines.
        read_parsed: likewise, given the file's path and its path below the raw folder, but yields lists of row numbers
            from 1 and parsed rows.
    """

    name: str
    kind: Kind
    matches: Callable[[FileHead], bool]
    parser: Callable[[FileHead], Parse] = no_lines
    parse_block: ParseBlock | None = None
    block_parser: Callable[[FileHead], ParseBlock] | None = None
    read_frames: ReadFrames | None = None
    read_parsed: ReadParsed | None = None
