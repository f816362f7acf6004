"""Reading graph `intra_item` for a batch of items."""

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

    A batch takes its items from all over the file, so that nearly all of it would be read for each. Without the
    weights, at 16 bits a neighbour, it is 72 MB for 23,033 items of 196 patches with 8 neighbours each.

    Attributes:
        k: the most neighbours that a vector has.
    """

    def __init__(self, pieces: Iterable[pl.DataFrame], k: int) -> None:
        """Take the neighbours out of tables INTRA_EDGES.

        Args:
            pieces: of such a table, no item in two of them.
            k: the most neighbours that a vector has.
        """
        self.k = k
        read = [to_rows(edges, k) for edges in pieces if len(edges)]
        items = np.concatenate([np.empty(0, dtype=np.int64), *(items for items, _, _ in read)])
        self._count = np.zeros(items.max(initial=-1) + 2, dtype=np.int64)  # the last is of all who have none
        self._count[items] = np.concatenate([np.empty(0, dtype=np.int64), *(counts for _, counts, _ in read)])
        self._first = np.cumsum(self._count) - self._count
        # A last row for whatever has no neighbours.
        self._rows = np.concatenate([*(rows for _, _, rows in read), np.full((1, k), NONE, dtype=np.int16)])

    @classmethod
    def read(cls, path: Path) -> "IntraItemEdges":
        """Read a file, a piece at a time.

        Raises:
            MissingInputError: there is no such file.
            DataError: it is damaged, or no such table.
        """
        INTRA_EDGES.check(path)
        return cls(whole_items(path), int(read_provenance(path)["params"]["k"]))

    @classmethod
    def of(cls, layout: Layout, encoder: str) -> "IntraItemEdges":
        """Read the graph of an encoder's patches or tokens.

        Raises:
            MissingInputError: the graph is not built.
            DataError: it is damaged, or was built of something else than there is now.
        """
        path = layout.graph(f"intra_item/{encoder}")
        edges = cls.read(path)
        require_graph_is_fresh(layout, path, read_provenance(path))
        return edges

    def gather(self, items: Sequence[int] | Items, length: int) -> Tensor:
        """The neighbours of some items' vectors, in the order asked for.

        Args:
            items: dense indices [n]; those without vectors have no neighbours.
            length: places an item, as many as the longest of them has vectors. Of items that have more, the neighbours
                among the first ones are left.

        Returns:
            Places [n, length, k] i16, the most similar first; NONE where there is no neighbour.
        """
        known = np.minimum(np.asarray(items, dtype=np.int64), len(self._count) - 1)[:, None]
        place = np.arange(length)
        found = self._rows[np.where(place < self._count[known], self._first[known] + place, len(self._rows) - 1)]
        found[found >= length] = NONE
        return torch.from_numpy(found)


def whole_items(path: Path) -> Iterator[pl.DataFrame]:
    """The rows of a table INTRA_EDGES in pieces, no item in two of them."""
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
    """The neighbours of some items, a row a vector up to each item's last that has any.

    Returns:
        The items [n], how many rows each has [n], and the rows [total, k] i16.
    """
    item, source = edges["item"].to_numpy(), edges["source"].to_numpy()
    starts = np.flatnonzero(np.diff(item, prepend=-1))
    sizes = np.diff(starts, append=len(item))
    counts = source[starts + sizes - 1].astype(np.int64) + 1  # edges are in the order of their source
    row = np.repeat(np.cumsum(counts) - counts, sizes) + source
    starts_of_rows = np.flatnonzero(np.diff(row, prepend=-1))
    rank = np.arange(len(row)) - np.repeat(starts_of_rows, np.diff(starts_of_rows, append=len(row)))
    rows = np.full((int(counts.sum()), k), NONE, dtype=np.int16)
    rows[row, rank] = edges["target"].to_numpy()
    return item[starts].astype(np.int64), counts, rows
