"""Amazon 2018 edition: JSON lines of reviews and of item metadata.

The 2014 edition's reviews have the same format. Its metadata, where converted to JSON, is read here too.
"""

import re

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.text import clean_text
from mmprep.stages.ingest import amazon_2014
from mmprep.stages.ingest.amazon_2014 import is_ratings
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object, quick_reviews
from mmprep.stages.ingest.nested import category_path, nested_text, paths_in, unusable, url_in
from mmprep.stages.ingest.parquet_rows import parsed_rows
from mmprep.stages.ingest.rating_blocks import quick_ratings
from mmprep.stages.ingest.records import Fault, Item, Parsed, Review, is_id, review_of

DESCRIBING = frozenset({"title", "category", "imageURL", "imageURLHighRes", "brand", "also_buy", "main_cat"})
DESCRIBING_2014 = frozenset({"categories", "imUrl", "salesRank", "related", "description"})

IMAGES = (
    "imageURLHighRes",
    "imageURL",
    "image",
    "imUrl",
)  # the largest first; the edition's first publication had `image`
# Columns of metadata that are read from Parquet.
TEXTS = ("title", "description", "category", "categories", "brand", "feature", "details")
COLUMNS = ("asin", *TEXTS, *IMAGES, "imUrl")
ASIN, REVIEWER = re.compile(r"(B0|\d\d)[0-9A-Z]{8}"), re.compile(r"A[0-9A-Z]{9,20}")


def is_review(row: dict[str, object]) -> bool:
    """Whether a row is a review."""
    return "overall" in row and ("reviewerID" in row or "reviewText" in row or "unixReviewTime" in row)


def is_item(row: dict[str, object]) -> bool:
    """Whether a row describes an item."""
    return "asin" in row and "reviewerID" not in row and bool((DESCRIBING | DESCRIBING_2014) & row.keys())


def parse_review(row: dict[str, object]) -> Review | Fault:
    """The review in a row, or why there is none; `reviewTime` replaces a missing `unixReviewTime`."""
    time = "reviewTime" if "reviewTime" in row and row.get("unixReviewTime") is None else "unixReviewTime"
    return review_of(row, ("reviewerID", "asin", "overall", time), "s")


def parse_item(row: dict[str, object]) -> Item | Reason:
    """The item that a row describes, or why there is none."""
    if not is_id(row.get("asin")):
        return Reason.MISSING_ITEM
    title, description, brand = clean_text(row.get("title")), nested_text(row.get("description")), row.get("brand")
    categories = category_path(row.get("category")) or paths_in(row.get("categories"))
    images, single = [row.get(name) for name in IMAGES], row.get("imUrl")
    image_url = next(filter(None, map(url_in, images)), None) or amazon_2014.image_in(single)
    published = {
        "title": (row.get("title"), title),
        "description": (row.get("description"), description),
        "categories": ([row.get("category"), row.get("categories")], categories),
        "brand": (brand, clean_text(brand)),
        "image_url": ([*images, single], image_url),
    }
    described = (title, description, categories, clean_text(brand), image_url)
    return Item(str(row["asin"]), *described, unusable(published), row.get("feature"), row.get("details"))


def review_in(line: bytes) -> Parsed:
    """The review in a line."""
    row = parse_object(line)
    return row if isinstance(row, Reason) else parse_review(row)


def literal_review_in(line: bytes) -> Parsed:
    """The review in a line of Python literals."""
    row = amazon_2014.parse_literal(line)
    return row if isinstance(row, Reason) else parse_review(row)


def item_in(line: bytes) -> Parsed:
    """The item in a line."""
    row = parse_object(line)
    return row if isinstance(row, Reason) else parse_item(row)


def is_item_first(head: FileHead) -> bool:
    """Whether the lines are ratings as in 2014, but with the item before the user, judging by the ids' patterns."""
    rows = [amazon_2014.fields_in(line) for line in head.lines]
    pairs = [[] if isinstance(row, Reason) else row[:2] for row in rows]
    swapped = sum(bool(len(ids) == 2 and ASIN.fullmatch(ids[0]) and REVIEWER.fullmatch(ids[1])) for ids in pairs)
    return is_ratings(head) and 2 * swapped > len(pairs)


def rating_in(line: bytes) -> Parsed:
    """The interaction in a line `item,user,rating,timestamp`."""
    fields = amazon_2014.fields_in(line)
    return fields if isinstance(fields, Reason) else amazon_2014.rating_of([*fields[1::-1], *fields[2:]])


def is_literal_review(head: FileHead) -> bool:
    """Whether a line is a review in Python notation."""
    quoted = (line for line in head.lines if line.startswith(b"{'") and b"'reviewerID':" in line)
    rows = map(amazon_2014.parse_literal, quoted)
    return any(is_review(row) for row in rows if not isinstance(row, Reason))


REVIEWS = Format(
    name="reviews of the Amazon 2014 or 2018 edition",
    kind="reviews",
    matches=lambda head: any(map(is_review, head.objects)),
    parser=lambda head: review_in,  # noqa: ARG005 - the same for every file
    parse_block=quick_reviews("reviewerID", "asin", "overall", "unixReviewTime"),
)
ITEMS = Format(
    name="metadata of the Amazon 2018 edition, or of 2014 as JSON",
    kind="items",
    matches=lambda head: any(map(is_item, head.objects)) and not any(line.startswith(b"{'") for line in head.lines),
    parser=lambda head: item_in,  # noqa: ARG005
)
ITEMS_PARQUET = Format(
    name="metadata of the Amazon 2018 edition as Parquet",
    kind="items",
    matches=lambda head: is_item(dict.fromkeys(head.parquet_columns)) and "overall" not in head.parquet_columns,
    read_parsed=lambda path, source: parsed_rows(path, source, COLUMNS, parse_item),
)
RATINGS = Format(
    name="ratings of the Amazon 2018 edition",
    kind="reviews",
    matches=is_item_first,
    parser=lambda head: rating_in,  # noqa: ARG005
    block_parser=lambda head: quick_ratings(("item_id", "user_id", "rating", "timestamp")),  # noqa: ARG005
)
LITERAL_REVIEWS = Format(
    name="reviews in Python notation",
    kind="reviews",
    matches=is_literal_review,
    parser=lambda head: literal_review_in,  # noqa: ARG005
)
