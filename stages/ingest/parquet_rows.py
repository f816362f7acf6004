"""Rows of raw Parquet files, such as those of Hugging Face datasets, in bounded memory."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.errors import first_line
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.stages.ingest.records import Parsed

MAGIC = b"PAR1"
BATCH = 1024  # rows; a description may have a megabyte
FAULTS = (pa.ArrowException, OSError, ValueError)


def column_names(path: Path) -> frozenset[str]:
    """Names of a file's columns; empty if it is not Parquet or its footer is damaged."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return frozenset()
    try:
        return frozenset(pq.read_schema(path).names)
    except FAULTS:
        return frozenset()


def parsed_rows(
    path: Path, source: str, columns: tuple[str, ...], parse: Callable[[dict[str, Any]], Parsed]
) -> Iterator[list[tuple[int, Parsed]] | Reject]:
    """Yield a file's rows in batches, each parsed and with its number from 1; damage ends in a reject of the file.

    Args:
        path: the file.
        source: the file's name in rejects.
        columns: the columns to read; those that the file lacks are left out.
        parse: parses the values of these columns.
    """
    number = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            known = [name for name in columns if name in file.schema_arrow.names]
            for batch in file.iter_batches(BATCH, columns=known):
                yield [(number + place, parse(row)) for place, row in enumerate(batch.to_pylist(), start=1)]
                number += batch.num_rows
    except FAULTS as error:
        yield Reject(source, number + 1, Reason.CUT_OFF_FILE, first_line(error))
