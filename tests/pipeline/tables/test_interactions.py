"""Interactions as matrices, one a split."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.interactions import read_splits, to_matrix
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import ITEMS, SPLIT_INTERACTIONS, USERS

PROVENANCE = Provenance("test", {}, {}, {}, {})


def write_dataset(folder: Path, rows: list[tuple[int, int, str]], n_users: int, n_items: int) -> Layout:
    layout = Layout(folder, "toys")
    users, items, splits = zip(*rows, strict=True)
    frame = pl.DataFrame({"user": users, "item": items, "split": splits}).with_columns(
        pl.lit(5.0).alias("rating"), pl.lit(0).alias("timestamp")
    )
    USERS.write(
        pl.DataFrame({"user": range(n_users), "user_id": [f"u{n}" for n in range(n_users)]}), layout.users, PROVENANCE
    )
    texts = [pl.lit("").alias(name) for name in ("title", "description", "categories", "brand")]
    images = [pl.lit(None, dtype=pl.String).alias(name) for name in ("image", "image_url")]
    described = pl.DataFrame({"item": range(n_items), "item_id": [f"i{n}" for n in range(n_items)]})
    ITEMS.write(described.with_columns(*texts, *images), layout.items, PROVENANCE)
    made_from = {layout.relative(path): sha256(path) for path in (layout.users, layout.items)}
    SPLIT_INTERACTIONS.write(frame, layout.interactions, Provenance("test", {}, made_from, {}, {}))
    return layout


def test_each_split_is_a_binary_matrix_of_all_users_and_items(tmp_path: Path) -> None:
    rows = [(0, 2, "train"), (0, 0, "train"), (1, 1, "val"), (2, 3, "test"), (2, 0, "train")]
    splits = read_splits(write_dataset(tmp_path, rows, n_users=4, n_items=5))
    assert (splits.n_users, splits.n_items) == (4, 5)
    for split in ("train", "val", "test"):
        expected = np.zeros((4, 5), dtype=np.float32)
        for user, item, found in rows:
            expected[user, item] += found == split
        matrix = getattr(splits, split)
        np.testing.assert_array_equal(matrix.toarray(), expected)
        assert matrix.dtype == np.float32
        assert matrix.has_sorted_indices


def test_a_repeated_pair_counts_once() -> None:
    frame = pl.DataFrame({"user": [1, 1, 0], "item": [2, 2, 1]})
    np.testing.assert_array_equal(to_matrix(frame, (2, 3)).toarray(), [[0, 1, 0], [0, 0, 1]])


def test_no_interactions_are_an_empty_matrix() -> None:
    matrix = to_matrix(pl.DataFrame(schema={"user": pl.Int32, "item": pl.Int32}), (2, 3))
    assert (matrix.shape, matrix.nnz) == ((2, 3), 0)


@pytest.mark.parametrize("table", ["users", "items"])
def test_interactions_of_another_filtering_are_refused(tmp_path: Path, table: str) -> None:
    layout = write_dataset(tmp_path, [(0, 0, "train")], n_users=4, n_items=5)
    other = write_dataset(tmp_path / "other", [(0, 0, "train")], n_users=6, n_items=6)
    getattr(other, table).replace(getattr(layout, table))
    with pytest.raises(DataError) as caught:
        read_splits(layout)
    found = getattr(layout, table)
    assert str(caught.value) == f"{layout.interactions}: made of another {found}; run `mmprep split`"


def test_before_the_split_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"not found; run `mmprep split` first$"):
        read_splits(Layout(tmp_path, "toys"))
