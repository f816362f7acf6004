"""Warning of items that get no feature."""

import logging
from collections.abc import Sequence
from typing import Literal

import polars as pl

logger = logging.getLogger(__name__)

FILLS = {
    "mean": "training gives them the mean of the others",
    "zeros": "training gives them zeros",
    "error": "recommenders that need it refuse to train",
}


def warn_of_missing(
    name: str, noun: str, items: pl.DataFrame, encoded: Sequence[int], missing: Literal["mean", "zeros", "error"]
) -> None:
    """Warn of items without a feature, with an example; no warning if all have one.

    Args:
        name: the encoder's name.
        noun: what such an item lacks, such as `photo`.
        items: table ITEMS.
        encoded: the items with a feature.
        missing: parameter `extract.missing`.
    """
    without = items.filter(~pl.col("item").is_in(pl.Series(encoded, dtype=pl.Int32).implode()))
    if len(without):
        logger.warning(
            "%s: %d of %d items have no usable %s, such as %r; %s (extract.missing: %s)",
            *(name, len(without), len(items), noun, without["item_id"][0], FILLS[missing], missing),
        )
