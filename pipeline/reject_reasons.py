"""Fixed vocabulary of reasons for rejecting input, and one row of rejects.parquet."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

EXCERPT_CHARACTERS = 200


class Reason(StrEnum):
    """Why a row or a file was rejected."""

    BAD_ENCODING = "not UTF-8"
    BAD_JSON = "broken JSON"
    BAD_LITERAL = "broken Python literal"
    BAD_COLUMNS = "other columns than expected"
    LINE_TOO_LONG = "line too long"
    NOT_AN_OBJECT = "not a JSON object"
    UNKNOWN_NUMBER = "number without an id in the table beside the file"
    MISSING_USER = "no user id"
    MISSING_ITEM = "no item id"
    BAD_RATING = "rating missing or not a finite number"
    BAD_TIMESTAMP = "time missing or impossible"
    ZERO_ENTRY = "stored zero of a sparse matrix"
    DUPLICATE_ITEM = "item described before"
    CUT_OFF_FILE = "compressed file cut off or damaged"
    BROKEN_DOCUMENT = "JSON array or object cut off or damaged"
    SEVERAL_FILES = "archive of other than one file"
    EXPANDS_TOO_MUCH = "compressed file expands to more than 200 times its size"
    UNKNOWN_FORMAT = "not a known format"
    SAME_SPLIT = "split given by another file too"
    OTHER_NAME = "not read, by its name"
    EMPTY_FILE = "empty file"
    NOT_AN_IMAGE = "not an image"
    BAD_IMAGE = "image cut off or damaged"
    IMAGE_TOO_LARGE = "image has too many pixels"
    IMAGE_TOO_SMALL = "image has a side of fewer than 8 pixels"
    IMAGE_TOO_THIN = "image has a side more than 100 times as long as the other"
    NOT_A_PHOTO = "no photo by its name"
    FILE_TOO_LARGE = "file larger than 200 MB"
    MISSING_FILE = "file is gone"
    UNREADABLE = "cannot be read"
    NOT_A_FILE = "no ordinary file"
    DANGLING_LINK = "link to nothing"
    LINK_OUT = "link out of the raw folder"
    LINKED_FOLDER = "link to a folder"
    BAD_NAME = "name that leads out of its folder"
    BAD_ARCHIVE = "archive cut off or damaged"
    OVERLAPPING_ARCHIVE = "archive whose files overlap"
    COMPRESSED_ARCHIVE = "compressed archive, which cannot be read at random"
    UNKNOWN_PACKING = "packed in a way that is not read"
    ENCRYPTED = "encrypted"
    NO_PHOTOS = "archive without photos"
    SECOND_PHOTO = "item has a photo already"
    UNKNOWN_ITEM = "photo of no known item"


SURPLUS = frozenset({Reason.DUPLICATE_ITEM, Reason.SECOND_PHOTO, Reason.UNKNOWN_ITEM, Reason.NOT_A_PHOTO})
"""Reasons for valid but superfluous input: recorded, and no sign that the rest is damaged."""


class Reject(NamedTuple):
    """One row of rejects.parquet.

    Attributes:
        source: the file, below the raw folder.
        line: line number in the file, from 1; None if the whole file is rejected.
        reason: why.
        excerpt: beginning of the rejected input.
    """

    source: str
    line: int | None
    reason: Reason
    excerpt: str


def excerpt(raw: bytes) -> str:
    """The beginning of a row, safe to print: undecodable bytes and control characters become escapes."""
    text = raw[: 4 * EXCERPT_CHARACTERS].decode("utf-8", errors="backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)[:EXCERPT_CHARACTERS]


def count_reasons(counts: Mapping[Reason, int]) -> dict[str, int]:
    """Number of rejects by reason, most frequent first."""
    return {reason.value: count for reason, count in Counter(counts).most_common()}
