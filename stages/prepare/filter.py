"""Stage `filter`: k-core of the interactions, with users and items renumbered from 0."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.schemas import ITEMS, KCORE, RAW_ITEMS, TEXT_FIELDS, USERS
from mmprep.stages.prepare.id_codes import Codes, FactorizedInteractions, Index, Mask, read_factorized

CHUNK = 2**24  # rows counted at once
MANY = 0.1  # share of rows; if a round drops more, the arrays are compacted
RULES = ("duplicates", "min_rating", "missing_modality", "k_core")  # in the order in which they are applied


class FilterParams(Params):
    """Section `filter` of params.yaml.

    Attributes:
        k_core: minimum number of interactions of a user, and of an item.
        k_core_items: minimum for items instead; None for k_core.
        duplicates: which of a user's reviews of one item is kept.
        min_rating: interactions rated lower are dropped; None keeps all.
        require: modalities that items must have; others are dropped.
    """

    k_core: Annotated[int, Field(ge=1)] = 5
    k_core_items: Annotated[int, Field(ge=1)] | None = None
    duplicates: Literal["last", "first", "best"] = "last"
    min_rating: float | None = None
    require: tuple[Literal["image", "text"], ...] = ()


def run(params: FilterParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Write the k-core with dense indices, its users and its items.

    Duplicates are dropped first, then low ratings, then items that lack a modality; the k-core is taken of the rest.
    Items that lack a modality lack it in every round, so the result is the largest set that satisfies all rules.

    Raises:
        MissingInputError: `ingest` has not run.
        DataError: a table is damaged, or nothing is left.
    """
    left = read_factorized(layout.raw_interactions)
    RAW_ITEMS.check(layout.raw_items)
    sizes = [len(left.rows)]
    with progress("filtering", 4, "rules") as advance:
        mask = distinct(left.rows, params.duplicates)
        repeated = FactorizedInteractions(in_other_splits(left.rows, mask, params.duplicates), left.users, left.items)
        left = left.keep(mask)
        sizes.append(len(left.rows))
        advance(1, "duplicates")
        left = left.keep(rated(left.rows, params.min_rating))
        sizes.append(len(left.rows))
        advance(1, "ratings")
        left = left.keep(complete(left, layout.raw_items, params.require))
        sizes.append(len(left.rows))
        advance(1, "modalities")
        mask, rounds = k_core(left.codes("user"), left.codes("item"), params.k_core, params.k_core_items)
        left = left.keep(mask)
        sizes.append(len(left.rows))
        advance(1, "k-core")
    repeated = repeated.keep(rated(repeated.rows, params.min_rating))
    kept = pairs(left.codes("user"), left.codes("item"))
    repeated = repeated.keep(np.isin(pairs(repeated.codes("user"), repeated.codes("item")), kept))
    lost = {f"lost_to_{rule}": before - after for rule, before, after in zip(RULES, sizes, sizes[1:], strict=False)}
    if left.rows.is_empty():
        counts = ", ".join(f"{lost_rows} to {rule.removeprefix('lost_to_')}" for rule, lost_rows in lost.items())
        raise DataError(
            f"{layout.raw_interactions}: no interaction is left of {sizes[0]} (lost {counts}); "
            "lower filter.k_core or loosen the other rules"
        )
    found = {"rounds": rounds, **lost}
    if len(repeated.rows):
        found["repeated_in_other_splits"] = len(repeated.rows)
    return write_core(left, repeated.rows, params, layout, found)


