"""Train interactions as graph builders read them."""

from pathlib import Path

from scipy.sparse import csr_array

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.interactions import read_splits


def split_files(layout: Layout) -> list[Path]:
    """Input files of graphs that are built from interactions."""
    return [layout.interactions, layout.users, layout.items]


def train_of(layout: Layout) -> csr_array:
    """The train interactions [n_users, n_items].

    Raises:
        DataError: there are none.
    """
    train = read_splits(layout).train
    if not train.nnz:
        raise DataError(f"{layout.interactions}: no train interactions, so there is nothing to join; see split.rule")
    return train
