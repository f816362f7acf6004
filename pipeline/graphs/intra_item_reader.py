"""Reader of graph `intra_item` for batches of items."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from mmprep.pipeline.features.vectors import Items
from mmprep.pipeline.graphs.reader import require_graph_is_fresh
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import INTRA_EDGES

NONE = -1  # where there is no neighbour

Places = npt.NDArray[np.int64]


class IntraItemEdges:
    """The neighbours of all items' patches or tokens, in memory.

    The items of a batch are spread over the file, so that nearly all of it would be read for each batch. Without
    weights, at 16 bits per neighbour, it takes 72 MB for 23,033 items of 196 patches with 8 neighbours each.

    Attributes:
        k: maximum number of neighbours per vector.
    """

    def __init__(self, pieces: Iterable[pl.DataFrame], k: int) -> None:
        """Collect the neighbours from batches of table INTRA_EDGES.

        Args:
            pieces: batches of the table, no item in two of them.
            k: maximum number of neighbours per vector.
        """
        self.k = k
        read = [to_rows(edges, k) for edges in pieces if len(edges)]
        items = np.concatenate([np.empty(0, dtype=np.int64), *(items for items, _, _ in read)])
        self._count = np.zeros(items.max(initial=-1) + 2, dtype=np.int64)  # the last is for items without neighbours
        self._count[items] = np.concatenate([np.empty(0, dtype=np.int64), *(counts for _, counts, _ in read)])
        self._first = np.cumsum(self._count) - self._count
        # The last row is for vectors without neighbours.
        self._rows = np.concatenate([*(rows for _, _, rows in read), np.full((1, k), NONE, dtype=np.int16)])

    @classmethod
    def read(cls, path: Path) -> "IntraItemEdges":
        """Read a file in batches.

        Raises:
            MissingInputError: the file does not exist.
            DataError: it is damaged, or another table.
        """
        INTRA_EDGES.check(path)
        return cls(whole_items(path), int(read_provenance(path)["params"]["k"]))

    @classmethod
    def of(cls, layout: Layout, encoder: str) -> "IntraItemEdges":
        """Read the graph of an encoder's patches or tokens.

        Raises:
            MissingInputError: the graph is not built.
            DataError: it is damaged or stale.
        """
        path = layout.graph(f"intra_item/{encoder}")
        edges = cls.read(path)
        require_graph_is_fresh(layout, path, read_provenance(path))
        return edges

    def gather(self, items: Sequence[int] | Items, length: int) -> Tensor:
        """The neighbours of items' vectors, in the given order.

        Args:
            items: dense indices [n]; those without vectors have no neighbours.
            length: vectors per item, usually the maximum over the items. For items with more, only neighbours among
                the first `length` vectors are kept.

        Returns:
            Positions [n, length, k] i16, the most similar first; NONE where there is no neighbour.
        """
        known = np.minimum(np.asarray(items, dtype=np.int64), len(self._count) - 1)[:, None]
        position = np.arange(length)
        row = np.where(position < self._count[known], self._first[known] + position, len(self._rows) - 1)
        neighbours = self._rows[row]
        neighbours[neighbours >= length] = NONE
        return torch.from_numpy(neighbours)


def whole_items(path: Path) -> Iterator[pl.DataFrame]:
    """Read a table INTRA_EDGES in batches, no item in two of them."""
    waiting = pl.DataFrame(INTRA_EDGES.schema.empty_table())
    for piece in INTRA_EDGES.iter_batches(path):
        waiting = pl.concat([waiting, piece])
        whole = int(np.searchsorted(waiting["item"], waiting["item"][-1]))
        if whole:
            yield waiting[:whole]
        waiting = waiting[whole:]
    if len(waiting):
        yield waiting


def to_rows(edges: pl.DataFrame, k: int) -> tuple[Places, Places, npt.NDArray[np.int16]]:
    """Convert edges to neighbour rows: one row per vector, up to each item's last vector with neighbours.

    Returns:
        The items [n], the number of rows of each [n], and the rows [total, k] i16.
    """
    item, source = edges["item"].to_numpy(), edges["source"].to_numpy()
    starts = np.flatnonzero(np.diff(item, prepend=-1))
    sizes = np.diff(starts, append=len(item))
    counts = source[starts + sizes - 1].astype(np.int64) + 1  # edges are sorted by source
    row = np.repeat(np.cumsum(counts) - counts, sizes) + source
    starts_of_rows = np.flatnonzero(np.diff(row, prepend=-1))
    rank = np.arange(len(row)) - np.repeat(starts_of_rows, np.diff(starts_of_rows, append=len(row)))
    rows = np.full((int(counts.sum()), k), NONE, dtype=np.int16)
    rows[row, rank] = edges["target"].to_numpy()
    return item[starts].astype(np.int64), counts, rows
