"""Writer of the feature store: appends batches of items' vectors to Parquet parts."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.features.pca import BASIS_FILE, Basis
from mmprep.pipeline.features.vectors import FeatureSpec, Items, VectorBatch
from mmprep.pipeline.storage.files import atomic_folder
from mmprep.pipeline.tables.provenance import Provenance

PART_BYTES = 256 * 1024 * 1024
GROUP_BYTES = 4 * 1024 * 1024  # the least that is read for any item


class FeatureWriter:
    """Appends batches of rows to a folder's `part-*.parquet`, starting a new part every 256 MB.

    Row groups and parts have fixed numbers of items, regardless of the sizes appended, so that equal rows give equal
    bytes. Use it through `write_features`, which replaces the folder atomically.
    """

    def __init__(self, folder: Path, shape: FeatureSpec, provenance: Provenance) -> None:
        self.rows = 0
        self._folder = folder
        self._shape = shape
        self._group_rows = max(1, min(GROUP_BYTES, PART_BYTES) // shape.item_bytes)
        self._part_rows = max(1, PART_BYTES // shape.item_bytes) // self._group_rows * self._group_rows
        self._schema = shape.schema().with_metadata(provenance.to_metadata())
        self._last_item = -1
        self._parts = 0
        self._writer = self._open_part()  # without any batch there is one empty part, which holds the provenance
        self._rows_in_part = 0
        self._waiting: list[pa.RecordBatch] = []

    def append(self, items: Items, rows: VectorBatch, texts: Sequence[str] = ()) -> None:
        """Write a batch.

        Args:
            items: dense indices [n], increasing and greater than all before.
            rows: vectors of those items, finite.
            texts: texts of those items, for tokens only.

        Raises:
            DataError: a vector is not finite.
        """
        if len(items) == 0:
            return
        if items[0] <= self._last_item or (np.diff(items) <= 0).any():
            raise ValueError("features must be written in the order of items")
        if len(rows) != len(items) or rows.dimension != self._shape.dimension:
            raise ValueError(f"{len(rows)} rows of length {rows.dimension} for {len(items)} items")
        self._waiting.append(self._shape.batch(items, rows.cast_checked(self._shape.stored_as, items.tolist()), texts))
        self._last_item = int(items[-1])
        self.rows += len(items)
        self._write_groups(self._group_rows)

    def save_basis(self, basis: Basis) -> None:
        """Save the PCA basis of the vectors in the folder."""
        (self._folder / BASIS_FILE).write_bytes(basis.content())

    def close(self) -> None:
        """Finish the last part and rename the parts; their names include the number of parts."""
        self._write_groups(1)
        self._writer.close()
        for number in range(self._parts):
            (self._folder / f"{number}").rename(self._folder / f"part-{number:05d}-of-{self._parts:05d}.parquet")

    def abandon(self) -> None:
        """Close the current file without finishing the folder."""
        self._writer.close()

    def _write_groups(self, least: int) -> None:
        waiting = sum(batch.num_rows for batch in self._waiting)
        if waiting < least:
            return
        rows = pa.Table.from_batches(self._waiting)
        self._waiting = []
        for start in range(0, waiting, self._group_rows):
            group = rows[start : start + self._group_rows]
            if group.num_rows < least:
                self._waiting = group.to_batches()
                return
            if self._rows_in_part >= self._part_rows:
                self._writer.close()
                self._writer, self._rows_in_part = self._open_part(), 0
            # As one chunk, since chunk boundaries may end pages and so change the bytes.
            self._writer.write_table(group.combine_chunks().replace_schema_metadata(self._schema.metadata))
            self._rows_in_part += group.num_rows

    def _open_part(self) -> pq.ParquetWriter:
        path = self._folder / f"{self._parts}"
        self._parts += 1
        # Vectors of floats hardly compress, and dictionary encoding only costs time.
        return pq.ParquetWriter(path, self._schema, compression="none", use_dictionary=False, write_page_checksum=True)


@contextmanager
def write_features(folder: Path, shape: FeatureSpec, provenance: Provenance) -> Iterator[FeatureWriter]:
    """Open a feature folder for writing; it replaces `folder` if the block raises nothing."""
    with atomic_folder(folder) as temporary:
        writer = FeatureWriter(temporary, shape, provenance)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.close()
