"""The patches or tokens of all items at hand, padded, for batches that take their items from everywhere."""

import os
import tempfile
from collections.abc import Callable, Iterator
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.vectors import Items, VectorBatch
from mmprep.pipeline.graphs.intra_item import edges_within
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges
from mmprep.pipeline.graphs.token_source import TokenSource

BLOCK_ITEMS = 256  # read at once

Padded = npt.NDArray[np.floating[Any]]


class TokenStore:
    """The vectors of all items, padded to one length.

    A batch takes its items from everywhere, so that Parquet's row groups would be read anew for each. Where they fit,
    the vectors are held in memory, in the type in which they are stored; else in a scratch file that is mapped into
    memory, of which the system keeps as much as there is room for. That file has no name: it vanishes with the process,
    however it ends, and is never stale.

    Attributes:
        lengths: how many vectors each item has, [n_items]; 0 for those without a photo or text.
        edges: the neighbours among the vectors that are here.
        length: the most vectors of an item.
        dimension: of a vector.
    """

    def __init__(
        self, source: TokenSource, n_items: int, length: int, shape: Callable[[VectorBatch], VectorBatch]
    ) -> None:
        """Read all vectors; see `first_tokens` and `patches_of`.

        Args:
            source: of the vectors.
            n_items: how many items the dataset has.
            length: the most vectors that `shape` leaves an item.
            shape: what is done with the vectors of some items: cut or pooled.
        """
        items = require_items_below(source.vectors.items, n_items)
        self._place = torch.full((n_items,), len(items))  # the last row, of zeros, is of those without
        self._place[torch.from_numpy(items).long()] = torch.arange(len(items))
        self.lengths = torch.zeros(n_items, dtype=torch.int64)
        first = source.vectors.gather(items[:1]).vectors
        self.length, self.dimension = length, int(first.shape[1])
        rows = room((len(items) + 1, length, self.dimension), first.dtype, source)
        changed = False
        for start in range(0, len(items), BLOCK_ITEMS):
            block = items[start : start + BLOCK_ITEMS]
            stored = source.vectors.gather(block)
            shaped = shape(stored)
            changed = changed or len(shaped.vectors) < len(stored.vectors)
            self.lengths[torch.from_numpy(block).long()] = torch.from_numpy(np.diff(shaped.offsets()))
            rows[start : start + len(block)] = padded(shaped, length)
        self._rows = torch.from_numpy(rows)
        self.edges = self._edges_among(items, source.edges.k) if changed else source.edges

    @classmethod
    def first_tokens(cls, source: TokenSource, n_items: int, longest: int) -> "TokenStore":
        """The first tokens of each item.

        Args:
            source: of the tokens.
            n_items: how many items the dataset has.
            longest: tokens of a text that are kept.

        Raises:
            DataError: the tokens are of another dataset, there are none, or they are damaged.
        """
        return cls(source, n_items, longest, lambda rows: cut(rows, longest))

    @classmethod
    def patches_of(cls, source: TokenSource, n_items: int, patches: int | None) -> "TokenStore":
        """The patches of each photo, or means of squares of them.

        Args:
            source: of the patches.
            n_items: how many items the dataset has.
            patches: how many a photo shall have; None for as many as there are.

        Raises:
            DataError: the patches are of another dataset, there are none, or they are damaged; or photos have not all
                as many, or so many that no squares of them make as many as wanted.
        """
        items = require_items_below(source.vectors.items, n_items)
        found = int(np.diff(source.vectors.gather(items[:1]).offsets())[0])
        side = square_side(found, patches or found)
        return cls(source, n_items, found // side**2, lambda rows: pooled(rows, found, side))

    def gather(self, items: Tensor, length: int) -> Tensor:
        """The vectors of some items, zeros where an item has no more.

        Args:
            items: indices [n], on the CPU.
            length: how many of each, as many as the longest of them has.

        Returns:
            [n, length, dimension], f32 or f16 as they are kept.
        """
        places = self._place[items]
        # Whole rows lie one behind the other, which makes their copy several times as fast.
        return self._rows[places] if length == self.length else self._rows[places, :length]

    def neighbours(self, items: Tensor, length: int) -> Tensor:
        """The neighbours [n, length, k] of the same vectors, see `IntraItemEdges.gather`."""
        return self.edges.gather(items.numpy(), length)

    def _edges_among(self, items: Items, k: int) -> IntraItemEdges:
        """The k nearest among the vectors that are here, where those in the file are of others."""

        def pieces() -> Iterator[pl.DataFrame]:
            for start in range(0, len(items), BLOCK_ITEMS):
                block = items[start : start + BLOCK_ITEMS]
                lengths = self.lengths[torch.from_numpy(block).long()].numpy()
                there = np.arange(self.length) < lengths[:, None]
                yield edges_within(
                    block, VectorBatch(self._rows[start : start + len(block)].numpy()[there], lengths), k
                )

        return IntraItemEdges(pieces(), k)


def require_items_below(items: Items, n_items: int) -> Items:
    """Check that vectors can be of a dataset with so many items.

    Raises:
        DataError: they are not, or there are none.
    """
    if len(items) == 0:
        raise DataError("no item has patches or tokens, so there is nothing to read")
    if int(items[-1]) >= n_items:
        raise DataError(
            f"patches or tokens of item {int(items[-1])} in a dataset of {n_items} items; run `mmprep extract` again"
        )
    return items


def room(shape: tuple[int, int, int], stored_as: np.dtype[Any], source: TokenSource) -> Padded:
    """Zeros of a shape and type, in memory if they fit, else in a file without a name.

    Raises:
        DataError: there is no room for the file.
    """
    size = stored_as.itemsize * shape[0] * shape[1] * shape[2]
    if size <= source.memory:
        return np.zeros(shape, dtype=stored_as)
    try:
        source.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=source.scratch) as file:
            # A disk that turns out to be full when a page is written kills the process without a word.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=stored_as, mode="r+", shape=shape)
    except OSError as error:
        problem = f"no room for {size:,} bytes of patches or tokens ({error.strerror})"
        raise DataError(f"{source.scratch}: {problem}; raise train.token_memory or free the disk") from error


