"""Graphs as edge lists and sparse matrices, and the normalisations that recommenders use."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import block_array, csr_array, diags_array

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.params import Normalisation, Weight

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Edges:
    """Directed weighted edges, sorted by source, then by rank (best first).

    Attributes:
        source: [edges] i32.
        target: [edges] i32.
        weight: [edges] f32.
    """

    source: Indices
    target: Indices
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

    def renumbered(self, numbers: npt.NDArray[np.integer]) -> "Edges":
        """The same edges with node n renumbered to numbers[n]; the numbers must increase."""
        new = numbers.astype(np.int32)
        return Edges(new[self.source], new[self.target], self.weight)

    def to_matrix(self, rows: int, columns: int | None = None) -> csr_array:
        """The edges as a matrix [rows, columns], square if `columns` is None.

        Raises:
            DataError: an edge has a node outside the matrix.
        """
        shape = (rows, rows if columns is None else columns)
        ends = zip((self.source, self.target), shape, strict=True)
        if len(self) and any(int(end.min()) < 0 or int(end.max()) >= size for end, size in ends):
            raise DataError(f"the graph has nodes beyond the dataset's {shape[0]}; run `mmprep graph` again")
        return csr_array((self.weight, (self.source, self.target)), shape=shape)


def keep_strongest(matrix: csr_array, k: int) -> Edges:
    """The k largest entries of each row as edges; ties are broken by the smaller column."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    rank = np.arange(len(rows)) - matrix.indptr[rows]
    kept = order[rank < k]
    return Edges(rows[kept].astype(np.int32), matrix.indices[kept].astype(np.int32), matrix.data[kept].astype("f4"))


def strongest_first(matrix: csr_array) -> Edges:
    """All entries of a matrix as edges, the largest of each row first."""
    return keep_strongest(matrix, int(matrix.shape[1]))


def weighted(matrix: csr_array, weight: Weight) -> csr_array:
    """A copy of the matrix with negative weights set to 0, or, for `binary`, with all weights set to 1.

    Negative weights could make row sums too small to divide by (docs/papers/conventions.md#negative-weights).
    """
    kept: csr_array = matrix.copy()
    kept.data = np.ones_like(matrix.data) if weight == "binary" else np.maximum(matrix.data, 0)
    return kept


def normalised(matrix: csr_array, how: Normalisation) -> csr_array:
    """Normalise a matrix by its row sums r: `sym_out` w_ij / sqrt(r_i r_j), `row` w_ij / r_i, `none` w_ij.

    Source: docs/papers/conventions.md#normalisation.

    `sym_out` needs a square matrix and uses row sums for both ends, as LATTICE and its successors do. Empty rows stay
    empty.
    """
    if how == "none":
        return matrix
    # scipy would sum f32 in f32, in the order of the columns, whatever its dtype argument.
    sums = np.asarray(matrix.astype(np.float64).sum(axis=1)).ravel()
    if how == "row":
        return csr_array(diags_array(inverse_power(sums, 1)) @ matrix).astype(np.float32)
    scale = diags_array(inverse_power(sums, 0.5))
    return csr_array(scale @ matrix @ scale).astype(np.float32)


def bipartite(interactions: csr_array) -> csr_array:
    """The symmetric adjacency matrix [[0, R], [R^T, 0]] of users and items, [n_users + n_items] squared."""
    return csr_array(block_array([[None, interactions], [interactions.T, None]], format="csr"))


def inverse_power(degrees: npt.NDArray[np.floating], power: float) -> npt.NDArray[np.float64]:
    """degree^-power, and 0 where the degree is 0."""
    inverse = np.zeros(len(degrees))
    positive = degrees > 0
    inverse[positive] = degrees[positive].astype(np.float64) ** -power
    return inverse


def interaction_graphs(interactions: csr_array) -> dict[str, csr_array]:
    """The graphs of users and items that recommenders propagate over (docs/papers/conventions.md#notation).

    Args:
        interactions: binary [n_users, n_items], R.

    Returns:
        `symmetric`, D^-1/2 [[0, R], [R^T, 0]] D^-1/2, [n_users + n_items] squared, users first (LightGCN eq 3);
        `user_mean`, D_U^-1 R, [n_users, n_items]; `item_mean`, D_I^-1 R^T, [n_items, n_users].
    """
    return {
        "symmetric": normalised(bipartite(interactions), "sym_out"),
        "user_mean": normalised(interactions, "row"),
        "item_mean": normalised(csr_array(interactions.T), "row"),
    }
