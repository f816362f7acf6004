"""RecBole's atomic files of items: TSV with types in the header, `item_id:token` and `title:token_seq`."""

from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.text import clean_text
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.records import Fault, Item, Parse, Parsed, is_id

ITEM = ("item_id", "asin", "parent_asin")
TITLE, DESCRIPTION = ("title", "item_name", "name"), ("description",)
CATEGORIES = ("categories", "category", "class", "genre")
BRAND, IMAGE = ("brand", "store"), ("image_url", "imUrl", "image")


def item_parser(head: FileHead) -> Parse:
    """Make the line parser of a file of items."""
    header = head.lines[0].decode("utf-8", errors="replace").split("\t")
    at = {name.partition(":")[0]: place for place, name in enumerate(header)}

    def item_in(line: bytes) -> Parsed:
        try:
            fields = line.decode("utf-8").split("\t")
        except UnicodeDecodeError:
            return Reason.BAD_ENCODING
        if fields == header:
            return []
        # Lines are stripped, so that empty fields at their end are missing.
        fields += [""] * (len(header) - len(fields))
        if len(fields) > len(header):
            return Fault(Reason.BAD_COLUMNS, f"{len(fields)} columns, expected {len(header)}")

        def first(names: tuple[str, ...]) -> str:
            return next((fields[at[name]].strip() for name in names if name in at), "")

        if not is_id(first(ITEM)):
            return Reason.MISSING_ITEM
        return Item(
            item_id=first(ITEM),
            title=clean_text(first(TITLE)),
            description=clean_text(first(DESCRIPTION)),
            categories=clean_text(first(CATEGORIES)),
            brand=clean_text(first(BRAND)),
            image_url=first(IMAGE) or None,
        )

    return item_in


def is_atomic_items(head: FileHead) -> bool:
    """Whether the first line has typed columns, one of items and none of users."""
    names = head.lines[0].split(b"\t") if head.lines else []
    plain = {name.partition(b":")[0].decode("utf-8", errors="replace") for name in names}
    typed = bool(names) and all(b":token" in name or b":float" in name for name in names)
    return typed and bool(plain & set(ITEM)) and "user_id" not in plain


ITEMS = Format(
    name="RecBole's .item",
    kind="items",
    matches=is_atomic_items,
    parser=item_parser,
)