def padded(rows: VectorBatch, length: int) -> Padded:
    """The vectors of items side by side, [n, length, dimension], zeros behind the last of each."""
    there = np.arange(length) < np.diff(rows.offsets())[:, None]
    found = np.zeros((*there.shape, rows.dimension), dtype=rows.vectors.dtype)
    found[there] = rows.vectors
    return found


def cut(rows: VectorBatch, longest: int) -> VectorBatch:
    """The first vectors of each item, at most so many."""
    lengths = np.diff(rows.offsets())
    place = np.arange(len(rows.vectors)) - np.repeat(rows.offsets()[:-1], lengths)
    return VectorBatch(rows.vectors[place < longest], np.minimum(lengths, longest))


def square_side(found: int, wanted: int) -> int:
    """The side of the squares of patches whose means are as many as wanted.

    Raises:
        DataError: there are none.
    """
    grid = isqrt(found)
    sides = [side for side in range(1, grid + 1) if grid % side == 0] if grid**2 == found else [1]
    possible = [found // side**2 for side in sides]
    if wanted not in possible:
        raise DataError(
            f"found {found} patches a photo, which can be pooled to {', '.join(map(str, possible))}, not to {wanted}"
        )
    return isqrt(found // wanted)


def pooled(rows: VectorBatch, found: int, side: int) -> VectorBatch:
    """The means of squares of patches, which come row by row.

    Args:
        rows: the patches.
        found: how many each item has.
        side: of a square, in patches.

    Raises:
        DataError: an item has another number of patches.
    """
    lengths = np.diff(rows.offsets())
    if (lengths != found).any():
        raise DataError(f"found {lengths[lengths != found][0]} patches of one photo and {found} of another")
    if side == 1:
        return rows
    grid = isqrt(found) // side
    squares = rows.vectors.reshape(len(lengths), grid, side, grid, side, rows.dimension)
    means = squares.mean(axis=(2, 4), dtype=np.float32).astype(rows.vectors.dtype)
    return VectorBatch(means.reshape(-1, rows.dimension), np.full(len(lengths), grid**2))
