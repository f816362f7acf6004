"""Reader of patches and tokens that loads only the row groups of requested items."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.reader import FeatureSet, explained
from mmprep.pipeline.features.vectors import Items, VectorBatch, concatenate

Places = npt.NDArray[np.int64]


class TokenFeatures:
    """The patches or tokens in a feature folder. Only the row groups of requested items are read.

    Attributes:
        items: dense indices [n], increasing.
        provenance: of the features.
    """

    def __init__(self, features: FeatureSet) -> None:
        """Read the item indices of all parts.

        Raises:
            DataError: a part is damaged, or holds one vector an item.
        """
        folder, parts = features.folder, features.parts
        self._folder, self.provenance = folder, features.provenance
        with explained(folder):
            schema = pq.read_schema(parts[0])
            columns = [pq.read_table(part, columns=["item"], page_checksum_verification=True)["item"] for part in parts]
            footers = [(part, pq.read_metadata(part)) for part in parts]
        if features.form == "vector":
            raise DataError(f"{folder}: found one vector an item, expected patches or tokens")
        self.items: Items = np.concatenate([column.to_numpy() for column in columns])
        self._columns = [name for name in ("vectors", "start", "end") if name in schema.names]
        self._none = to_rows(schema.empty_table())
        self._groups = [(part, group) for part, footer in footers for group in range(footer.num_row_groups)]
        sizes = [footer.row_group(group).num_rows for _, footer in footers for group in range(footer.num_row_groups)]
        self._first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._read = lru_cache(maxsize=2)(self._read_group)

    def gather(self, items: Sequence[int] | Items) -> VectorBatch:
        """The vectors of items, in the given order.

        Raises:
            DataError: an item has no vectors, or a part is damaged.
        """
        places, order = np.unique(self._places(items), return_inverse=True)
        # A copy of each group's rows, so that the groups themselves need not stay in memory.
        pieces = [self._read(group).take(within) for group, within in self._by_group(places)]
        return concatenate([self._none, *pieces]).take(order)

    def texts(self, items: Sequence[int] | Items) -> list[str]:
        """The texts that contain the tokens of items, in the given order.

        Raises:
            DataError: an item has no tokens, or a part is damaged, or the folder holds patches.
        """
        if "start" not in self._columns:
            raise DataError(f"{self._folder}: found patches, expected the tokens of texts")
        places, order = np.unique(self._places(items), return_inverse=True)
        texts: list[str] = []
        for group, within in self._by_group(places):
            texts += self._read_columns(group, ["text"])["text"].take(pa.array(within)).to_pylist()
        return [texts[place] for place in order]

    def _places(self, items: Sequence[int] | Items) -> Places:
        """Row of each item in the folder, [n]."""
        requested = np.asarray(items, dtype=np.int64)
        places = np.searchsorted(self.items, requested)
        known = places < len(self.items)
        known[known] = self.items[places[known]] == requested[known]
        if not known.all():
            raise DataError(f"{self._folder}: item {requested[~known][0]} has no vectors")
        return places

    def _by_group(self, places: Places) -> Iterator[tuple[int, Places]]:
        """Split sorted rows by row group; yields each group with the rows' positions in it."""
        groups = np.searchsorted(self._first, places, side="right") - 1
        for group in np.unique(groups).tolist():
            yield group, places[groups == group] - self._first[group]

    def _read_group(self, number: int) -> VectorBatch:
        return to_rows(self._read_columns(number, self._columns))

    def _read_columns(self, number: int, columns: list[str]) -> pa.Table:
        part, group = self._groups[number]
        with explained(self._folder), pq.ParquetFile(part, page_checksum_verification=True) as file:
            return file.read_row_group(group, columns=columns)


def to_rows(table: pa.Table) -> VectorBatch:
    """Convert a table with the columns `vectors` and, for tokens, `start` and `end`."""
    lists = table["vectors"].combine_chunks()
    vectors = lists.flatten()
    flat = vectors.flatten().to_numpy().reshape(-1, vectors.type.list_size)
    spans = None
    if "start" in table.column_names:
        spans = np.stack([table[name].combine_chunks().flatten().to_numpy() for name in ("start", "end")], axis=1)
    return VectorBatch(flat, lists.value_lengths().to_numpy().astype(np.int64), spans)
