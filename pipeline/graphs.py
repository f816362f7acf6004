"""Graphs as data: edges in a table, sparse matrices, and the normalisations that recommenders use."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import block_array, csr_array, diags_array

from pipeline.errors import DataError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Edges:
    """Directed weighted edges, sorted by source, then by rank (the best first).

    Attributes:
        source: [edges] i32.
        target: [edges] i32.
        weight: [edges] f32.
    """

    source: npt.NDArray[np.int32]
    target: npt.NDArray[np.int32]
    weight: Floats

    def __len__(self) -> int:
        return len(self.source)

    def to_frame(self) -> pl.DataFrame:
        """The edges as table EDGES."""
        return pl.DataFrame({"source": self.source, "target": self.target, "weight": self.weight})

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "Edges":
        """The edges of table EDGES."""
        return cls(*(frame[name].to_numpy() for name in ("source", "target", "weight")))

    def to_matrix(self, n: int) -> csr_array:
        """The edges as an [n, n] matrix.

        Raises:
            DataError: an edge joins a node beyond n.
        """
        if len(self) and max(int(self.source.max()), int(self.target.max())) >= n:
            raise DataError(f"the graph has nodes beyond the dataset's {n}; run `mmprep graph` again")
        return csr_array((self.weight, (self.source, self.target)), shape=(n, n))


def keep_strongest(matrix: csr_array, k: int) -> Edges:
    """The k largest entries of each row as edges, equal ones by the smaller column."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    rank = np.arange(len(rows)) - matrix.indptr[rows]
    kept = order[rank < k]
    return Edges(rows[kept].astype(np.int32), matrix.indices[kept].astype(np.int32), matrix.data[kept].astype("f4"))


def cooccurrence(interactions: csr_array, min_count: int, k: int) -> Edges:
    """Items joined by the number of users who have both (DA-MRS's behaviour graph).

    Args:
        interactions: binary [n_users, n_items].
        min_count: the least number of common users.
        k: how many neighbours each item keeps, most common users first.
    """
    counts = csr_array(interactions.T @ interactions)
    counts.setdiag(0)
    counts.data[counts.data < min_count] = 0
    counts.eliminate_zeros()
    counts.sort_indices()
    return keep_strongest(counts, k)


def bipartite(interactions: csr_array) -> csr_array:
    """The symmetric adjacency [[0, R], [R^T, 0]] of users and items, [n_users + n_items] squared."""
    return csr_array(block_array([[None, interactions], [interactions.T, None]], format="csr"))


def normalise_symmetric(adjacency: csr_array) -> csr_array:
    """D^-1/2 A D^-1/2 with the row sums as degrees; rows of degree 0 stay 0 (LightGCN)."""
    scale = diags_array(inverse_power(np.asarray(adjacency.sum(axis=1)).ravel(), 0.5))
    return csr_array(scale @ adjacency @ scale).astype(np.float32)


def inverse_power(degrees: Floats, power: float) -> npt.NDArray[np.float64]:
    """degree^-power, and 0 where the degree is 0."""
    inverse = np.zeros(len(degrees))
    positive = degrees > 0
    inverse[positive] = degrees[positive].astype(np.float64) ** -power
    return inverse
