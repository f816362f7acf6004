"""How many rows each two columns of a binary matrix have in common, in blocks of bounded memory."""

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

BLOCK_ENTRIES = 1 << 19  # counts that a thread holds at once; more only where a single column has more
MOST_THREADS = 8  # so that a large machine does not hold a block for each of its cores


@dataclass(frozen=True)
class CommonCounts:
    """The product R^T R of a binary matrix R, of which a block of rows at a time is held.

    Attributes:
        rows: R, [rows, columns], with ones whose sums are exact.
        columns: R^T, [columns, rows], with sorted indices.
    """

    rows: csr_array
    columns: csr_array

    @classmethod
    def of(cls, interactions: csr_array) -> "CommonCounts":
        """The counts of a binary matrix."""
        ones = np.ones(interactions.nnz, dtype=np.int32)
        rows = csr_array((ones, interactions.indices, interactions.indptr), shape=interactions.shape)
        return cls(rows, csr_array(rows.T))

    @property
    def n_columns(self) -> int:
        """How many columns there are."""
        return int(self.columns.shape[0])

    @cached_property
    def degree(self) -> Numbers:
        """How many rows each column has, [columns]: its count with itself, and no count of its is larger."""
        degree: Numbers = np.diff(self.columns.indptr).astype(np.int64)
        return degree

    @cached_property
    def products(self) -> Numbers:
        """How many ones are summed for all counts of each column, [columns]."""
        summed: Numbers = self.columns @ np.diff(self.rows.indptr).astype(np.int64)
        return summed

    def blocks(self, entries: int, most_columns: int) -> list[slice]:
        """Consecutive columns with at most so many counts, or a single one; at most `most_columns` of them."""
        return blocks_of(np.minimum(self.products, self.n_columns), entries, most_columns)

    def block(self, columns: slice) -> csr_array:
        """The counts of some columns with all, [columns of the block, columns], each with itself among them."""
        return csr_array(self.columns[columns] @ self.rows)


def blocks_of(sizes: Numbers, most: int, most_rows: int) -> list[slice]:
    """Consecutive rows whose sizes sum to at most `most`, or a single one; at most `most_rows` of them."""
    ends = np.cumsum(sizes)
    blocks, start = [], 0
    while start < len(sizes):
        done = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, done + most, side="right"))
        blocks.append(slice(start, min(max(stop, start + 1), start + most_rows)))
        start = blocks[-1].stop
    return blocks


def in_threads(function: Callable[[slice], Result], blocks: list[slice]) -> Iterator[Result]:
    """What a function gives for each block, in order. Sparse products and sorts run beside each other."""
    with ThreadPoolExecutor(min(cpu_count() or 1, MOST_THREADS)) as threads:
        yield from threads.map(function, blocks)
