"""Interface of raw file formats: detection and parsing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from mmprep.stages.ingest.line_reader import LineBlock
from mmprep.stages.ingest.records import Parse

Kind = Literal["reviews", "items"]
ParseBlock = Callable[[LineBlock], pl.DataFrame | None]


@dataclass(frozen=True)
class FileHead:
    """The beginning of a file, from which its format is detected.

    Attributes:
        path: the file.
        lines: its first lines, without line ends.
        objects: the JSON objects among these lines.
    """

    path: Path
    lines: tuple[bytes, ...]
    objects: tuple[dict[str, Any], ...]


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
    """

    name: str
    kind: Kind
    matches: Callable[[FileHead], bool]
    parser: Callable[[FileHead], Parse]
    parse_block: ParseBlock | None = None
