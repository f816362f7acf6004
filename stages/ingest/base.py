"""What a format of raw files is, to the stage that reads them."""

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
    """The beginning of a file, by which its format is told.

    Attributes:
        path: the file.
        lines: its first lines, without line ends.
        objects: the JSON objects, or Python dictionaries, among them.
    """

    path: Path
    lines: tuple[bytes, ...]
    objects: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Format:
    """One kind of raw file.

    Attributes:
        name: for messages.
        kind: whether it holds reviews or describes items.
        matches: whether a file is of this format.
        parser: makes the function that reads one line of a file.
        parse_block: reads many whole lines at once if all of them are sound, and gives None otherwise; None if there is
            no such way.
    """

    name: str
    kind: Kind
    matches: Callable[[FileHead], bool]
    parser: Callable[[FileHead], Parse]
    parse_block: ParseBlock | None = None
