"""Packing of neighbours into one integer each, so that a single sort ranks them."""

from dataclasses import dataclass

import numpy as np

from mmprep.pipeline.graphs.common_counts import CommonCounts, Numbers
from mmprep.pipeline.graphs.edges import Edges, Indices


@dataclass(frozen=True)
class Ranks:
    """Packs each neighbour into an i64 that sorts by row, then larger count, then smaller column.

    Sorting these takes a tenth of the time of a sort by three keys.

    Attributes:
        count_bits: number of bits for the largest count.
        column_bits: number of bits for the largest column.
    """

    count_bits: int
    column_bits: int

    @classmethod
    def of(cls, counts: CommonCounts) -> "Ranks":
        """The packing for all counts of a matrix."""
        return cls(int(counts.degree.max(initial=0)).bit_length(), counts.n_columns.bit_length())

    @property
    def most_rows(self) -> int:
        """Maximum number of rows: at least one, as neither counts nor columns exceed 2^31."""
        return 1 << (63 - self.count_bits - self.column_bits)

    def pack(self, rows: Numbers, counts: Indices, columns: Indices) -> Numbers:
        """Pack neighbours, [neighbours]."""
        packed = (rows + 1 << self.count_bits) - 1
        packed -= counts
        packed <<= self.column_bits
        packed |= columns
        return packed

    def row(self, packed: Numbers) -> Numbers:
        """The rows of packed neighbours."""
        return packed >> (self.count_bits + self.column_bits)

    def count(self, packed: Numbers) -> Numbers:
        """The counts of packed neighbours."""
        mask = (1 << self.count_bits) - 1
        return mask - (packed >> self.column_bits & mask)

    def edges(self, packed: Numbers, start: int) -> Edges:
        """Unpack neighbours to edges; row 0 is column `start`."""
        columns = packed & (1 << self.column_bits) - 1
        rows = self.row(packed) + start
        return Edges(rows.astype(np.int32), columns.astype(np.int32), self.count(packed).astype(np.float32))
