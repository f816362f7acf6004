"""Amazon 2023 edition: JSON lines of reviews and items, where `parent_asin` is the item, and benchmark CSVs."""

from typing import Any

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import TEST, TRAIN, VAL
from mmprep.pipeline.text import clean_text
from mmprep.stages.ingest.amazon_2014 import to_number, to_seconds
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object, quick_reviews
from mmprep.stages.ingest.nested import category_path, is_blank, largest_image, nested_text, unpacked, unusable
from mmprep.stages.ingest.parquet_rows import parsed_rows
from mmprep.stages.ingest.records import Item, Parse, Parsed, is_id, make_review

# Columns of metadata that are read from Parquet.
COLUMNS = ("parent_asin", "title", "description", "features", "categories", "details", "store", "images")
MILLISECONDS = 1000
HEADER = b"user_id,parent_asin,rating,timestamp"
SPLIT_NAMES = {"train": TRAIN, "valid": VAL, "test": TEST}  # between dots, in the names of the benchmark's split files


def review_in(line: bytes) -> Parsed:
    """The review in a line."""
    row = parse_object(line)
    if isinstance(row, Reason):
        return row
    time = row.get("timestamp")
    seconds = time // MILLISECONDS if isinstance(time, int) and not isinstance(time, bool) else None
    return make_review(row.get("user_id"), row.get("parent_asin"), row.get("rating"), seconds)


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


def rating_parser(head: FileHead) -> Parse:
    """Make the line parser of a benchmark CSV; files of a split have the split in their name."""
    split = next((SPLIT_NAMES[part] for part in head.path.name.split(".") if part in SPLIT_NAMES), None)

    def rating_in(line: bytes) -> Parsed:
        if line.startswith(HEADER):
            return []
        try:
            fields = line.decode("utf-8").split(",")
        except UnicodeDecodeError:
            return Reason.BAD_ENCODING
        if len(fields) < 4:
            return Reason.BAD_COLUMNS
        return make_review(fields[0], fields[1], to_number(fields[2]), to_seconds(fields[3], MILLISECONDS), split)

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
    matches=lambda head: "parent_asin" in head.columns and "user_id" not in head.columns,
    read_rows=lambda path, source: parsed_rows(path, source, COLUMNS, parse_item),
)
RATINGS = Format(
    name="benchmark ratings of the Amazon 2023 edition",
    kind="reviews",
    matches=lambda head: head.lines[:1] != () and head.lines[0].startswith(HEADER),
    parser=rating_parser,
)
