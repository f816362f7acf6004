"""Interactions as sparse matrices, one row per user and one column per item."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.freshness import require_fresh
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import ITEMS, SPLIT_INTERACTIONS, TEST, TRAIN, USERS, VAL


@dataclass(frozen=True)
class SplitMatrices:
    """The interactions of a dataset by split, each a binary [n_users, n_items] matrix with sorted indices."""

    train: csr_array
    val: csr_array
    test: csr_array

    @property
    def n_users(self) -> int:
        """Number of users."""
        return int(self.train.shape[0])

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.train.shape[1])


def read_splits(layout: Layout) -> SplitMatrices:
    """Read a dataset's split interactions.

    Raises:
        MissingInputError: `split` has not run.
        DataError: it has not run since `filter` changed the users or items.
    """
    interactions = SPLIT_INTERACTIONS.read(layout.interactions, columns=["user", "item", "split"])
    shape = (USERS.count(layout.users), ITEMS.count(layout.items))
    require_split_is_fresh(layout)
    return SplitMatrices(*(to_matrix(interactions.filter(split=split), shape) for split in (TRAIN, VAL, TEST)))


def require_split_is_fresh(layout: Layout) -> None:
    """Check that the split interactions belong to the dataset's current users and items.

    Raises:
        DataError: `split` has not run since `filter` changed them.
    """
    inputs = read_provenance(layout.interactions)["inputs"]
    require_fresh(layout.interactions, inputs, layout, "mmprep split", (layout.users, layout.items))


def to_matrix(interactions: pl.DataFrame, shape: tuple[int, int]) -> csr_array:
    """Build a binary matrix from the columns `user` and `item`."""
    ones = np.ones(len(interactions), dtype=np.float32)
    indices = (interactions["user"].to_numpy(), interactions["item"].to_numpy())
    matrix = csr_array((ones, indices), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
