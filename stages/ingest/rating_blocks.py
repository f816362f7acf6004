"""Blocks of ratings in CSV without quotes and blanks, parsed at once, several times as fast as line by line."""

import numpy as np
import polars as pl

from mmprep.stages.ingest.base import ParseBlock
from mmprep.stages.ingest.line_reader import LineBlock
from mmprep.stages.ingest.records import FIRST_SECOND, LARGEST_RATING, LAST_SECOND, REVIEWS

COLUMNS = 4
VISIBLE = (ord("!"), ord("~"))
NAMES = ("user_id", "item_id", "rating", "timestamp")


def quick_ratings(order: tuple[str, ...] = NAMES, divisor: int = 1, split: str | None = None) -> ParseBlock:
    """Make a parser of blocks of lines with four fields each; it returns None for a block with any other line.

    It accepts what the line parsers accept, of plain ids only.

    Args:
        order: NAMES in the order of the fields.
        divisor: units of the time per second.
        split: of all rows.
    """
    schema = dict.fromkeys(order, pl.String)

    def read(piece: LineBlock) -> pl.DataFrame | None:
        lines = len(piece.ends) + (not piece.content.endswith(b"\n"))
        characters = np.frombuffer(piece.content, dtype=np.uint8)
        plain = (characters >= VISIBLE[0]) & (characters <= VISIBLE[1])
        if (
            b'"' in piece.content
            or piece.content.count(b",") != (COLUMNS - 1) * lines
            or np.count_nonzero(plain) + len(piece.ends) != len(characters)
        ):
            return None
        try:
            text = pl.read_csv(piece.content, has_header=False, schema=schema, quote_char=None)
        except pl.exceptions.PolarsError:
            return None
        rows = text.with_columns(
            pl.col("rating").cast(pl.Float64, strict=False),
            pl.col("timestamp").cast(pl.Int64, strict=False),
        )
        valid = rows.select(
            pl.all_horizontal(
                pl.col("user_id", "item_id").str.len_bytes() > 0,
                pl.col("rating").abs() <= LARGEST_RATING,
                pl.col("timestamp").is_between(FIRST_SECOND * divisor, LAST_SECOND * divisor, closed="left"),
            ).fill_null(False)
        ).to_series()
        if len(rows) != lines or not valid.all():
            return None
        return rows.select(
            pl.col("user_id", "item_id"),
            pl.col("rating").cast(pl.Float32),
            pl.col("timestamp") // divisor,
            pl.lit(split, pl.String).alias("split"),
        ).cast(REVIEWS)  # type: ignore[arg-type]

    return read
