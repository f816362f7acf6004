"""Rows parsed by every format: a review, an item, or the reason why there is none."""

from collections.abc import Callable
from math import isfinite
from typing import NamedTuple

import numpy as np
import polars as pl

from mmprep.pipeline.reject_reasons import Reason

FIRST_SECOND = 631_152_000  # 1990-01-01; the oldest Amazon review is of 1996
LAST_SECOND = 4_102_444_800  # 2100-01-01; milliseconds mistaken for seconds are beyond
LARGEST_RATING = 3.4e38  # the range of an f32


class Review(NamedTuple):
    """A row of interactions.parquet; fields that the source lacks are None."""

    user_id: str
    item_id: str
    rating: float | None
    timestamp: int | None
    split: str | None = None


class Item(NamedTuple):
    """A row of items.parquet, before its photo is added.

    Attributes:
        unusable: names of the other fields whose published value could not be used.
        features: as published, for the column of that name where ingest.extra_text names it.
        details: likewise.
    """

    item_id: str
    title: str
    description: str
    categories: str
    brand: str
    image_url: str | None
    unusable: tuple[str, ...] = ()
    features: object = None
    details: object = None


Parsed = Review | Item | Reason | list[Review | Reason]
"""Contents of a line; some formats have many interactions per line, or none."""

Parse = Callable[[bytes], Parsed]

REVIEWS = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64, "split": pl.String}
ITEMS = dict.fromkeys(Item._fields[: Item._fields.index("unusable")], pl.String)


def make_review(user: object, item: object, rating: object, time: object, split: str | None = None) -> Review | Reason:
    """Make a review from unchecked values, or return why they are invalid.

    Args:
        user: the user's id.
        item: the item's id.
        rating: a finite number.
        time: seconds since 1970.
        split: train, val or test, if the source gives one.
    """
    if not is_id(user):
        return Reason.MISSING_USER
    if not is_id(item):
        return Reason.MISSING_ITEM
    if isinstance(rating, bool) or not isinstance(rating, int | float) or not abs(rating) <= LARGEST_RATING:
        return Reason.BAD_RATING
    if isinstance(time, bool) or not isinstance(time, int) or not FIRST_SECOND <= time < LAST_SECOND:
        return Reason.BAD_TIMESTAMP
    return Review(str(user), str(item), float(rating), time, split)


def make_interaction(
    user: object, item: object, rating: float | None, time: float | None, split: str
) -> Review | Reason:
    """Like `make_review`, for a source that may lack the rating or the time."""
    seconds = int(time) if time is not None and isfinite(time) else time
    made = make_review(user, item, 0 if rating is None else rating, FIRST_SECOND if time is None else seconds, split)
    if isinstance(made, Reason):
        return made
    return Review(made.user_id, made.item_id, rating, None if time is None else made.timestamp, split)


def is_id(value: object) -> bool:
    """Whether a value is a valid id: text that is printable and not blank."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def are_plain(ids: list[str]) -> bool:
    """Whether all ids, which are not empty, consist of visible ASCII characters."""
    characters = np.frombuffer("".join(ids).encode("utf-8", errors="replace"), dtype=np.uint8)
    return bool(len(ids) and characters.min() > ord(" ") and characters.max() <= ord("~"))
