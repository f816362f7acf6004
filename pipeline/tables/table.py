"""Reading and writing tables as Parquet files of a fixed schema."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.storage.files import atomic_file, require_exists
from mmprep.pipeline.tables.provenance import Provenance, RowsDigest

ROW_GROUP = 1_000_000
PIECE = 2**18  # rows per batch in `iter_batches`


@dataclass(frozen=True)
class Table:
    """A kind of table.

    Attributes:
        name: for messages.
        schema: columns in order; a column that may be empty is nullable.
        made_by: the command that writes it, for messages.
        has_content_digest: whether the file stores an order-independent digest of its rows, which later provenance
            records instead of the file's SHA-256: the bytes depend on the order of the raw files, and later stages
            must not.
        optional: columns that a file may have in addition, after the others and in this order.
    """

    name: str
    schema: pa.Schema
    made_by: str
    has_content_digest: bool = False
    optional: tuple[pa.Field, ...] = ()

    def with_optional(self, columns: Iterable[str]) -> pa.Schema:
        """The schema of a file with these columns."""
        return pa.schema([*self.schema, *(field for field in self.optional if field.name in columns)])

    def write(self, frame: pl.DataFrame, path: Path, provenance: Provenance) -> None:
        """Write rows to `path` atomically, with their provenance in the file's metadata."""
        with self.writer(path, provenance, frame.columns) as write:
            write(frame)

    @contextmanager
    def writer(
        self, path: Path, provenance: Provenance, columns: Iterable[str] = ()
    ) -> Iterator[Callable[[pl.DataFrame], None]]:
        """Yield a function that appends rows; the file is renamed to `path` if the block raises nothing.

        Row groups have ROW_GROUP rows regardless of the sizes appended, so that equal rows give equal bytes. Of the
        optional columns the file has those that `columns` names.
        """
        schema = self.with_optional(columns).with_metadata(provenance.to_metadata())
        whole_numbers = [field.name for field in schema if pa.types.is_integer(field.type)]
        others = [name for name in schema.names if name not in whole_numbers]
        encodings = dict.fromkeys(whole_numbers, "DELTA_BINARY_PACKED")  # smaller and faster than dictionaries
        types = pl.DataFrame(schema.empty_table()).schema
        digest = RowsDigest()
        waiting: list[pl.DataFrame] = []

        with (
            atomic_file(path) as temporary,
            pq.ParquetWriter(
                temporary,
                schema,
                compression="zstd",
                write_page_checksum=True,
                use_dictionary=others,
                column_encoding=encodings,
            ) as file,
        ):

            def append(frame: pl.DataFrame) -> None:
                rows = frame.cast(types)
                file.write_table(rows.to_arrow().cast(schema), row_group_size=ROW_GROUP)
                if self.has_content_digest:
                    digest.add(rows)

            def write(frame: pl.DataFrame) -> None:
                waiting.append(frame.select(schema.names))
                if sum(map(len, waiting)) >= ROW_GROUP:
                    rows = pl.concat(waiting)
                    whole = len(rows) // ROW_GROUP * ROW_GROUP
                    append(rows[:whole])
                    waiting[:] = [rows[whole:]]

            yield write
            if waiting:
                append(pl.concat(waiting))
            if self.has_content_digest:
                file.add_key_value_metadata(digest.to_metadata())

    def read(self, path: Path, columns: list[str] | None = None) -> pl.DataFrame:
        """Read a table from a file.

        Raises:
            MissingInputError: the file does not exist.
            DataError: the file is not Parquet or has other columns.
        """
        self.check(path)
        try:
            # Not `read_table`: importing it takes longer than reading most tables.
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                rows = file.read(columns)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(path, error) from error
        frame = pl.from_arrow(rows.replace_schema_metadata(None))
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("a table became a series")
        return frame

    def iter_batches(self, path: Path) -> Iterator[pl.DataFrame]:
        """Read a file in batches of at most PIECE rows; raises the errors of `read`."""
        self.check(path)
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                for batch in file.iter_batches(PIECE):
                    yield pl.DataFrame(pa.Table.from_batches([batch]).replace_schema_metadata(None))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(path, error) from error

    def count(self, path: Path) -> int:
        """Number of rows of a file, from its footer; raises the errors of `check`."""
        self.check(path)
        return int(pq.read_metadata(path).num_rows)

    def count_values(self, path: Path, column: str) -> int:
        """Number of values of a column that are not null, from the footer; raises the errors of `read`."""
        self.check(path)
        footer, place = pq.read_metadata(path), self.schema.get_field_index(column)
        statistics = [footer.row_group(number).column(place).statistics for number in range(footer.num_row_groups)]
        if any(group is None for group in statistics):  # another program wrote the file
            return int(self.read(path, [column])[column].count())
        return sum(int(group.num_values) for group in statistics)

    def check(self, path: Path) -> None:
        """Check that a file exists and has this table's columns, without reading its rows.

        Raises:
            MissingInputError: the file does not exist.
            DataError: the file is not Parquet or has other columns.
        """
        require_exists(path, self.made_by)
        try:
            found = pq.read_schema(path)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(path, error) from error
        expected = self.with_optional(found.names)
        if not found.remove_metadata().equals(expected):
            raise DataError(f"{path}: not a table of {self.name}: {difference(found, expected)}")

    def _damaged(self, path: Path, error: Exception) -> DataError:
        return DataError(f"{path}: damaged ({str(error).splitlines()[0]}); remove it and run `{self.made_by}`")


def difference(found: pa.Schema, expected: pa.Schema) -> str:
    """Describe the difference of two schemas in one line."""
    as_text = [
        ", ".join(f"{field.name} {field.type}{' or null' if field.nullable else ''}" for field in schema)
        for schema in (found, expected)
    ]
    return f"found ({as_text[0]}), expected ({as_text[1]})"


def may_contain(column: pq.ColumnChunkMetaData, value: int) -> bool:
    """Whether a column of a row group may contain a value, by its minimum and maximum statistics."""
    statistics = column.statistics
    return statistics is None or not statistics.has_min_max or statistics.min <= value <= statistics.max
