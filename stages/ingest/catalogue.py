"""Catalogue of raw file formats, and detection of a file's format by its content."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.schemas import SPLITS
from mmprep.stages.ingest import (
    amazon_2014,
    amazon_2018,
    amazon_2023,
    atomic_items,
    delimited,
    given_splits,
    matrices,
    named_fields,
    user_lists,
)
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.columns import NO_COLUMNS, ColumnsParams
from mmprep.stages.ingest.json_documents import read_row_lines
from mmprep.stages.ingest.json_lines import parse_object
from mmprep.stages.ingest.line_reader import MAX_LINE_BYTES, ZIP_MAGIC, zip_member
from mmprep.stages.ingest.parquet_rows import column_names
from mmprep.stages.ingest.records import Fault

# Tried in this order; the first that matches is taken.
FORMATS = (
    delimited.CHOSEN,
    named_fields.OBJECTS,
    named_fields.PARQUET,
    given_splits.MMREC,
    given_splits.LATTICE,
    user_lists.LISTS,
    amazon_2023.RATINGS,
    amazon_2023.REVIEWS,
    amazon_2023.ITEMS,
    amazon_2023.ITEMS_PARQUET,
    amazon_2018.REVIEWS,
    amazon_2018.LITERAL_REVIEWS,
    amazon_2014.ITEMS,
    amazon_2018.ITEMS,
    amazon_2018.ITEMS_PARQUET,
    delimited.TABLE,
    atomic_items.ITEMS,
    amazon_2018.RATINGS,
    amazon_2014.RATINGS,
    matrices.MATRIX,
)
PARQUET = (named_fields.PARQUET, amazon_2023.ITEMS_PARQUET, amazon_2018.ITEMS_PARQUET)
KINDS = ("json", "jsonl", "csv", "tsv", "inter", "item")
SUFFIXES = (*(f".{kind}{packed}" for kind in KINDS for packed in ("", ".gz", ".zst")), ".zip", ".parquet")
LINES_TO_RECOGNISE = 100
FIELDS_SHOWN = 8
NO_HEADER = ("no columns found", "no column of users and items")

# Id tables beside a published split. Read with the split; they have no rows of their own.
COMPANIONS = frozenset(
    {
        *("user2id.json", "item2id.json", "u_id_mapping.csv", "i_id_mapping.csv", "user_list.txt", "item_list.txt"),
        "user-item-dict.json",  # LATTICE's, the union of the parts
    }
)
LIST_NAMES = frozenset(f"{name}.txt" for name in ("train", "val", "valid", "test"))


def detect_format(path: Path, columns: ColumnsParams = NO_COLUMNS) -> tuple[Format, FileHead] | Reason:
    """Detect a file's format; returns it with the file's head, or why no format matches.

    Args:
        path: the file.
        columns: section `ingest.columns`.
    """
    if path.name in matrices.NAMES:
        return matrices.MATRIX, FileHead(path, (), ())
    if named_fields.is_parquet(path):
        head = FileHead(path, (), (), columns, column_names(path))
        return next(((known, head) for known in PARQUET if known.matches(head)), Reason.UNKNOWN_FORMAT)
    if is_zip(path) and isinstance(member := zip_member(path), Reason):
        return member
    first = list(islice(read_row_lines(path, path.name, longest_line(path)), LINES_TO_RECOGNISE))
    faults = [line.reason for line in first if isinstance(line, Reject)]
    lines = tuple(line[1] for line in first if not isinstance(line, Reject))
    head = FileHead(path, lines, tuple(objects_in(lines)), columns)
    for known in FORMATS:
        if known.matches(head):
            return known, head
    if path.stat().st_size == 0:
        return Reason.EMPTY_FILE
    return faults[0] if faults else Reason.UNKNOWN_FORMAT


def explain(path: Path, columns: ColumnsParams = NO_COLUMNS) -> str:
    """Say in one phrase why a file has no known format, from its first lines; empty if that is not known."""
    if named_fields.is_parquet(path):
        return str(named_fields.columns_of_parquet(FileHead(path, (), (), columns)))
    first = list(islice(read_row_lines(path, path.name, longest_line(path)), LINES_TO_RECOGNISE))
    lines = tuple(line[1] for line in first if not isinstance(line, Reject))
    if not lines:
        return "it has no lines"
    objects = tuple(objects_in(lines))
    if objects:
        return f"JSON objects with {', '.join(map(str, list(objects[0])[:FIELDS_SHOWN]))}, which are of no known kind"
    if lines[0].startswith((b"<", b"{", b"[")) or b"\0" in lines[0]:
        return {ord("<"): "a page of HTML or XML", ord("{"): "broken JSON", ord("["): "broken JSON"}.get(
            lines[0][0], ""
        )
    parsed = [amazon_2014.rating_in(line) for line in lines]
    faults = [str(fault.detail) for fault in parsed if isinstance(fault, Fault)]
    table = delimited.table_of(FileHead(path, lines, (), columns))
    if isinstance(table, str) and not table.startswith(NO_HEADER):
        return table
    return max(set(faults), key=faults.count) if faults and b"," in lines[0] else ""


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does."""
    with path.open("rb") as file:
        return file.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def longest_line(path: Path) -> int:
    """Maximum length of a line of a file, in bytes."""
    return given_splits.MAX_LINE_BYTES if given_splits.split_of(path) in SPLITS else MAX_LINE_BYTES


def objects_in(lines: tuple[bytes, ...]) -> Iterator[dict[str, object]]:
    """The JSON objects among lines."""
    for line in lines:
        row = parse_object(line)
        if not isinstance(row, Reason):
            yield row
