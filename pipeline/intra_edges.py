"""Reading graph `intra_item` for a batch of items, and the operator that a recommender multiplies their vectors by."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from pipeline.graph_files import require_built_of_present
from pipeline.layout import Layout
from pipeline.provenance import read_provenance
from pipeline.rows import Items
from pipeline.tables import INTRA_EDGES

NONE = -1  # where there is no neighbour
BLOCK_PAIRS = 2**22  # of places looked at at once, a byte each: what caches hold

Places = npt.NDArray[np.int64]


class IntraItemEdges:
    """The neighbours of all items' patches or tokens, in memory.

    A batch takes its items from all over the file, so that nearly all of it would be read for each. Without the
    weights, at 16 bits a neighbour, it is 72 MB for 23,033 items of 196 patches with 8 neighbours each.
    """

    def __init__(self, path: Path) -> None:
        """Read the neighbours, a piece of the file at a time.

        Raises:
            MissingInputError: there is no such file.
            DataError: it is damaged, or no such table.
        """
        INTRA_EDGES.check(path)
        k = int(read_provenance(path)["params"]["k"])
        read = [to_rows(edges, k) for edges in whole_items(path)]
        items = np.concatenate([np.empty(0, dtype=np.int64), *(items for items, _, _ in read)])
        self._count = np.zeros(items.max(initial=-1) + 2, dtype=np.int64)  # the last is of all who have none
        self._count[items] = np.concatenate([np.empty(0, dtype=np.int64), *(counts for _, counts, _ in read)])
        self._first = np.cumsum(self._count) - self._count
        # A last row for whatever has no neighbours.
        self._rows = np.concatenate([*(rows for _, _, rows in read), np.full((1, k), NONE, dtype=np.int16)])

    @classmethod
    def of(cls, layout: Layout, encoder: str) -> "IntraItemEdges":
        """Read the graph of an encoder's patches or tokens.

        Raises:
            MissingInputError: the graph is not built.
            DataError: it is damaged, or was built of something else than there is now.
        """
        path = layout.graph(f"intra_item/{encoder}")
        edges = cls(path)
        require_built_of_present(layout, path, read_provenance(path))
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
    for piece in INTRA_EDGES.pieces(path):
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


def block_diagonal(neighbours: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 of each item's graph, one behind the other, on the device of the neighbours (specs 5.3 step 2).

    A joins two vectors with weight 1 if either is a neighbour of the other, and each with itself; D holds its row sums.
    So places without a vector are joined to themselves alone, and vectors of zeros there stay zeros. Symmetric, so that
    it is its own transpose in a backward pass.

    Dense blocks of 3,660 items of 196 patches would be 562 MB, and their products mostly with zeros; this takes about
    90 MB (specs 5.7).

    Args:
        neighbours: places [n, length, k], NONE where there is none.

    Returns:
        A sparse CSR matrix of f32, [n * length, n * length].
    """
    n, length, _ = neighbours.shape
    step = max(1, BLOCK_PAIRS // max(1, length * length))
    found = [joined(neighbours[start : start + step], start * length) for start in range(0, n, step)]
    degree = torch.cat([neighbours.new_empty(0, dtype=torch.int32), *(degrees for degrees, _ in found)])
    column = torch.cat([neighbours.new_empty(0, dtype=torch.int32), *(columns for _, columns in found)])
    scale = degree.double().rsqrt().float()
    with warnings.catch_warnings():
        # torch says once that its CSR support is in beta; nothing here depends on what may change.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(
            torch.cat([degree.new_zeros(1), degree.cumsum(0, dtype=torch.int32)]),
            column,
            scale.repeat_interleave(degree) * scale[column],
            size=(n * length, n * length),
            check_invariants=False,  # sorted and unique as they come from nonzero
        )


def joined(neighbours: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """Who is joined to whom in some items.

    Args:
        neighbours: places [n, length, k].
        offset: number of the first item's first place.

    Returns:
        How many each place is joined to, [n * length] i32, and their numbers, [sum of those] i32.
    """
    n, length, _ = neighbours.shape
    chosen = torch.zeros(n, length, length + 1, dtype=torch.bool, device=neighbours.device)
    # A last column takes what is no neighbour.
    chosen.scatter_(2, neighbours.long().masked_fill_(neighbours == NONE, length), True)
    chosen = chosen[:, :, :length]
    either = (chosen | chosen.mT).contiguous()
    either.diagonal(dim1=1, dim2=2).fill_(True)
    degree = either.sum(2, dtype=torch.int32).view(-1)
    row = torch.arange(n * length, dtype=torch.int32, device=neighbours.device)
    # Of the place (item, source, target) in `either`, what to take away for the target's number.
    before = row * length - row // length * length - offset
    column = either.view(-1).nonzero().view(-1).int() - before.repeat_interleave(degree)
    return degree, column
