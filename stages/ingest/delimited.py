"""Reviews in CSV and TSV: with a header that names the columns in any order, or by positions in `ingest.columns`.

RecBole's atomic files are TSV whose header also has types: `user_id:token`.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import polars as pl

from mmprep.pipeline.reject_reasons import Reason, Reject, excerpt
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.columns import Cells, Columns, ColumnsParams, Role, find_columns, split_in_name
from mmprep.stages.ingest.line_reader import read_whole_lines
from mmprep.stages.ingest.records import REVIEWS, Fault, Review

DELIMITERS = ("\t", ",", ";", "|")
FRAME_ROWS = 10_000
MAX_RECORD = 1 << 20  # characters of a record over several lines; a quote that stays open longer is a fault
ROLES: tuple[Role, ...] = ("user", "item", "rating", "time", "split")
# Fields that are complete, then either the end or the beginning of a quoted field that is not closed.
COMPLETE = {
    delimiter: re.compile(f'(?:(?: *"(?:[^"]|"")*+"|(?! *"))[^{re.escape(delimiter)}]*+(?:{re.escape(delimiter)}|$))*+')
    for delimiter in DELIMITERS
}
CLOSING = re.compile(r'(?:[^"]|"")*+"(?!")')
Record = tuple[int, list[str]]


@dataclass(frozen=True)
class Dialect:
    """The form of a table of text.

    Attributes:
        delimiter: between fields.
        quoting: whether fields may be in double quotes; not in RecBole's files.
    """

    delimiter: str
    quoting: bool = True

    def fields(self, text: str) -> list[str] | Fault:
        """The fields of a record, without surrounding blanks."""
        if not self.quoting or '"' not in text:
            return [field.strip() for field in text.split(self.delimiter)]
        try:
            fields = next(csv.reader([text], delimiter=self.delimiter, skipinitialspace=True))
        except (csv.Error, StopIteration) as error:
            return Fault(Reason.BAD_COLUMNS, f"not readable as CSV: {error}")
        return [field.strip() for field in fields]

    def is_open(self, text: str, inside: bool) -> bool:
        """Whether a quoted field continues behind a line.

        Args:
            text: the line.
            inside: whether it begins inside of a quoted field.
        """
        if not self.quoting or '"' not in text:
            return inside
        if inside:
            closed = CLOSING.match(text)
            if closed is None:
                return True
            text = text[closed.end() :].partition(self.delimiter)[2]
        match = COMPLETE[self.delimiter].match(text)
        return match is not None and match.end() < len(text)


@dataclass(frozen=True)
class TextTable:
    """A table of text and the roles of its columns.

    Attributes:
        dialect: its form.
        columns: its columns by role.
        width: number of fields of a row; None if rows may differ.
        has_header: whether the first record names the columns.
        offset: 1 if rows begin with a field that the header does not name, as R writes them.
    """

    dialect: Dialect
    columns: Columns
    width: int | None
    has_header: bool
    offset: int = 0

    def review_in(self, fields: list[str]) -> Review | Fault:
        """The interaction in the fields of a row."""
        fields = without_empty_end(fields, self.width)
        positions = self.columns.positions
        if self.width is None:
            if len(fields) <= max(positions.values()):
                return Fault(Reason.BAD_COLUMNS, f"{len(fields)} columns, expected {max(positions.values()) + 1}")
        elif len(fields) != self.width:
            return Fault(Reason.BAD_COLUMNS, f"{len(fields)} columns, expected {self.width}")
        cells = (fields[positions[role] + self.offset] if role in positions else None for role in ROLES)
        return self.columns.review_in(Cells(*cells))


def without_empty_end(fields: list[str], width: int | None) -> list[str]:
    """Fields without empty ones behind the last column, as a comma at the end of the line gives."""
    end = len(fields)
    while end > (width or 0) and not fields[end - 1]:
        end -= 1
    return fields[:end] if width is not None else fields


def find_table(lines: Iterable[str], name: str, wanted: ColumnsParams) -> TextTable | str:
    """Find delimiter and columns of a table, or say in one phrase why there are none.

    Args:
        lines: the first lines of the file.
        name: its file name, which may have the split between dots.
        wanted: section `ingest.columns`.
    """
    first, second = islice((*lines, "", ""), 2)
    if wanted.by_position:
        return table_by_position(first, wanted, name)
    faults: list[tuple[int, str]] = []
    for delimiter in DELIMITERS:
        dialect = Dialect(delimiter, quoting=not re.search(r":(?:token|float)", first))
        header = dialect.fields(first)
        if isinstance(header, Fault) or len(header) < 2:
            continue
        columns = find_columns(header, wanted, split_in_name(name))
        if isinstance(columns, str):
            faults.append((len(header), columns))
            continue
        width = len(without_empty_end(header, 0))
        row = dialect.fields(second)
        offset = int(isinstance(row, list) and len(without_empty_end(row, width)) == width + 1 and bool(second))
        return TextTable(dialect, columns, width + offset, has_header=True, offset=offset)
    return max(faults, default=(0, "no columns found"))[1]


def table_by_position(first: str, wanted: ColumnsParams, name: str) -> TextTable | str:
    """The table of a file without header whose columns `ingest.columns` numbers from 1."""
    positions = {role: at - 1 for role, at in wanted.named.items() if isinstance(at, int)}
    if len(positions) < len(wanted.named):
        return "ingest.columns has names and positions, expected one or the other"
    dialect, width = Dialect(","), 0
    for delimiter in DELIMITERS:
        fields = Dialect(delimiter).fields(first)
        if isinstance(fields, list) and len(fields) > width:
            dialect, width = Dialect(delimiter), len(fields)
    if width <= max(positions.values()):
        return f"{width} columns, expected {max(positions.values()) + 1} by ingest.columns"
    names = {role: f"column {at + 1}" for role, at in positions.items()}
    columns = Columns(positions, names, wanted.unit, split_in_name(name))
    return TextTable(dialect, columns, None, has_header=False)


def table_of(head: FileHead) -> TextTable | str:
    """The table in a file, or why there is none."""
    # Whole lines, as an index column without name begins a TSV's header with a tab.
    whole = (line for line in read_whole_lines(head.path, "") if not isinstance(line, Reject))
    lines = (line.decode("utf-8", errors="replace") for _, line in whole if line.strip())
    return find_table(list(islice(lines, 2)), head.path.name, head.columns)


def is_table(head: FileHead) -> bool:
    """Whether the first line has a column of users and a column of items, or `ingest.columns` numbers them."""
    if not head.lines or head.objects or head.lines[0].startswith((b"{", b"[", b"<")):
        return False
    return isinstance(table_of(head), TextTable)


def is_chosen_table(head: FileHead) -> bool:
    """Whether a file is a table with the columns that `ingest.columns` gives."""
    return bool(head.columns.named) and is_table(head)


def read_frames(head: FileHead, source: str) -> Iterator[pl.DataFrame | Reject]:
    """Yield the valid rows of a table in frames, and rejects with the number of a record's first line.

    Raises:
        ValueError: the file is no such table.
    """
    table = table_of(head)
    if isinstance(table, str):
        raise ValueError(f"{head.path}: {table}")
    rows: list[Review] = []
    is_header = table.has_header
    for record in records(head, source, table.dialect):
        if isinstance(record, Reject):
            yield record
            continue
        number, text = record
        if is_header:
            is_header = False
            continue
        fields = table.dialect.fields(text)
        parsed = fields if isinstance(fields, Fault) else table.review_in(fields)
        if isinstance(parsed, Fault):
            yield Reject(source, number, parsed.reason, f"{parsed.detail}; {excerpt(text.encode())}")
        else:
            rows.append(parsed)
            if len(rows) >= FRAME_ROWS:
                yield pl.DataFrame(rows, schema=REVIEWS, orient="row")
                rows.clear()
    yield pl.DataFrame(rows, schema=REVIEWS, orient="row")


def records(head: FileHead, source: str, dialect: Dialect) -> Iterator[tuple[int, str] | Reject]:
    """Yield each record with the number of its first line; a record spans lines where a quoted field does.

    If a quote is not closed within MAX_RECORD characters, its first line is rejected and reading goes on behind it.
    """
    pending: deque[tuple[int, bytes] | Reject] = deque()
    lines = read_whole_lines(head.path, source)

    def following() -> tuple[int, bytes] | Reject | None:
        return pending.popleft() if pending else next(lines, None)

    while (line := following()) is not None:
        if isinstance(line, Reject):
            yield line
            continue
        taken, size, inside = [line], 0, False
        try:
            texts = [line[1].decode("utf-8")]
            inside = dialect.is_open(texts[0], inside=False)
            while inside and size < MAX_RECORD and (line := following()) is not None:
                if isinstance(line, Reject):
                    pending.appendleft(line)
                    break
                taken.append(line)
                texts.append(line[1].decode("utf-8"))
                size += len(texts[-1]) + 1
                inside = dialect.is_open(texts[-1], inside)
            fault = Fault(Reason.BAD_COLUMNS, "a quote that is not closed") if inside else None
        except UnicodeDecodeError:
            fault = Fault(Reason.BAD_ENCODING, "not UTF-8")
        if fault is None:
            text = "\n".join(texts)
            if text.strip():
                yield taken[0][0], text
        else:
            pending.extendleft(reversed(taken[1:]))
            yield Reject(source, taken[0][0], fault.reason, f"{fault.detail}; {excerpt(taken[0][1])}")


CHOSEN = Format(
    name="a table with the columns that ingest.columns gives",
    kind="reviews",
    matches=is_chosen_table,
    read_frames=read_frames,
)
TABLE = Format(
    name="CSV or TSV whose header names user and item, such as user_id,item_id,rating,timestamp",
    kind="reviews",
    matches=is_table,
    read_frames=read_frames,
)
