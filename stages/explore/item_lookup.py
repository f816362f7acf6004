"""Look up an item of a dataset by its original id or its index."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import ITEMS
from mmprep.pipeline.text import printable

COLUMNS = ["item", "item_id", "title", "brand", "categories", "image"]
CANDIDATES = 10_000  # ids to compare with an unknown one letter by letter, which takes a second


@dataclass(frozen=True)
class Item:
    """An item's index, id and metadata.

    Attributes:
        item: dense index.
        item_id: the original id.
        title, brand, categories: as published, so untrusted; empty where unknown.
        image: the photo's name below the raw folder; None without a photo.
    """

    item: int
    item_id: str
    title: str
    brand: str
    categories: str
    image: str | None


class Items:
    """The items of a dataset, searchable by id.

    Raises:
        MissingInputError: there is no table of items.
        DataError: it is damaged.
    """

    def __init__(self, layout: Layout) -> None:
        self._path = layout.items
        self._frame = ITEMS.read(layout.items, COLUMNS)

    def number_of(self, item: str) -> int:
        """The dense index of an item.

        Args:
            item: its original id, or `#` and its dense index.

        Raises:
            DataError: there is no such item; the message suggests the most similar ids.
        """
        found = self._frame.filter(pl.col("item_id") == item)["item"]
        if len(found):
            return int(found[0])
        digits, count = item.removeprefix("#"), len(self._frame)
        if digits == item or not (digits.isascii() and digits.isdigit()):
            close = [printable(each) for each in closest(self._frame["item_id"], item)]
            hint = f"; did you mean {' or '.join(close)}?" if close else ""
            raise DataError(f"item: found {item!r}, expected an id of {self._path}, or # and an index{hint}")
        if int(digits) >= count:
            raise DataError(f"item: found {item}, expected one of the {count} of {self._path}, #0 to #{count - 1}")
        return int(digits)

    def at(self, numbers: Iterable[int]) -> dict[int, Item]:
        """Items by dense index, without indices that do not exist."""
        chosen = self._frame.filter(pl.col("item").is_in(list(numbers)))
        return {row["item"]: Item(**row) for row in chosen.iter_rows(named=True)}


def closest(ids: pl.Series, unknown: str) -> list[str]:
    """The three ids most similar to an unknown one, the most similar first.

    A single typo leaves the first or the last half of an id intact, so not all ids need to be compared.
    """
    unknown, lower = unknown.lower(), ids.str.to_lowercase()
    half = max(1, (len(unknown) - 1) // 2)
    similar = ids.filter(lower.str.starts_with(unknown[:half]) | lower.str.ends_with(unknown[-half:]))
    by_lower = {each.lower(): each for each in similar.head(CANDIDATES)}
    return [by_lower[each] for each in get_close_matches(unknown, by_lower)]
