"""Rows parsed by every format: a review, an item, or the reason why there is none."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from math import isfinite, nan
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from mmprep.pipeline.reject_reasons import Reason

FIRST_SECOND = 631_152_000  # 1990-01-01; the oldest Amazon review is of 1996
LAST_SECOND = 4_102_444_800  # 2100-01-01; milliseconds mistaken for seconds are beyond
LARGEST_RATING = 3.4e38  # the range of an f32
MILLISECONDS = 1000
SHOWN = 60  # characters of a value in a fault
WRITTEN_DATE = re.compile(r"(\d{1,2}) (\d{1,2}), (\d{4})")  # reviewTime: month day, year

Unit = Literal["s", "ms", "iso"]


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


class Fault(NamedTuple):
    """Why a row is rejected, with the field and the value."""

    reason: Reason
    detail: str

    @classmethod
    def of(cls, reason: Reason, name: str, value: object, unit: Unit | None = None) -> "Fault":
        """The fault of one field; `unit` is that of a time."""
        if value is None or value == "":
            return cls(reason, f"no {name}")
        hint = ""
        if reason is Reason.BAD_TIMESTAMP and unit in ("s", "ms") and isfinite(as_seconds(value)):
            hint = ", which looks like milliseconds" if unit == "s" else ", which looks like seconds"
        shown = repr(value)
        return cls(reason, f"{name} is {shown if len(shown) <= SHOWN else shown[:SHOWN] + '...'}{hint}")


Parsed = Review | Item | Reason | Fault | list[Review | Reason]
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


def fault_of(reason: Reason, names: Sequence[str], values: Sequence[object], unit: Unit | None = None) -> Fault:
    """The fault of a review from four fields: user, item, rating and time.

    Args:
        reason: as `make_review` returned it.
        names: of the fields.
        values: as they are in the source.
        unit: of the time.
    """
    at = (Reason.MISSING_USER, Reason.MISSING_ITEM, Reason.BAD_RATING, Reason.BAD_TIMESTAMP).index(reason)
    return Fault.of(reason, names[at], values[at], unit)


def review_of(row: Mapping[str, object], names: tuple[str, str, str, str], unit: Unit) -> Review | Fault:
    """The review in the named fields of a row, or the field and value that make it invalid.

    Integers are accepted as ids, and text as numbers.

    Args:
        row: the fields by name.
        names: of user, item, rating and time.
        unit: of the time.
    """
    user, item, rating, time = values = [row.get(name) for name in names]
    seconds = as_seconds(time, unit)
    made = make_review(as_id(user), as_id(item), as_number(rating), int(seconds) if isfinite(seconds) else None)
    return made if isinstance(made, Review) else fault_of(made, names, values, unit)


def make_interaction(
    user: object, item: object, rating: float | None, time: float | None, split: str | None
) -> Review | Reason:
    """Like `make_review`, for a source that may lack the rating or the time; NaN for a value that is invalid."""
    seconds = int(time) if time is not None and isfinite(time) else time
    made = make_review(user, item, 0 if rating is None else rating, FIRST_SECOND if time is None else seconds, split)
    if isinstance(made, Reason):
        return made
    return Review(made.user_id, made.item_id, rating, None if time is None else made.timestamp, split)


def as_id(value: object) -> object:
    """A value to use as id: integers become text, other values stay."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_number(value: object) -> float:
    """The number that a value is, or is the text of; NaN if it is none."""
    if isinstance(value, str):
        try:
            return nan if "_" in value else float(value)
        except ValueError:
            return nan
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else nan
    except OverflowError:
        return nan


def as_seconds(value: object, unit: Unit | None = None) -> float:
    """Whole seconds since 1970, UTC; NaN if a value is no time from 1990 to 2099.

    Args:
        value: a number, its text, a date or time in ISO 8601, a date such as `03 13, 2011`, or a datetime.
        unit: of numbers; None for the one in which the value lies in these years: the ranges of seconds and of
            milliseconds do not overlap. With `iso`, numbers are no times.
    """
    if isinstance(value, str):
        text = value.strip()
        number: float = int(text) if text.isdecimal() and len(text) < SHOWN else as_number(text)
        if unit == "iso" or number != number:
            return written_time(text)
    elif isinstance(value, date):
        return moment(value)
    else:
        number = value if isinstance(value, int) and not isinstance(value, bool) else as_number(value)
    if unit == "iso" or not abs(number) < LARGEST_RATING:
        return nan
    for divisor in (1, MILLISECONDS) if unit is None else (1,) if unit == "s" else (MILLISECONDS,):
        if FIRST_SECOND <= number // divisor < LAST_SECOND:
            return int(number // divisor)
    return nan


def written_time(text: str) -> float:
    """Seconds since 1970 of a written time; NaN if it is none."""
    try:
        if match := WRITTEN_DATE.fullmatch(text):
            month, day, year = map(int, match.groups())
            return moment(date(year, month, day))
        return moment(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return nan


def moment(value: date) -> float:
    """Seconds since 1970 of a date or datetime, which is UTC unless it has a time zone; NaN outside 1990 to 2099."""
    full = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)
    seconds = int((full if full.tzinfo else full.replace(tzinfo=UTC)).timestamp())
    return seconds if FIRST_SECOND <= seconds < LAST_SECOND else nan


def is_id(value: object) -> bool:
    """Whether a value is a valid id: text that is printable and not blank."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def are_plain(ids: list[str]) -> bool:
    """Whether all ids, which are not empty, consist of visible ASCII characters."""
    characters = np.frombuffer("".join(ids).encode("utf-8", errors="replace"), dtype=np.uint8)
    return bool(len(ids) and characters.min() > ord(" ") and characters.max() <= ord("~"))