def write_core(
    core: FactorizedInteractions, repeated: pl.DataFrame, params: FilterParams, layout: Layout, found: dict[str, int]
) -> dict[str, Any]:
    """Renumber the core densely and write its interactions, users and items.

    Args:
        core: distinct pairs of users and items.
        repeated: rows of these pairs in other splits, which follow the core's row of the pair.
        params: for provenance.
        layout: the dataset's paths.
        found: further metrics.
    """
    interactions = len(core.rows)
    core = FactorizedInteractions(pl.concat([core.rows, repeated]), core.users, core.items)
    users, user = dense_index(core.codes("user"), core.users)
    kept_items, item = dense_index(core.codes("item"), core.items)
    order = np.argsort(pairs(user, item), kind="stable")
    rows = core.rows.with_columns(user=pl.Series(user), item=pl.Series(item))[order]
    user_table = users.to_frame("user_id").with_row_index("user")
    item_table = kept_items.to_frame("item_id").with_row_index("item")
    described = describe(item_table, layout.raw_items)

    provenance = record("filter", layout, params, [layout.raw_interactions, layout.raw_items])
    USERS.write(user_table, layout.users, provenance)
    ITEMS.write(described, layout.items, provenance)
    KCORE.write(rows, layout.core, provenance)
    metrics = {
        "users": len(users),
        "items": len(kept_items),
        "interactions": interactions,
        "sparsity": 1 - interactions / (len(users) * len(kept_items)),
        "items_with_photo": len(described) - described["image"].null_count(),
        "items_with_text": described.select(has_text().sum()).item(),
        **found,
    }
    write_json(layout.metrics("filter"), metrics)
    return metrics


