"""Input that was not taken: a fixed vocabulary of reasons, and the rows of rejects.parquet."""

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import polars as pl

from pipeline.tables import REJECTS

EXCERPT_CHARACTERS = 200


class Reason(StrEnum):
    """Why a row or a file was not taken."""

    BAD_ENCODING = "not UTF-8"
    BAD_JSON = "broken JSON"
    BAD_LITERAL = "broken Python literal"
    BAD_COLUMNS = "other columns than expected"
    LINE_TOO_LONG = "line longer than 16 MB"
    NOT_AN_OBJECT = "not a JSON object"
    MISSING_USER = "no user id"
    MISSING_ITEM = "no item id"
    BAD_RATING = "rating missing or not a finite number"
    BAD_TIMESTAMP = "time missing or impossible"
    DUPLICATE_ITEM = "item described before"
    CUT_OFF_FILE = "compressed file cut off or damaged"
    UNKNOWN_FORMAT = "not a known format"
    EMPTY_FILE = "empty file"
    NOT_AN_IMAGE = "not an image"
    BAD_IMAGE = "image cut off or damaged"
    IMAGE_TOO_LARGE = "image has too many pixels"
    SECOND_PHOTO = "item has a photo already"
    UNKNOWN_ITEM = "photo of no known item"


SURPLUS = frozenset({Reason.DUPLICATE_ITEM, Reason.SECOND_PHOTO, Reason.UNKNOWN_ITEM})
"""Input that is sound but one too many: noted, and no reason to distrust the rest."""


class Reject(NamedTuple):
    """One row of rejects.parquet.

    Attributes:
        source: the file, below the raw folder.
        line: the line in it, from 1; None where the whole file is rejected.
        reason: why.
        excerpt: the beginning of what was found.
    """

    source: str
    line: int | None
    reason: Reason
    excerpt: str


def excerpt(raw: bytes) -> str:
    """The beginning of a row, safe to print: bytes that are not text are shown as escapes."""
    text = raw[: 4 * EXCERPT_CHARACTERS].decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:EXCERPT_CHARACTERS]


def to_frame(rejects: Iterable[Reject]) -> pl.DataFrame:
    """The rejects as a table, by file and line."""
    # A file's name may be no text.
    rows = [
        (source.encode("utf-8", errors="backslashreplace").decode("utf-8"), line, reason.value, found)
        for source, line, reason, found in rejects
    ]
    schema = {"source": pl.String, "line": pl.Int64, "reason": pl.String, "excerpt": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.select(REJECTS.schema.names).sort("source", "line", "reason", nulls_last=False)


def count_reasons(rejects: Iterable[Reject]) -> dict[str, int]:
    """How many were rejected for each reason, most frequent first."""
    return dict(Counter(reject.reason.value for reject in rejects).most_common())
