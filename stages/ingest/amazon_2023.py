"""Amazon 2023 edition: JSON lines of reviews and items, where `parent_asin` is the item, and benchmark CSVs."""

from typing import Any

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import TEST, TRAIN, VAL
from mmprep.pipeline.text import clean_text
from mmprep.stages.ingest.amazon_2014 import fields_in, to_number, to_seconds
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object, quick_reviews
from mmprep.stages.ingest.nested import category_path, is_blank, largest_image, nested_text, unpacked, unusable
from mmprep.stages.ingest.parquet_rows import parsed_rows
from mmprep.stages.ingest.rating_blocks import quick_ratings
from mmprep.stages.ingest.records import (
    MILLISECONDS,
    Fault,
    Item,
    Parse,
    Parsed,
    fault_of,
    is_id,
    make_review,
    review_of,
)

# Columns of metadata that are read from Parquet.
COLUMNS = ("parent_asin", "title", "description", "features", "categories", "details", "store", "images")
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
    """The item in a line."""
    row = parse_object(line)
    return row if isinstance(row, Reason) else parse_item(row)


def parse_item(row: dict[str, Any]) -> Item | Reason:
    """The item that a row describes; `features` replaces a missing description."""
    if not is_id(row.get("parent_asin")):
        return Reason.MISSING_ITEM
    description, features, details = row.get("description"), row.get("features"), unpacked(row.get("details"))
    item = Item(
        item_id=str(row["parent_asin"]),
        title=clean_text(row.get("title")),
        description=nested_text(description) or nested_text(features),
        categories=category_path(row.get("categories")),
        brand=brand(details) or clean_text(row.get("store")),
        image_url=largest_image(row.get("images")),
        features=features,
        details=details,
    )
    published = {
        "title": (row.get("title"), item.title),
        "description": (features if is_blank(description) else description, item.description),
        "categories": (row.get("categories"), item.categories),
        "brand": (row.get("store"), item.brand) if isinstance(details, dict) or is_blank(details) else (details, ""),
        "image_url": (row.get("images"), item.image_url),
    }
    return item._replace(unusable=unusable(published))


def brand(details: object) -> str:
    """The brand in an item's details."""
    return clean_text(details.get("Brand")) if isinstance(details, dict) else ""


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
ITEMS_PARQUET = Format(
    name="metadata of the Amazon 2023 edition as Parquet",
    kind="items",
    matches=lambda head: "parent_asin" in head.parquet_columns and "user_id" not in head.parquet_columns,
    read_parsed=lambda path, source: parsed_rows(path, source, COLUMNS, parse_item),
)
RATINGS = Format(
    name="benchmark ratings of the Amazon 2023 edition",
    kind="reviews",
    matches=lambda head: head.lines[:1] != () and head.lines[0].startswith(HEADER),
    parser=rating_parser,
    block_parser=lambda head: quick_ratings(divisor=MILLISECONDS, split=split_in(head)),
)