def describe(items: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Join the item descriptions of `ingest`; those of items filtered out are never in memory all at once."""
    described = [piece.join(items, on="item_id") for piece in RAW_ITEMS.iter_batches(path)]
    none = pl.DataFrame(RAW_ITEMS.schema.empty_table()).join(items, on="item_id")
    table = (pl.concat(described) if described else none).sort("item")
    if len(table) != len(items):
        raise DataError(f"{path}: has {len(table)} of the {len(items)} items that are left; run `{RAW_ITEMS.made_by}`")
    return table


def pairs(user: npt.NDArray[Any], item: npt.NDArray[Any]) -> Index:
    """Encode each row's user and item as one integer, which sorts by user, then item."""
    joined = user.astype(np.int64)
    joined <<= 32
    joined |= item
    return joined


def distinct(rows: pl.DataFrame, which: Literal["last", "first", "best"]) -> Mask:
    """Keep one row per user and item.

    Args:
        rows: user, item, rating, timestamp, split.
        which: the `last` by time, and among equal times the best rated; the `first` by time, and among equal times the
            worst rated; or the `best` rated, and among equal ratings the last.
    """
    pair = pairs(rows["user"].to_numpy(), rows["item"].to_numpy())
    ordered = np.sort(pair)
    repeated = pl.Series(ordered[1:][ordered[1:] == ordered[:-1]])
    del ordered
    # Most pairs occur once; only the others are sorted by time.
    row = np.flatnonzero(pl.Series(pair).is_in(repeated.unique().implode()))
    again = rows[row].with_columns(row=pl.Series(row), pair=pl.Series(pair[row]))
    by = ["rating", "timestamp"] if which == "best" else ["timestamp", "rating"]
    ranked = again.sort("pair", *by, "split", descending=[False] + [which == "first"] * 2 + [False], nulls_last=False)
    chosen = ranked.unique("pair", keep="last", maintain_order=True)["row"].to_numpy()
    mask = np.ones(len(rows), dtype=bool)
    mask[row] = False
    mask[chosen] = True
    return mask


def in_other_splits(rows: pl.DataFrame, kept: Mask, which: Literal["last", "first", "best"]) -> pl.DataFrame:
    """Rows that `distinct` drops although they are in another split than the one kept: one per pair and split.

    Published splits may have a pair of a user and an item in train and in test; stage `split` decides what to do.

    Args:
        rows: user, item, rating, timestamp, split.
        kept: mask of the rows that `distinct` keeps.
        which: see `distinct`.
    """
    if kept.all() or rows["split"].null_count() == len(rows):
        return rows.clear()
    dropped = rows.filter(pl.Series(~kept)).filter(pl.col("split").is_not_null())
    pair = ["user", "item"]
    beside = rows.filter(pl.Series(kept)).select(*pair, pl.col("split").alias("kept"))
    others = dropped.join(beside.join(dropped.select(pair).unique(), on=pair, how="semi"), on=pair)
    by = ["rating", "timestamp"] if which == "best" else ["timestamp", "rating"]
    ranked = others.filter(pl.col("split").ne_missing(pl.col("kept"))).sort(
        *pair, "split", *by, descending=[False] * 3 + [which == "first"] * 2, nulls_last=False
    )
    return ranked.unique([*pair, "split"], keep="last", maintain_order=True).select(rows.columns)


def rated(rows: pl.DataFrame, least: float | None) -> Mask:
    """Keep the rows rated `least` or higher; rows without a rating are kept only if `least` is None."""
    if least is None:
        return np.ones(len(rows), dtype=bool)
    return rows.select((pl.col("rating") >= least).fill_null(False)).to_series().to_numpy()


def complete(coded: FactorizedInteractions, items: Path, required: tuple[Literal["image", "text"], ...]) -> Mask:
    """Keep the rows of items that have every required modality."""
    if not required:
        return np.ones(len(coded.rows), dtype=bool)
    has = {"image": pl.col("image").is_not_null(), "text": has_text()}
    conditions = [has[modality] for modality in required]
    fit = (piece.filter(*conditions)["item_id"] for piece in RAW_ITEMS.iter_batches(items))
    fits: Mask = coded.items.is_in(pl.concat([pl.Series("item_id", [], pl.String), *fit]).implode()).to_numpy()
    return np.asarray(fits[coded.codes("item")])


def has_text() -> pl.Expr:
    """Whether an item has any text."""
    return pl.any_horizontal(pl.col(*TEXT_FIELDS) != "")


def k_core(user: Codes, item: Codes, k: int, k_items: int | None = None) -> tuple[Mask, int]:
    """Find the largest set of rows in which each user has at least k rows and each item at least k_items.

    Args:
        user: each row's user number.
        item: each row's item number.
        k: minimum number of rows of a user.
        k_items: minimum number of rows of an item; None for k.

    Returns:
        Mask of the rows kept, and the number of rounds in which rows were dropped.
    """
    least = k if k_items is None else k_items
    mask = np.zeros(len(user), dtype=bool)
    kept = np.arange(len(user), dtype=np.uint32)
    present = np.ones(len(user), dtype=bool)
    users, items = count(user), count(item)
    rounds = 0
    while True:
        stay = (users >= k)[user]
        stay &= (items >= least)[item]
        dropped = np.flatnonzero(stay != present)  # counts only fall, so no row comes back
        if not len(dropped):
            break
        users -= count(user[dropped], len(users))
        items -= count(item[dropped], len(items))
        present = stay
        rounds += 1
        if len(dropped) > MANY * len(user):
            left = np.flatnonzero(present)  # a third of the time of three masks
            kept, user, item = kept[left], user[left], item[left]
            present = np.ones(len(left), dtype=bool)
    mask[kept[present]] = True
    return mask, rounds


def count(codes: Codes, size: int = 0) -> Index:
    """Occurrences of each number, counted in chunks, as numpy counts in a copy of twice the size."""
    size = max(size, int(codes.max()) + 1 if len(codes) else 0)
    pieces = (codes[start : start + CHUNK] for start in range(0, len(codes), CHUNK))
    return sum((np.bincount(piece, minlength=size) for piece in pieces), np.zeros(size, dtype=np.int64))


def dense_index(codes: Codes, ids: pl.Series) -> tuple[pl.Series, npt.NDArray[np.int32]]:
    """Renumber the ids that occur from 0, in the order of ids.

    Args:
        codes: each row's provisional number.
        ids: the id of each provisional number.

    Returns:
        The ids in order, and each row's dense index.
    """
    used = np.flatnonzero(count(codes, len(ids)))
    occurring = ids.gather(used)
    order = occurring.arg_sort().to_numpy()
    dense = np.zeros(len(ids), dtype=np.int32)
    dense[used[order]] = np.arange(len(used), dtype=np.int32)
    return occurring.gather(order), dense[codes]
