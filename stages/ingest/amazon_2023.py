"""Amazon 2023 edition: JSON lines of reviews and items, where `parent_asin` is the item, and benchmark CSVs."""

from typing import Any

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import TEST, TRAIN, VAL
from mmprep.pipeline.text import clean_text, join_paths
from mmprep.stages.ingest.amazon_2014 import fields_in, to_number, to_seconds
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object, quick_reviews
from mmprep.stages.ingest.rating_blocks import quick_ratings
from mmprep.stages.ingest.records import (
    MILLISECONDS,
    Fault,
    Item,
    Parse,
    Parsed,
    fault_of,
    first_url,
    is_id,
    make_review,
    review_of,
)

NAMES = ("user_id", "parent_asin", "rating", "timestamp")
HEADER = ",".join(NAMES).encode()
SPLIT_NAMES = {"train": TRAIN, "valid": VAL, "test": TEST}  # between dots, in the names of the benchmark's split files


def review_in(line: bytes) -> Parsed:
    """The review in a line; `sortTimestamp`, of the edition's first publication, replaces a missing `timestamp`."""
    row = parse_object(line)
    if isinstance(row, Reason):
        return row
    time = "sortTimestamp" if "sortTimestamp" in row and row.get("timestamp") is None else "timestamp"
    return review_of(row, ("user_id", "parent_asin", "rating", time), "ms")


def item_in(line: bytes) -> Parsed:
    """The item in a line; `features` replaces a missing description."""
    row = parse_object(line)
    if isinstance(row, Reason):
        return row
    if not is_id(row.get("parent_asin")):
        return Reason.MISSING_ITEM
    return Item(
        item_id=str(row["parent_asin"]),
        title=clean_text(row.get("title")),
        description=clean_text(row.get("description")) or clean_text(row.get("features")),
        categories=join_paths([row.get("categories")]),
        brand=brand(row),
        image_url=first_image(row.get("images")),
    )


def brand(row: dict[str, Any]) -> str:
    """The brand in `details`, else the store."""
    details = row.get("details")
    named = clean_text(details.get("Brand")) if isinstance(details, dict) else ""
    return named or clean_text(row.get("store"))


def first_image(images: object) -> str | None:
    """The URL of the first image, in its largest size."""
    for image in images if isinstance(images, list) else ():
        if isinstance(image, dict) and (url := first_url([image.get(size) for size in ("hi_res", "large", "thumb")])):
            return url
    return None


def split_in(head: FileHead) -> str | None:
    """The split between dots in a file's name, or None."""
    return next((SPLIT_NAMES[part] for part in head.path.name.split(".") if part in SPLIT_NAMES), None)


def rating_parser(head: FileHead) -> Parse:
    """Make the line parser of a benchmark CSV; files of a split have the split in their name."""
    split = split_in(head)

    def rating_in(line: bytes) -> Parsed:
        if line.startswith(HEADER):
            return []
        fields = fields_in(line)
        if isinstance(fields, Reason):
            return fields
        if len(fields) < 4:
            return Fault(Reason.BAD_COLUMNS, f"{len(fields)} columns, expected 4")
        made = make_review(fields[0], fields[1], to_number(fields[2]), to_seconds(fields[3], MILLISECONDS), split)
        return made if not isinstance(made, Reason) else fault_of(made, NAMES, fields, "ms")

    return rating_in


REVIEWS = Format(
    name="reviews of the Amazon 2023 edition",
    kind="reviews",
    matches=lambda head: any("user_id" in row and "parent_asin" in row and "rating" in row for row in head.objects),
    parser=lambda head: review_in,  # noqa: ARG005 - the same for every file
    parse_block=quick_reviews("user_id", "parent_asin", "rating", "timestamp", divisor=MILLISECONDS),
)
ITEMS = Format(
    name="metadata of the Amazon 2023 edition",
    kind="items",
    matches=lambda head: any("parent_asin" in row and "user_id" not in row for row in head.objects),
    parser=lambda head: item_in,  # noqa: ARG005
)
RATINGS = Format(
    name="benchmark ratings of the Amazon 2023 edition",
    kind="reviews",
    matches=lambda head: head.lines[:1] != () and head.lines[0].startswith(HEADER),
    parser=rating_parser,
    block_parser=lambda head: quick_ratings(divisor=MILLISECONDS, split=split_in(head)),
)
