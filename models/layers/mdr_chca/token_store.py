"""Random-access store of all items' patches or tokens, padded to one length."""

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

BLOCK_ITEMS = 256  # number of items read at once

Padded = npt.NDArray[np.floating[Any]]


class TokenStore:
    """Vectors of all items, padded to one length.

    A batch has items from anywhere, so that Parquet's row groups would be read again for each batch. If they fit, the
    vectors are held in memory, in the stored number type; else in a memory-mapped scratch file, of which the system
    caches as much as fits. That file has no name: it is removed when the process ends, however it ends, and is never
    stale.

    Attributes:
        lengths: number of vectors of each item, [n_items]; 0 for those without a photo or text.
        edges: neighbours among the stored vectors.
        length: maximum number of vectors of an item.
        dimension: length of a vector.
    """

    def __init__(
        self, source: TokenSource, n_items: int, length: int, shape: Callable[[VectorBatch], VectorBatch]
    ) -> None:
        """Read all vectors; see `first_tokens` and `patches_of`.

        Args:
            source: source of the vectors and their graph.
            n_items: number of items of the dataset.
            length: maximum number of vectors per item after `shape`.
            shape: function that cuts or pools the vectors of a batch of items.
        """
        items = require_items_below(source.vectors.items, n_items)
        self._place = torch.full((n_items,), len(items))  # the last row holds zeros, for items without vectors
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
        """Store the first tokens of each item.

        Args:
            source: source of the tokens.
            n_items: number of items of the dataset.
            longest: maximum number of tokens kept per text.

        Raises:
            DataError: the tokens belong to another dataset, are damaged, or there are none.
        """
        return cls(source, n_items, longest, lambda rows: cut(rows, longest))

    @classmethod
    def patches_of(cls, source: TokenSource, n_items: int, patches: int | None) -> "TokenStore":
        """Store the patches of each photo, or means of squares of them.

        Args:
            source: source of the patches.
            n_items: number of items of the dataset.
            patches: number of patches per photo after pooling; None for no pooling.

        Raises:
            DataError: the patches belong to another dataset, are damaged, or there are none; or photos differ in their
                number of patches, or it cannot be pooled to `patches`.
        """
        items = require_items_below(source.vectors.items, n_items)
        found = int(np.diff(source.vectors.gather(items[:1]).offsets())[0])
        side = square_side(found, patches or found)
        return cls(source, n_items, found // side**2, lambda rows: pooled(rows, found, side))

    def gather(self, items: Tensor, length: int) -> Tensor:
        """The vectors of items, padded with zeros.

        Args:
            items: indices [n], on the CPU.
            length: number of vectors per item, that of the longest of these items.

        Returns:
            [n, length, dimension], f32 or f16 as stored.
        """
        rows = self._place[items]
        # Whole rows are contiguous, which makes copying them several times as fast.
        return self._rows[rows] if length == self.length else self._rows[rows, :length]

    def neighbours(self, items: Tensor, length: int) -> Tensor:
        """Neighbours [n, length, k] of the same vectors, see `IntraItemEdges.gather`."""
        return self.edges.gather(items.numpy(), length)

    def _edges_among(self, items: Items, k: int) -> IntraItemEdges:
        """The k nearest neighbours among the stored vectors, if these differ from the file's."""

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
    """Check that vectors exist, and that their items are below the dataset's number of items.

    Raises:
        DataError: there are no vectors, or an item is out of range.
    """
    if len(items) == 0:
        raise DataError("no item has patches or tokens, so there is nothing to read")
    if int(items[-1]) >= n_items:
        raise DataError(
            f"patches or tokens of item {int(items[-1])} in a dataset of {n_items} items; run `mmprep extract` again"
        )
    return items


def room(shape: tuple[int, int, int], stored_as: np.dtype[Any], source: TokenSource) -> Padded:
    """Allocate zeros of a shape and type, in memory if they fit, else in an unnamed file.

    Raises:
        DataError: the disk has no room for the file.
    """
    size = stored_as.itemsize * shape[0] * shape[1] * shape[2]
    if size <= source.memory:
        return np.zeros(shape, dtype=stored_as)
    try:
        source.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=source.scratch) as file:
            # Allocated now, since a disk that fills up while a page is written kills the process without a message.
            os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype=stored_as, mode="r+", shape=shape)
    except OSError as error:
        problem = f"no room for {size:,} bytes of patches or tokens ({error.strerror})"
        raise DataError(f"{source.scratch}: {problem}; raise train.token_memory or free the disk") from error


def padded(rows: VectorBatch, length: int) -> Padded:
    """The vectors of items, [n, length, dimension], padded with zeros."""
    present = np.arange(length) < np.diff(rows.offsets())[:, None]
    vectors = np.zeros((*present.shape, rows.dimension), dtype=rows.vectors.dtype)
    vectors[present] = rows.vectors
    return vectors


def cut(rows: VectorBatch, longest: int) -> VectorBatch:
    """The first vectors of each item, at most `longest`."""
    lengths = np.diff(rows.offsets())
    place = np.arange(len(rows.vectors)) - np.repeat(rows.offsets()[:-1], lengths)
    return VectorBatch(rows.vectors[place < longest], np.minimum(lengths, longest))


def square_side(found: int, wanted: int) -> int:
    """Side of the squares of patches that are pooled to reduce `found` patches to `wanted`.

    Raises:
        DataError: no squares give that number.
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
    """Means of squares of patches, which are in row-major order.

    Args:
        rows: the patches.
        found: number of patches per item.
        side: side of a square, in patches.

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
