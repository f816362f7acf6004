"""Reader of the feature store: feature folders, and an encoder's vectors as a matrix."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.errors import DataError, MissingInputError, first_line
from mmprep.pipeline.features.vectors import Form, Items
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import require_fresh
from mmprep.pipeline.tables.provenance import read_provenance

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Features:
    """The vectors of all items that have one.

    Attributes:
        items: dense indices [n], increasing.
        vectors: [n, dimension].
        provenance: of the vectors.
    """

    items: Items
    vectors: Matrix
    provenance: dict[str, Any]

    def matrix(self, n_items: int) -> Matrix:
        """A matrix with a row for every item, [n_items, dimension].

        Items without a vector are filled by the value of `extract.missing` at extraction: the mean of the existing
        vectors, as in LATTICE and MMRec, or zeros; `error` refuses them.

        Raises:
            DataError: the vectors belong to other items than the dataset's, or there are none, or an item has none and
                `missing` is `error`.
        """
        self.require_items_below(n_items)
        n_missing = n_items - len(self.items)
        if n_missing and self.provenance["missing"] in ("error", "drop"):  # earlier versions wrote drop
            raise DataError(
                f"{n_missing} of {n_items} items have no vector, and extract.missing is error; set it to mean or "
                "zeros, or leave such items out by filter.require"
            )
        filled = np.zeros((n_items, self.vectors.shape[1]), dtype=np.float32)
        if self.provenance["missing"] == "mean":
            filled[:] = self.vectors.mean(axis=0, dtype=np.float64)
        filled[self.items] = self.vectors
        return filled

    def require_items_below(self, n_items: int) -> None:
        """Check that the vectors fit a dataset of `n_items` items.

        Raises:
            DataError: they do not, or there are none.
        """
        if len(self.items) == 0:
            raise DataError("no item has a vector, so there are no features to use")
        if int(self.items[-1]) >= n_items:
            raise DataError(
                f"features of item {int(self.items[-1])} in a dataset of {n_items} items; run `mmprep extract` again"
            )


@dataclass(frozen=True)
class FeatureSet:
    """A feature folder, opened once. No vector is read yet.

    Attributes:
        folder: folder of one encoder's features.
        parts: its files in order.
        provenance: of the features.
        columns: column names of each part.
    """

    folder: Path
    parts: tuple[Path, ...]
    provenance: dict[str, Any]
    columns: frozenset[str]

    @classmethod
    def open(cls, folder: Path) -> "FeatureSet":
        """Open a feature folder.

        Raises:
            MissingInputError: the folder has no parts.
            DataError: a part is missing, or the first one is damaged.
        """
        parts = part_paths(folder)
        with explained(folder):
            return cls(folder, tuple(parts), read_provenance(parts[0]), frozenset(pq.read_schema(parts[0]).names))

    @classmethod
    def of(cls, layout: Layout, encoder: str) -> "FeatureSet":
        """Open an encoder's features of a dataset.

        Raises:
            MissingInputError: the encoder has no features.
            DataError: they are damaged, or `filter` has changed the items since they were made.
        """
        features = cls.open(layout.features(encoder))
        again = f"mmprep extract --encoder {encoder}"
        require_fresh(features.folder, features.provenance["inputs"], layout, again, (layout.items,))
        return features

    @property
    def form(self) -> Form:
        """Whether items have one vector, patches or tokens."""
        return "vector" if "vector" in self.columns else "tokens" if "start" in self.columns else "patches"

    def vectors(self) -> Features:
        """Read all vectors of an encoder with one vector per item.

        Raises:
            DataError: a part is damaged, or holds patches or tokens.
        """
        if self.form != "vector":
            raise DataError(
                f"{self.folder}: found patches or tokens, a list of vectors an item, expected one vector an item"
            )
        with explained(self.folder):
            arrays = [read_part(path) for path in self.parts]
            items, vectors = (np.concatenate([array[column] for array in arrays]) for column in (0, 1))
            disordered = np.flatnonzero(np.diff(items) <= 0)
            if len(disordered):
                raise DataError(f"item {items[disordered[0] + 1]} comes twice or out of order")
            return Features(items, vectors, self.provenance)


def part_paths(folder: Path) -> list[Path]:
    """The parts of a feature folder in order.

    Raises:
        MissingInputError: the folder has no parts.
        DataError: a part is missing.
    """
    parts = sorted(folder.glob("part-*.parquet"))
    again = f"run `mmprep extract --encoder {folder.name}`"
    if not parts:
        raise MissingInputError(f"{folder}: no features; {again} first")
    count = len(parts)
    if [part.name for part in parts] != [f"part-{number:05d}-of-{count:05d}.parquet" for number in range(count)]:
        raise DataError(f"{folder}: found {count} parts, up to {parts[-1].name}; some are missing, {again} again")
    return parts


def read_part(path: Path) -> tuple[Items, Matrix]:
    """Read the items [n] and vectors [n, dimension] of one part."""
    table = pq.read_table(path, page_checksum_verification=True).combine_chunks()
    dimension = table.schema.field("vector").type.list_size
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, dimension)
    return table["item"].to_numpy(), vectors.astype(np.float32, copy=False)


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Translate errors of reading features to a DataError that names the folder and what to do.

    Raises:
        DataError: reading failed in the block.
    """
    try:
        yield
    except (DataError, OSError, KeyError, AttributeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{folder}: damaged features ({first_line(error)}); remove the folder and run "
            f"`mmprep extract --encoder {folder.name}`"
        ) from error
