"""Stage `filter`: the k-core of the interactions, users and items renumbered from 0."""

from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from pipeline.errors import DataError
from pipeline.files import write_json
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.progress import Progress, silent
from pipeline.provenance import record
from pipeline.tables import CORE, INTERACTIONS, ITEMS, RAW_ITEMS, USERS

Index = npt.NDArray[np.int64]


class FilterParams(Params):
    """Section `filter` of params.yaml."""

    k_core: Annotated[int, Field(ge=1)] = 5


def run(params: FilterParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Keep the k-core and write it with dense indices, its users and its items.

    Raises:
        MissingInputError: `ingest` has not run.
        DataError: the k-core is empty.
    """
    del progress  # a few seconds at most
    reviews = INTERACTIONS.read(layout.raw_interactions)
    distinct = keep_last(reviews)
    kept, rounds = k_core(distinct["user_id"], distinct["item_id"], params.k_core)
    core = distinct.filter(pl.Series(kept))
    if core.is_empty():
        raise DataError(
            f"no user and item have {params.k_core} interactions with each other: the {params.k_core}-core of "
            f"{len(distinct)} interactions is empty; lower filter.k_core"
        )
    users, items = dense_index(core, "user"), dense_index(core, "item")
    described = items.join(RAW_ITEMS.read(layout.raw_items), on="item_id", how="left", maintain_order="left")
    indexed = core.join(users, on="user_id").join(items, on="item_id").sort("user", "item")

    provenance = record("filter", layout, params, [layout.raw_interactions, layout.raw_items])
    USERS.write(users, layout.users, provenance)
    ITEMS.write(described, layout.items, provenance)
    CORE.write(indexed, layout.core, provenance)
    metrics = {
        "users": len(users),
        "items": len(items),
        "interactions": len(core),
        "sparsity": 1 - len(core) / (len(users) * len(items)),
        "items_with_photo": len(items) - described["image"].null_count(),
        "rounds": rounds,
        "lost_to_duplicates": len(reviews) - len(distinct),
        "lost_to_k_core": len(distinct) - len(core),
    }
    write_json(layout.metrics("filter"), metrics)
    return metrics


def keep_last(reviews: pl.DataFrame) -> pl.DataFrame:
    """One review a user and item, the last by time; of those at one time, the best rated.

    Rows come out sorted by user and item, so the result does not depend on the file's order.
    """
    keys = ["user_id", "item_id"]
    return reviews.sort(*keys, "timestamp", "rating").unique(keys, keep="last", maintain_order=True)


def k_core(users: pl.Series, items: pl.Series, k: int) -> tuple[npt.NDArray[np.bool_], int]:
    """Find the largest set of rows in which each user and each item has at least k rows.

    Args:
        users: a row's user.
        items: a row's item.
        k: the least number of rows.

    Returns:
        Which rows are kept, and in how many rounds rows were dropped.
    """
    user, item = encode(users), encode(items)
    rows = np.arange(len(user))
    rounds = 0
    while len(rows):
        stay = enough(user[rows], k) & enough(item[rows], k)
        if stay.all():
            break
        rows = rows[stay]
        rounds += 1
    kept = np.zeros(len(user), dtype=bool)
    kept[rows] = True
    return kept, rounds


def encode(ids: pl.Series) -> Index:
    """A number from 0 for each distinct id."""
    return ids.rank("dense").to_numpy().astype(np.int64) - 1


def enough(index: Index, k: int) -> npt.NDArray[np.bool_]:
    """Which rows are of an index that occurs at least k times."""
    return np.asarray(np.bincount(index)[index] >= k)


def dense_index(core: pl.DataFrame, kind: str) -> pl.DataFrame:
    """The ids of one kind, `user` or `item`, numbered from 0 in the order of ids."""
    ids = core[f"{kind}_id"].unique().sort()
    return pl.DataFrame({kind: pl.arange(len(ids), dtype=pl.Int32, eager=True), f"{kind}_id": ids})
