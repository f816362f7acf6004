"""Noise on purpose, to measure how a recommender stands it (DA-MRS, Figures 3 and 4; docs/papers/da_mrs.md#noise)."""

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

MAX_DENSITY = 0.5  # of all pairs; above, drawing unknown ones at random takes too many tries


class NoiseParams(Params):
    """Section `noise` of params.yaml. Val and test stay as they are.

    Attributes:
        added: feedback that nobody gave, as a share of the train interactions.
        removed: the share of the train interactions that is dropped.
        replaced: the share of the items that get the photo or text of another one.
        modality: which of the two.
        seed: of all draws; each rate has draws of its own.
    """

    added: Rate = 0.0
    removed: Rate = 0.0
    replaced: Rate = 0.0
    modality: Literal["image", "text"] = "image"
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0


def disturb_feedback(interactions: pl.DataFrame, params: NoiseParams, n_users: int, n_items: int) -> pl.DataFrame:
    """Remove train interactions, then add false ones; both counted on the train interactions as they came.

    False ones are pairs drawn uniformly that are in no split of the user. They have no rating and no time.

    Args:
        interactions: table SPLIT_INTERACTIONS, sorted by user and item.
        params: the rates.
        n_users: of the dataset.
        n_items: of the dataset.

    Raises:
        DataError: the dataset is too dense to find so many pairs.
    """
    n_train = int((interactions["split"] == TRAIN).sum())
    false = false_pairs(interactions, int(params.added * n_train), n_users, n_items, params.seed)
    kept = remove_train(interactions, int(params.removed * n_train), params.seed)
    if not len(false):
        return kept
    user, item = (false // n_items).astype(np.int32), (false % n_items).astype(np.int32)
    added = pl.DataFrame({"user": user, "item": item}).with_columns(
        rating=pl.lit(None, pl.Float32),
        timestamp=pl.lit(None, pl.Int64),
        split=pl.lit(TRAIN, interactions.schema["split"]),
    )
    return pl.concat([kept, added.select(kept.columns)]).sort("user", "item")


def remove_train(interactions: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Drop so many train rows, drawn uniformly without replacement."""
    if not count:
        return interactions
    train = np.flatnonzero((interactions["split"] == TRAIN).to_numpy())
    keep = np.ones(len(interactions), dtype=bool)
    keep[np.random.default_rng([seed, 3]).permutation(train)[:count]] = False
    return interactions.filter(pl.Series(keep))


def false_pairs(interactions: pl.DataFrame, count: int, n_users: int, n_items: int, seed: int) -> npt.NDArray[np.int64]:
    """So many distinct pairs, as user * n_items + item, that are in no split.

    Raises:
        DataError: known and false pairs together would be more than half of all pairs.
    """
    if count + len(interactions) > MAX_DENSITY * n_users * n_items:
        raise DataError(
            f"noise.added: {count} pairs beside the {len(interactions)} known ones would fill more than half of the "
            f"{n_users} x {n_items} pairs; lower it"
        )
    taken = interactions["user"].to_numpy().astype(np.int64) * n_items + interactions["item"].to_numpy()
    found = np.empty(0, dtype=np.int64)
    rng = np.random.default_rng([seed, 2])
    while len(found) < count:
        drawn = rng.integers(n_users * n_items, size=2 * (count - len(found)) + 16)
        fresh = drawn[~np.isin(drawn, taken) & ~np.isin(drawn, found)]
        _, first = np.unique(fresh, return_index=True)
        found = np.concatenate([found, fresh[np.sort(first)]])
    return found[:count]


def replace_sources(sources: list[tuple[int, Source]], rate: float, seed: int) -> tuple[list[tuple[int, Source]], int]:
    """Give some items the photo or text of another, drawn uniformly from the clean ones.

    Args:
        sources: (item, its photo or text).
        rate: the share of them that is replaced.
        seed: of the draws.

    Returns:
        The sources with replacements, and how many there are.
    """
    count = int(rate * len(sources)) if len(sources) > 1 else 0
    rng = np.random.default_rng([seed, 1])
    targets = rng.permutation(len(sources))[:count]
    # Drawn from the others: the numbers from the target's own on are shifted by one.
    origins = rng.integers(len(sources) - 1, size=count) if count else np.empty(0, dtype=np.int64)
    origins += origins >= targets
    noisy = list(sources)
    for target, origin in zip(targets.tolist(), origins.tolist(), strict=True):
        noisy[target] = (sources[target][0], sources[origin][1])
    return noisy, count
