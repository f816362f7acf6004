"""Catalogue of raw file formats, and detection of a file's format by its content."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.schemas import SPLITS
from mmprep.stages.ingest import amazon_2014, amazon_2018, amazon_2023, given_splits, matrices
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.json_lines import parse_object
from mmprep.stages.ingest.line_reader import MAX_LINE_BYTES, read_lines
from mmprep.stages.ingest.parquet_rows import column_names

# Tried in this order; the first that matches is taken.
FORMATS = (
    given_splits.MMREC,
    given_splits.LATTICE,
    amazon_2023.RATINGS,
    amazon_2023.REVIEWS,
    amazon_2023.ITEMS,
    amazon_2023.ITEMS_PARQUET,
    amazon_2018.REVIEWS,
    amazon_2014.ITEMS,
    amazon_2018.ITEMS,
    amazon_2018.ITEMS_PARQUET,
    amazon_2018.RATINGS,
    amazon_2014.RATINGS,
    matrices.MATRIX,
)
SUFFIXES = tuple(f".{kind}{packed}" for kind in ("json", "jsonl", "csv", "inter") for packed in ("", ".gz", ".zst"))
SUFFIXES += (".parquet",)
LINES_TO_RECOGNISE = 100

# Id tables beside a published split. Read with the split; they have no rows of their own.
COMPANIONS = frozenset({"user2id.json", "item2id.json", "u_id_mapping.csv", "i_id_mapping.csv"})


def detect_format(path: Path) -> tuple[Format, FileHead] | Reason:
    """Detect a file's format; returns it with the file's head, or why no format matches."""
    if path.name in matrices.NAMES:
        return matrices.MATRIX, FileHead(path, (), ())
    if columns := column_names(path):
        head = FileHead(path, (), (), columns)
        return next(((known, head) for known in FORMATS if known.matches(head)), Reason.UNKNOWN_FORMAT)
    first = list(islice(read_lines(path, path.name, longest_line(path)), LINES_TO_RECOGNISE))
    faults = [line.reason for line in first if isinstance(line, Reject)]
    lines = tuple(line[1] for line in first if not isinstance(line, Reject))
    head = FileHead(path, lines, tuple(objects_in(lines)))
    for known in FORMATS:
        if known.matches(head):
            return known, head
    if path.stat().st_size == 0:
        return Reason.EMPTY_FILE
    return faults[0] if faults else Reason.UNKNOWN_FORMAT


def longest_line(path: Path) -> int:
    """Maximum length of a line of a file, in bytes."""
    return given_splits.MAX_LINE_BYTES if given_splits.split_of(path) in SPLITS else MAX_LINE_BYTES


def objects_in(lines: tuple[bytes, ...]) -> Iterator[dict[str, object]]:
    """The JSON objects among lines."""
    for line in lines:
        row = parse_object(line)
        if not isinstance(row, Reason):
            yield row
