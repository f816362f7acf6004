"""Counts of common rows for all pairs of columns of a binary matrix, in blocks of bounded memory."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from os import cpu_count
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

Numbers = npt.NDArray[np.int64]
Result = TypeVar("Result")

BLOCK_ENTRIES = 1 << 19  # counts held at once per thread; more only if a single column has more
MOST_THREADS = 8  # bounds the memory on machines with many cores, as each thread holds a block


@dataclass(frozen=True)
class CommonCounts:
    """The product R^T R of a binary matrix R, computed one block of rows at a time.

    Attributes:
        rows: R, [rows, columns], with integer ones, whose sums are exact.
        columns: R^T, [columns, rows], with sorted indices.
    """

    rows: csr_array
    columns: csr_array

    @classmethod
    def of(cls, interactions: csr_array) -> "CommonCounts":
        """Prepare the counts of a binary matrix."""
        ones = np.ones(interactions.nnz, dtype=np.int32)
        rows = csr_array((ones, interactions.indices, interactions.indptr), shape=interactions.shape)
        return cls(rows, csr_array(rows.T))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return int(self.columns.shape[0])

    @cached_property
    def degree(self) -> Numbers:
        """Number of rows of each column, [columns]: its count with itself, and the largest of its counts."""
        degree: Numbers = np.diff(self.columns.indptr).astype(np.int64)
        return degree

    @cached_property
    def products(self) -> Numbers:
        """Number of ones summed for all counts of each column, [columns]."""
        summed: Numbers = self.columns @ np.diff(self.rows.indptr).astype(np.int64)
        return summed

    def blocks(self, entries: int, most_columns: int) -> list[slice]:
        """Split the columns into blocks of at most `entries` counts and `most_columns` columns, but at least one."""
        return blocks_of(np.minimum(self.products, self.n_columns), entries, most_columns)

    def block(self, columns: slice) -> csr_array:
        """The counts of a block's columns with all columns, themselves included, [columns of the block, columns]."""
        return csr_array(self.columns[columns] @ self.rows)


def blocks_of(sizes: Numbers, most: int, most_rows: int) -> list[slice]:
    """Split rows into consecutive blocks of total size at most `most` and `most_rows` rows, but at least one row."""
    ends = np.cumsum(sizes)
    blocks, start = [], 0
    while start < len(sizes):
        done = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, done + most, side="right"))
        blocks.append(slice(start, min(max(stop, start + 1), start + most_rows)))
        start = blocks[-1].stop
    return blocks


def in_threads(function: Callable[[slice], Result], blocks: list[slice]) -> Iterator[Result]:
    """Map a function over blocks on threads, in order. Sparse products and sorts release the GIL."""
    with ThreadPoolExecutor(min(cpu_count() or 1, MOST_THREADS)) as threads:
        yield from threads.map(function, blocks)
