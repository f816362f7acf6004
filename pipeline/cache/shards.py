"""A shard of the row cache: rows and their keys in one Parquet file that never changes, named by its own digest."""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.cache.packing import stored_type, to_stored
from mmprep.pipeline.storage.store import FileInfo, Store
from mmprep.pipeline.tables.provenance import METADATA_KEY

Keys = npt.NDArray[np.bytes_]
Rows = npt.NDArray[np.int64]

KEY_BYTES = 32
KEY = pa.field("key", pa.binary(KEY_BYTES), nullable=False)
KEYS_METADATA = b"mmprep.keys"
NAME = re.compile(r"[0-9a-f]{64}\.parquet")
# Whole groups are read for the sake of a row. Groups four times larger are read no faster, and written no faster.
GROUP_BYTES = 256 * 1024
READ_BYTES = 8 * 1024 * 1024
TAIL_BYTES = 64 * 1024
FOOTER_END = 8  # the footer's length and Parquet's magic


class NotAShardError(ValueError):
    """A file is no shard, or one of other rows."""


def shard_schema(values: pa.Schema, fingerprint: Mapping[str, Any]) -> pa.Schema:
    """The columns of a shard, with what made its rows in the metadata, so that a shard tells where it belongs."""
    columns = {field.name: str(field.type) for field in values}
    made_by = json.dumps({"encoder": dict(fingerprint), "columns": columns}, sort_keys=True, allow_nan=False)
    fields = [KEY, *(field.with_type(stored_type(field.type)) for field in values)]
    return pa.schema(fields, metadata={METADATA_KEY: made_by.encode()})


def to_keys(keys: Sequence[bytes]) -> Keys:
    """Keys as an array [n] of 32 bytes each. NumPy drops trailing zeros of single ones, so compare arrays only.

    Raises:
        ValueError: one is not of 32 bytes.
    """
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"a key is a SHA-256, {KEY_BYTES} bytes")
    return np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}")


def to_list(keys: Keys) -> list[bytes]:
    """Keys [n] one by one, each of 32 bytes."""
    raw = keys.tobytes()
    return [raw[at : at + KEY_BYTES] for at in range(0, len(raw), KEY_BYTES)]


