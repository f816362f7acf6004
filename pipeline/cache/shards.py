"""Shards of the row cache: immutable Parquet files of rows with their keys, named by their own SHA-256."""

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
# Reading a row reads its whole group. Groups four times larger are neither read nor written faster.
GROUP_BYTES = 256 * 1024
READ_BYTES = 8 * 1024 * 1024
TAIL_BYTES = 64 * 1024
FOOTER_END = 8  # the footer's length and Parquet's magic


class NotAShardError(ValueError):
    """A file is not a shard, or a shard of other rows."""


def shard_schema(values: pa.Schema, fingerprint: Mapping[str, Any]) -> pa.Schema:
    """Schema of a shard, with its rows' fingerprint in the metadata, so that a shard identifies its folder."""
    columns = {field.name: str(field.type) for field in values}
    made_by = json.dumps({"encoder": dict(fingerprint), "columns": columns}, sort_keys=True, allow_nan=False)
    fields = [KEY, *(field.with_type(stored_type(field.type)) for field in values)]
    return pa.schema(fields, metadata={METADATA_KEY: made_by.encode()})


def to_keys(keys: Sequence[bytes]) -> Keys:
    """Convert keys to an array [n] of 32 bytes each. NumPy drops an element's trailing zeros, so compare arrays only.

    Raises:
        ValueError: a key does not have 32 bytes.
    """
    if any(len(key) != KEY_BYTES for key in keys):
        raise ValueError(f"a key is a SHA-256, {KEY_BYTES} bytes")
    return np.frombuffer(b"".join(keys), dtype=f"S{KEY_BYTES}")


def to_list(keys: Keys) -> list[bytes]:
    """Convert an array of keys [n] to a list of 32 bytes each."""
    raw = keys.tobytes()
    return [raw[at : at + KEY_BYTES] for at in range(0, len(raw), KEY_BYTES)]


class ShardWriter:
    """Writes batches of keys and values into row groups of about GROUP_BYTES, at least one row each.

    Args:
        sink: a path or an Arrow stream.
        schema: from `shard_schema`.
    """

    def __init__(self, sink: Path | pa.NativeFile, schema: pa.Schema) -> None:
        self.rows = 0
        self._schema = schema
        # Vectors of floats hardly compress: zstd saves 8 % and halves the reading speed.
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
        """Write the waiting rows, and all keys into the footer, from where one short read gets them."""
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
    """Encode rows as a shard's bytes; equal rows give equal bytes.

    Raises:
        ValueError: the numbers of rows and keys differ, or a vector holds a null.
    """
    sink = pa.BufferOutputStream()
    writer = ShardWriter(sink, schema)
    columns = [pa.array(keys, KEY.type), *(to_stored(column) for column in rows.columns)]
    writer.append(pa.record_batch(columns, schema=schema))
    writer.close()
    return sink.getvalue()


def read_footer(place: Store, shard: FileInfo) -> pq.FileMetaData:
    """Read a shard's footer by one or two short reads.

    Raises:
        NotAShardError: the footer is damaged.
        FileNotFoundError: the shard is gone.
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
    """Read the keys [n] of a shard's rows from its footer only.

    Raises:
        NotAShardError: the footer is damaged, or does not match the schema.
        FileNotFoundError: the shard is gone.
    """
    footer = read_footer(place, shard)
    try:
        stored = footer.schema.to_arrow_schema()
        keys = base64.b64decode(footer.metadata[KEYS_METADATA], validate=True)
    except (OSError, ValueError, LookupError, TypeError) as error:  # TypeError: no metadata at all
        raise NotAShardError("its footer names no keys") from error
    if not stored.equals(schema) or stored.metadata.get(METADATA_KEY) != schema.metadata[METADATA_KEY]:
        raise NotAShardError("it holds other columns, or another encoder's rows")
    if len(keys) != KEY_BYTES * footer.num_rows:
        raise NotAShardError("its footer has more or fewer keys than rows")
    return np.frombuffer(keys, dtype=f"S{KEY_BYTES}")


class ShardReader:
    """Reads rows of a shard by their numbers; use it only on a file with a verified digest.

    Attributes:
        schema: the shard's schema, as from `shard_schema`.
        rows: number of rows.
        starts: the first row of each row group, and the number of rows [groups + 1].
        row_bytes: average size of a row in bytes, by group [groups].
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
        """Approximate size of each row in bytes, [n]."""
        return self.row_bytes[self.groups_of(rows)]

    def groups_of(self, rows: Rows) -> Rows:
        """The row group of each row, [n]."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def read(self, rows: Rows) -> Iterator[pa.Table]:
        """Read rows with their keys, in tables of about READ_BYTES.

        Args:
            rows: row numbers [n], increasing.
        """
        groups = self.groups_of(rows)
        needed, first = np.unique(groups, return_index=True)
        sizes = np.cumsum(self.row_bytes[needed] * (self.starts[needed + 1] - self.starts[needed]))
        with pq.ParquetFile(self._path, page_checksum_verification=True) as file:
            # Consecutive needed groups are read together, up to READ_BYTES.
            for part in np.split(np.arange(len(needed)), np.flatnonzero(np.diff(sizes // READ_BYTES)) + 1):
                end = first[part[-1] + 1] if part[-1] + 1 < len(needed) else len(rows)
                yield self._take(file, needed[part], rows[first[part[0]] : end])

    def _take(self, file: pq.ParquetFile, groups: Rows, rows: Rows) -> pa.Table:
        """Read whole row groups and take the rows from them."""
        table = file.read_row_groups(groups.tolist())
        if table.num_rows == len(rows):
            return table
        lengths = self.starts[groups + 1] - self.starts[groups]
        before = np.cumsum(lengths) - lengths
        which = np.searchsorted(groups, self.groups_of(rows))
        return table.take(pa.array(rows - self.starts[groups][which] + before[which]))
