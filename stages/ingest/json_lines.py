"""Parsers of JSON lines: the object in one line, or a block of reviews at once."""

import json
from typing import Annotated, Any

import msgspec
import numpy as np
import polars as pl
from msgspec import Meta

from mmprep.pipeline.reject_reasons import Reason
from mmprep.stages.ingest.base import ParseBlock
from mmprep.stages.ingest.line_reader import LineBlock
from mmprep.stages.ingest.records import FIRST_SECOND, LARGEST_RATING, LAST_SECOND, REVIEWS, are_plain

CARRIAGE_RETURN = ord("\r")


def parse_object(line: bytes) -> dict[str, object] | Reason:
    """Parse the JSON object in a line, or return why there is none."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Reason.BAD_ENCODING
    except (ValueError, RecursionError):
        return Reason.BAD_JSON
    return row if isinstance(row, dict) else Reason.NOT_AN_OBJECT


def quick_reviews(user: str, item: str, rating: str, time: str, divisor: int = 1) -> ParseBlock:
    """Make a parser of blocks of reviews, several times as fast as one `json.loads` per line.

    It reads four fields and skips the others. It accepts what `make_review` accepts, but only plain ids, see
    `are_plain`. If any line is invalid or not exactly one object, it returns None.

    Args:
        user: the field of the user's id.
        item: the field of the item's id.
        rating: the field of the rating.
        time: the field of the time.
        divisor: units of the time per second.
    """
    fields: list[tuple[str, Any]] = [
        ("user", Annotated[str, Meta(min_length=1)]),
        ("item", Annotated[str, Meta(min_length=1)]),
        ("rating", Annotated[float, Meta(ge=-LARGEST_RATING, le=LARGEST_RATING)]),
        ("time", Annotated[int, Meta(ge=FIRST_SECOND * divisor, lt=LAST_SECOND * divisor)]),
    ]
    names = {"user": user, "item": item, "rating": rating, "time": time}
    decode = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=names, gc=False)).decode_lines

    def read(piece: LineBlock) -> pl.DataFrame | None:
        try:
            if not piece.content.isascii():
                piece.content.decode("utf-8")  # the decoder does not check the fields that it skips
            rows: list[Any] = decode(piece.content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        users, items = [row.user for row in rows], [row.item for row in rows]
        if not (is_object_a_line(piece, len(rows)) and are_plain(users) and are_plain(items)):
            return None
        ratings = np.array([row.rating for row in rows], dtype=np.float32)
        times = np.array([row.time for row in rows], dtype=np.int64) // divisor
        return pl.DataFrame([users, items, ratings, times, [None] * len(rows)], schema=REVIEWS)

    return read


def is_object_a_line(piece: LineBlock, objects: int) -> bool:
    """Whether each line holds exactly one object, given that the block decodes to `objects` valid objects.

    May be False for lines with surrounding blanks. Two objects may share a line, and one may span two lines; but within
    an object, no `}` precedes a `{` without a comma in between.
    """
    if len(piece.ends) + (not piece.content.endswith(b"\n")) != objects or not piece.content.startswith(b"{"):
        return False
    content = np.frombuffer(piece.content, dtype=np.uint8)
    behind = piece.ends[piece.ends < len(content) - 1] + 1
    before = piece.ends - 1
    before = before - (content[before] == CARRIAGE_RETURN)
    return bool((content[behind] == ord("{")).all() and (content[before] == ord("}")).all())
