"""Reviews whose fields have names: JSON lines by `ingest.columns`, and Parquet, such as the Hugging Face datasets."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.columns import Cells, Columns, find_columns
from mmprep.stages.ingest.json_lines import parse_object
from mmprep.stages.ingest.records import REVIEWS, Fault, Parse, Parsed

PARQUET_MAGIC = b"PAR1"
BATCH_ROWS = 20_000
ROLES = ("user", "item", "rating", "time", "split")
DAMAGE: tuple[type[Exception], ...] = (pa.ArrowException, OSError, ValueError, RuntimeError)


def columns_of_objects(head: FileHead) -> Columns | None:
    """The columns that `ingest.columns` gives, among the fields of the first lines' objects; None without them."""
    named = head.columns.named
    if not named or not all(isinstance(name, str) for name in named.values()):
        return None
    for row in head.objects:
        found = find_columns(list(row), head.columns)
        if isinstance(found, Columns):
            return found
    return None


def object_parser(head: FileHead) -> Parse:
    """Make the line parser of JSON lines with the fields that `ingest.columns` gives."""
    columns = columns_of_objects(head)
    if columns is None:
        raise ValueError(f"{head.path} lacks the fields of ingest.columns")

    def review_in(line: bytes) -> Parsed:
        row = parse_object(line)
        if isinstance(row, Reason):
            return row
        return columns.review_in(Cells(*(row.get(columns.names.get(role, "")) for role in ROLES)))  # type: ignore[call-overload]

    return review_in


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does."""
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def columns_of_parquet(head: FileHead) -> Columns | str:
    """The columns of a Parquet file by role, or in one phrase why there are none."""
    try:
        with pq.ParquetFile(head.path) as file:
            names = file.schema_arrow.names
    except DAMAGE as error:
        return f"damaged Parquet: {str(error).splitlines()[0]}"
    return find_columns(names, head.columns)


def is_parquet_of_reviews(head: FileHead) -> bool:
    """Whether a file is Parquet with a column of users and one of items."""
    return not head.lines and is_parquet(head.path) and isinstance(columns_of_parquet(head), Columns)


def read_parquet(head: FileHead, source: str) -> Iterator[pl.DataFrame | Reject]:
    """Yield the valid rows of a Parquet file in frames, and rejects with the number of the row from 1.

    Columns without a role are not read. A damaged file gives the rows before the damage and a reject.
    """
    columns = columns_of_parquet(head)
    if isinstance(columns, str):
        raise ValueError(f"{head.path}: {columns}")
    number = 0
    try:
        with pq.ParquetFile(head.path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(columns.names.values()))):
                taken = {role: batch.column(name).to_pylist() for role, name in columns.names.items()}
                absent = [None] * len(batch)
                rows = []
                for values in zip(*(taken.get(role, absent) for role in ROLES), strict=True):  # type: ignore[call-overload]
                    number += 1
                    parsed = columns.review_in(Cells(*values))
                    if isinstance(parsed, Fault):
                        yield Reject(source, number, parsed.reason, parsed.detail)
                    else:
                        rows.append(parsed)
                yield pl.DataFrame(rows, schema=REVIEWS, orient="row")
    except DAMAGE as error:
        yield Reject(source, number + 1, Reason.CUT_OFF_FILE, str(error).splitlines()[0])


OBJECTS = Format(
    name="JSON lines with the fields that ingest.columns gives",
    kind="reviews",
    matches=lambda head: columns_of_objects(head) is not None,
    parser=object_parser,
)
PARQUET = Format(
    name="Parquet with columns of users and items, such as user_id and parent_asin",
    kind="reviews",
    matches=is_parquet_of_reviews,
    read_frames=read_parquet,
)
