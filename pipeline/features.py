"""The feature store: one vector an item in Parquet parts, written in batches and read as a matrix."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, MissingInputError
from pipeline.files import atomic_folder, sha256
from pipeline.layout import Layout
from pipeline.provenance import Provenance, read_provenance

Vectors = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]

PART_BYTES = 256 * 1024 * 1024


class FeatureWriter:
    """Appends batches of vectors to a folder's `part-*.parquet`, a new part each 256 MB.

    Use it by `write_features`, which makes the folder appear whole or not at all.
    """

    def __init__(self, folder: Path, dimension: int, provenance: Provenance) -> None:
        self.rows = 0
        self._folder = folder
        self._part_rows = max(1, PART_BYTES // (4 * dimension))
        self._schema = vector_schema(dimension).with_metadata(provenance.to_metadata())
        self._last_item = -1
        self._parts = 0
        self._writer = self._open_part()  # without a batch there is one empty part, which tells the provenance
        self._rows_in_part = 0

    def append(self, items: Items, vectors: Vectors) -> None:
        """Write a batch.

        Args:
            items: dense indices [n], greater than all before and increasing.
            vectors: [n, dimension], finite.

        Raises:
            DataError: a vector is not finite.
        """
        if len(items) == 0:
            return
        if items[0] <= self._last_item or (np.diff(items) <= 0).any():
            raise ValueError("features must be written in the order of items")
        if not np.isfinite(vectors).all():
            bad = items[~np.isfinite(vectors).all(axis=1)][0]
            raise DataError(f"the encoder gave NaN or infinite numbers for item {bad}; nothing was written")
        if self._rows_in_part >= self._part_rows:
            self._writer.close()
            self._writer, self._rows_in_part = self._open_part(), 0
        flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, type=self._schema.field("vector").type)
        self._writer.write_batch(pa.record_batch([pa.array(items, pa.int32()), column], schema=self._schema))
        self._last_item = int(items[-1])
        self._rows_in_part += len(items)
        self.rows += len(items)

    def close(self) -> None:
        """Finish the last part and give each part its name, which says how many there are."""
        self._writer.close()
        for number in range(self._parts):
            (self._folder / f"{number}").rename(self._folder / f"part-{number:05d}-of-{self._parts:05d}.parquet")

    def _open_part(self) -> pq.ParquetWriter:
        path = self._folder / f"{self._parts}"
        self._parts += 1
        # Vectors of floats hardly compress, and dictionaries of them only cost time.
        return pq.ParquetWriter(path, self._schema, compression="none", use_dictionary=False, write_page_checksum=True)


@contextmanager
def write_features(folder: Path, dimension: int, provenance: Provenance) -> Iterator[FeatureWriter]:
    """Open a feature folder for writing; it takes its place when the block ends well."""
    with atomic_folder(folder) as temporary:
        writer = FeatureWriter(temporary, dimension, provenance)
        try:
            yield writer
        finally:
            writer.close()


def vector_schema(dimension: int) -> pa.Schema:
    """The columns of a feature part: item i32 and a vector of f32."""
    vector = pa.list_(pa.field("element", pa.float32(), nullable=False), dimension)
    return pa.schema([pa.field("item", pa.int32(), nullable=False), pa.field("vector", vector, nullable=False)])


@dataclass(frozen=True)
class Features:
    """The vectors of the items that have them.

    Attributes:
        items: dense indices [n], increasing.
        vectors: [n, dimension].
        provenance: what made them.
    """

    items: Items
    vectors: Vectors
    provenance: dict[str, Any]

    def matrix(self, n_items: int) -> Vectors:
        """A row for every item, [n_items, dimension].

        Items without a vector get what `extract.missing` said when the features were made: the mean of the present
        vectors, as LATTICE and MMRec fill, or zeros.

        Raises:
            DataError: the vectors are of other items than the dataset's, or there are none.
        """
        self.require_items_below(n_items)
        filled = np.zeros((n_items, self.vectors.shape[1]), dtype=np.float32)
        if self.provenance["missing"] == "mean":
            filled[:] = self.vectors.mean(axis=0, dtype=np.float64)
        filled[self.items] = self.vectors
        return filled

    def require_items_below(self, n_items: int) -> None:
        """Check that the vectors can be of a dataset with so many items.

        Raises:
            DataError: they are not, or there are none.
        """
        if len(self.items) == 0:
            raise DataError("no item has a vector, so there are no features to use")
        if int(self.items[-1]) >= n_items:
            raise DataError(
                f"features of item {int(self.items[-1])} in a dataset of {n_items} items; run `mmprep extract` again"
            )


def part_paths(folder: Path) -> list[Path]:
    """The parts of a feature folder in order.

    Raises:
        MissingInputError: there are none.
        DataError: some are not there.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    again = f"run `mmprep extract --encoder {folder.name}`"
    if not parts:
        raise MissingInputError(f"{folder}: no features; {again} first")
    count = len(parts)
    if [part.name for part in parts] != [f"part-{number:05d}-of-{count:05d}.parquet" for number in range(count)]:
        raise DataError(f"{folder}: found {count} parts, up to {parts[-1].name}; some are missing, {again} again")
    return parts


def features_of(layout: Layout, encoder: str) -> Features:
    """Read an encoder's vectors of a dataset.

    Raises:
        MissingInputError: there are none.
        DataError: they are damaged, or `filter` has given other items since they were made.
    """
    folder = layout.features(encoder)
    features = read_features(folder)
    if features.provenance["inputs"].get(layout.relative(layout.items)) != sha256(layout.items):
        raise DataError(f"{folder}: made for other items than {layout.items}; run `mmprep extract --encoder {encoder}`")
    return features


def read_features(folder: Path) -> Features:
    """Read all vectors of a feature folder.

    Raises:
        MissingInputError: the folder has no parts.
        DataError: a part is damaged or its columns are others.
    """
    parts = part_paths(folder)
    try:
        provenance = read_provenance(parts[0])
        arrays = [read_part(path) for path in parts]
        return Features(np.concatenate([a[0] for a in arrays]), np.concatenate([a[1] for a in arrays]), provenance)
    except (DataError, OSError, KeyError, AttributeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{folder}: damaged features ({str(error).splitlines()[0]}); remove the folder and run "
            f"`mmprep extract --encoder {folder.name}`"
        ) from error


def read_part(path: Path) -> tuple[Items, Vectors]:
    """The items [n] and vectors [n, dimension] of one part."""
    table = pq.read_table(path, page_checksum_verification=True).combine_chunks()
    dimension = table.schema.field("vector").type.list_size
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    return table["item"].to_numpy(), vectors
