"""The Amazon 2018 edition: JSON lines of reviews and of item metadata."""

import json
from typing import NamedTuple

from pipeline.rejects import Reason
from pipeline.text import clean_text

FIRST_SECOND = 631_152_000  # 1990-01-01; the oldest Amazon review is of 1996
LAST_SECOND = 4_102_444_800  # 2100-01-01; milliseconds taken for seconds lie beyond
LARGEST_RATING = 3.4e38  # what an f32 holds


class Review(NamedTuple):
    """A row of interactions.parquet."""

    user_id: str
    item_id: str
    rating: float
    timestamp: int


class Item(NamedTuple):
    """A row of items.parquet, still without its photo."""

    item_id: str
    title: str
    description: str
    categories: str
    brand: str
    image_url: str | None


def is_review(row: dict[str, object]) -> bool:
    """Whether a row is a review."""
    return "overall" in row and ("reviewerID" in row or "reviewText" in row or "unixReviewTime" in row)


def is_item(row: dict[str, object]) -> bool:
    """Whether a row describes an item."""
    return "asin" in row and "reviewerID" not in row and bool({"title", "category", "imageURL", "brand"} & row.keys())


def parse_object(line: bytes) -> dict[str, object] | Reason:
    """The JSON object in a line, or why there is none."""
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        return Reason.BAD_ENCODING
    except (ValueError, RecursionError):
        return Reason.BAD_JSON
    return row if isinstance(row, dict) else Reason.NOT_AN_OBJECT


def parse_review(row: dict[str, object]) -> Review | Reason:
    """The review in a row, or why there is none."""
    user, item, rating, time = (row.get(key) for key in ("reviewerID", "asin", "overall", "unixReviewTime"))
    if not is_id(user):
        return Reason.MISSING_USER
    if not is_id(item):
        return Reason.MISSING_ITEM
    if isinstance(rating, bool) or not isinstance(rating, int | float) or not abs(rating) <= LARGEST_RATING:
        return Reason.BAD_RATING
    if isinstance(time, bool) or not isinstance(time, int) or not FIRST_SECOND <= time < LAST_SECOND:
        return Reason.BAD_TIMESTAMP
    return Review(str(user), str(item), float(rating), time)


def parse_item(row: dict[str, object]) -> Item | Reason:
    """The item that a row describes, or why there is none."""
    if not is_id(row.get("asin")):
        return Reason.MISSING_ITEM
    return Item(
        item_id=str(row["asin"]),
        title=clean_text(row.get("title")),
        description=clean_text(row.get("description")),
        categories=clean_text(row.get("category"), separator=", "),
        brand=clean_text(row.get("brand")),
        image_url=first_url(row.get("imageURLHighRes")) or first_url(row.get("imageURL")),
    )


def is_id(value: object) -> bool:
    """Whether a value serves as an id: text without control characters and not blank."""
    return isinstance(value, str) and value.isprintable() and bool(value.strip())


def first_url(value: object) -> str | None:
    """The first address in a list of them."""
    return next((str(url) for url in value if is_id(url)), None) if isinstance(value, list) else None
