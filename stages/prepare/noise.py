"""Noise injection, to measure a recommender's robustness (DA-MRS, Figures 3 and 4; docs/papers/da_mrs.md#noise)."""

from typing import Annotated, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.params import Params
from mmprep.pipeline.tables.schemas import TRAIN

Source = TypeVar("Source")
Rate = Annotated[float, Field(ge=0, le=1)]

MAX_DENSITY = 0.5  # share of all pairs; above it, drawing unknown ones at random takes too many tries


class NoiseParams(Params):
    """Section `noise` of params.yaml. Val and test are not changed.

    Attributes:
        added: number of false interactions, as a share of the train interactions.
        removed: share of the train interactions that is dropped.
        replaced: share of the items that get the photo or text of another one.
        modality: which of the two is replaced.
        seed: random seed; each rate has its own stream.
    """

    added: Rate = 0.0
    removed: Rate = 0.0
    replaced: Rate = 0.0
    modality: Literal["image", "text"] = "image"
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0


def disturb_feedback(interactions: pl.DataFrame, params: NoiseParams, n_users: int, n_items: int) -> pl.DataFrame:
    """Remove train interactions, then add false ones; both rates refer to the original train interactions.

    False ones are pairs drawn uniformly that are in no split of the user. They have no rating and no time.

    Args:
        interactions: table SPLIT_INTERACTIONS, sorted by user and item.
        params: the rates.
        n_users: number of users in the dataset.
        n_items: number of items in the dataset.

    Raises:
        DataError: the dataset is too dense for this number of false pairs.
    """
    n_train = int((interactions["split"] == TRAIN).sum())
    drawn = false_pairs(interactions, int(params.added * n_train), n_users, n_items, params.seed)
    kept = remove_train(interactions, int(params.removed * n_train), params.seed)
    if not len(drawn):
        return kept
    user, item = (drawn // n_items).astype(np.int32), (drawn % n_items).astype(np.int32)
    added = pl.DataFrame({"user": user, "item": item}).with_columns(
        rating=pl.lit(None, pl.Float32),
        timestamp=pl.lit(None, pl.Int64),
        split=pl.lit(TRAIN, interactions.schema["split"]),
    )
    return pl.concat([kept, added.select(kept.columns)]).sort("user", "item")


def remove_train(interactions: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Drop `count` train rows, drawn uniformly without replacement."""
    if not count:
        return interactions
    train = np.flatnonzero((interactions["split"] == TRAIN).to_numpy())
    keep = np.ones(len(interactions), dtype=bool)
    keep[np.random.default_rng([seed, 3]).permutation(train)[:count]] = False
    return interactions.filter(pl.Series(keep))


def false_pairs(interactions: pl.DataFrame, count: int, n_users: int, n_items: int, seed: int) -> npt.NDArray[np.int64]:
    """Draw `count` distinct pairs, as user * n_items + item, that are in no split.

    Raises:
        DataError: known and false pairs together would be more than half of all pairs.
    """
    if count + len(interactions) > MAX_DENSITY * n_users * n_items:
        raise DataError(
            f"noise.added: {count} pairs beside the {len(interactions)} known ones would fill more than half of the "
            f"{n_users} x {n_items} pairs; lower it"
        )
    taken = interactions["user"].to_numpy().astype(np.int64) * n_items + interactions["item"].to_numpy()
    pairs = np.empty(0, dtype=np.int64)
    rng = np.random.default_rng([seed, 2])
    while len(pairs) < count:
        drawn = rng.integers(n_users * n_items, size=2 * (count - len(pairs)) + 16)
        fresh = drawn[~np.isin(drawn, taken) & ~np.isin(drawn, pairs)]
        _, first = np.unique(fresh, return_index=True)
        pairs = np.concatenate([pairs, fresh[np.sort(first)]])
    return pairs[:count]


def replace_sources(sources: list[tuple[int, Source]], rate: float, seed: int) -> tuple[list[tuple[int, Source]], int]:
    """Replace the photo or text of some items by that of another, drawn uniformly from the clean ones.

    Args:
        sources: (item, its photo or text).
        rate: share of the sources that is replaced.
        seed: random seed.

    Returns:
        The sources with replacements, and the number of replacements.
    """
    count = int(rate * len(sources)) if len(sources) > 1 else 0
    rng = np.random.default_rng([seed, 1])
    targets = rng.permutation(len(sources))[:count]
    # Drawn from the other sources: positions from the target's own on are shifted by one.
    origins = rng.integers(len(sources) - 1, size=count) if count else np.empty(0, dtype=np.int64)
    origins += origins >= targets
    noisy = list(sources)
    for target, origin in zip(targets.tolist(), origins.tolist(), strict=True):
        noisy[target] = (sources[target][0], sources[origin][1])
    return noisy, count