class ShardWriter:
    """Writes batches of keys and values into row groups of about GROUP_BYTES, at least a row each.

    Args:
        sink: a path or an Arrow stream.
        schema: what `shard_schema` gave.
    """

    def __init__(self, sink: Path | pa.NativeFile, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        # Vectors of floats hardly compress: zstd takes 8 % off and makes reading half as fast.
        options = {"compression": "none", "use_dictionary": False, "write_statistics": False}
        self._file = pq.ParquetWriter(sink, schema, write_page_checksum=True, **options)
        self._keys: list[bytes] = []
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = 0

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a batch that has the schema's columns."""
        if batch.num_rows == 0:
            return
        self.rows += batch.num_rows
        self._keys.append(b"".join(batch.column(0).to_pylist()))
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= GROUP_BYTES:
            self._write(last=False)

    def close(self) -> None:
        """Write what waits, and the keys into the footer, where one short read finds them all."""
        self._write(last=True)
        self._file.add_key_value_metadata({KEYS_METADATA: base64.b64encode(b"".join(self._keys))})
        self._file.close()

    def _write(self, last: bool) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting)
        step = max(1, table.num_rows * GROUP_BYTES // max(1, table.nbytes))
        whole = table.num_rows if last else table.num_rows // step * step
        if whole:
            self._file.write_table(table[:whole], row_group_size=step)
        rest = table[whole:]
        self._waiting, self._waiting_bytes = rest.to_batches(), rest.nbytes


def encode_shard(keys: Sequence[bytes], rows: pa.RecordBatch, schema: pa.Schema) -> pa.Buffer:
    """A shard's bytes; equal rows give equal bytes.

    Raises:
        ValueError: there are more or fewer rows than keys, or a vector holds a null.
    """
    sink = pa.BufferOutputStream()
    writer = ShardWriter(sink, schema)
    columns = [pa.array(keys, KEY.type), *(to_stored(column) for column in rows.columns)]
    writer.append(pa.record_batch(columns, schema=schema))
    writer.close()
    return sink.getvalue()


def read_footer(place: Store, shard: FileInfo) -> pq.FileMetaData:
    """A shard's footer, by one short read or two.

    Raises:
        NotAShardError: the footer is damaged.
        FileNotFoundError: the shard has gone.
    """
    tail = place.read(shard.name, max(0, shard.size - TAIL_BYTES), shard.size)
    footer = int.from_bytes(tail[-FOOTER_END:][:4], "little") + FOOTER_END
    if len(tail) < footer <= shard.size:
        tail = place.read(shard.name, shard.size - footer, shard.size)
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (OSError, pa.ArrowException) as error:
        raise NotAShardError("its footer cannot be read") from error


def read_keys(place: Store, shard: FileInfo, schema: pa.Schema) -> Keys:
    """The keys [n] of a shard's rows, by reading its footer only.

    Raises:
        NotAShardError: the footer is damaged, or of other rows than the schema's.
        FileNotFoundError: the shard has gone.
    """
    footer = read_footer(place, shard)
    try:
        found = footer.schema.to_arrow_schema()
        keys = base64.b64decode(footer.metadata[KEYS_METADATA], validate=True)
    except (OSError, ValueError, LookupError, TypeError) as error:  # TypeError: there is no metadata at all
        raise NotAShardError("its footer names no keys") from error
    if not found.equals(schema) or found.metadata.get(METADATA_KEY) != schema.metadata[METADATA_KEY]:
        raise NotAShardError("it holds other columns, or another encoder's rows")
    if len(keys) != KEY_BYTES * footer.num_rows:
        raise NotAShardError("its footer has more or fewer keys than rows")
    return np.frombuffer(keys, dtype=f"S{KEY_BYTES}")


class ShardReader:
    """Reads rows of a shard by their numbers; use it only on a file whose digest was found right.

    Attributes:
        schema: its columns and what made them, as `shard_schema` gave it.
        rows: how many there are.
        starts: the first row of each row group, and the number of rows [groups + 1].
        row_bytes: what a row takes on average, by group [groups].
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        metadata = pq.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        self.schema = schema.with_metadata({METADATA_KEY: (schema.metadata or {}).get(METADATA_KEY, b"")})
        self.rows: int = metadata.num_rows
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        self.starts: Rows = np.cumsum([0, *(group.num_rows for group in groups)], dtype=np.int64)
        sizes = np.array([group.total_byte_size for group in groups], dtype=np.int64)
        self.row_bytes: Rows = -(-sizes // np.maximum(1, np.diff(self.starts)))

    def bytes_of(self, rows: Rows) -> Rows:
        """About how many bytes each of some rows takes."""
        return self.row_bytes[self.groups_of(rows)]

    def groups_of(self, rows: Rows) -> Rows:
        """The row group of each of some rows."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def read(self, rows: Rows) -> Iterator[pa.Table]:
        """Some rows with their keys, some MB at a time.

        Args:
            rows: numbers, increasing.
        """
        groups = self.groups_of(rows)
        needed, first = np.unique(groups, return_index=True)
        sizes = np.cumsum(self.row_bytes[needed] * (self.starts[needed + 1] - self.starts[needed]))
        with pq.ParquetFile(self._path, page_checksum_verification=True) as file:
            # Neighbours in this list are read at once, up to READ_BYTES.
            for part in np.split(np.arange(len(needed)), np.flatnonzero(np.diff(sizes // READ_BYTES)) + 1):
                end = first[part[-1] + 1] if part[-1] + 1 < len(needed) else len(rows)
                yield self._take(file, needed[part], rows[first[part[0]] : end])

    def _take(self, file: pq.ParquetFile, groups: Rows, rows: Rows) -> pa.Table:
        """Rows of some groups, which are read whole."""
        table = file.read_row_groups(groups.tolist())
        if table.num_rows == len(rows):
            return table
        lengths = self.starts[groups + 1] - self.starts[groups]
        before = np.cumsum(lengths) - lengths
        which = np.searchsorted(groups, self.groups_of(rows))
        return table.take(pa.array(rows - self.starts[groups][which] + before[which]))
