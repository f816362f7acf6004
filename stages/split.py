"""Stage `split`: each user's interactions into train, val and test, about 8:1:1."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from pipeline.files import require, write_json
from pipeline.layout import Layout
from pipeline.params import Params
from pipeline.progress import Progress, silent
from pipeline.provenance import record
from pipeline.tables import CORE, SPLIT_INTERACTIONS, SPLITS, TEST, TRAIN, VAL

Index = npt.NDArray[np.int64]

FEW = 10  # users with fewer interactions give one to val and one to test


class SplitParams(Params):
    """Section `split` of params.yaml."""

    rule: Literal["mmrec", "lattice"] = "mmrec"
    seed: Annotated[int, Field(ge=0)] = 0


def run(params: SplitParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Assign each interaction to a split and write the interactions with it.

    Raises:
        MissingInputError: `filter` has not run.
    """
    del progress  # a few seconds at most
    core = CORE.read(layout.core)
    made_with = [require(path, "mmprep filter") for path in (layout.core, layout.users, layout.items)]
    splits = assign(core["user"].to_numpy(), params.rule, params.seed)
    interactions = core.with_columns(split=pl.Series(splits))
    SPLIT_INTERACTIONS.write(interactions, layout.interactions, record("split", layout, params, made_with))
    counts = dict(interactions["split"].value_counts().iter_rows())
    metrics: dict[str, Any] = {split: counts.get(split, 0) for split in SPLITS}
    trained = interactions.filter(pl.col("split") == TRAIN)
    metrics["items_seen_in_train"] = trained["item"].n_unique()
    write_json(layout.metrics("split"), metrics)
    return metrics


def assign(users: npt.NDArray[np.int32], rule: str, seed: int) -> npt.NDArray[np.str_]:
    """The split of each row: at random within a user, by the sizes of `held_out`.

    Args:
        users: each row's user, sorted.
        rule: who gets the odd row, see `held_out`.
        seed: the same seed gives the same splits for the same rows.
    """
    draw = np.random.default_rng(seed).random(len(users))
    counts = np.bincount(users)
    order = np.lexsort((draw, users))
    position = np.empty(len(users), dtype=np.int64)
    position[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    val, test = held_out(counts, rule)
    splits = np.full(len(users), TRAIN)
    splits[position < (val + test)[users]] = TEST
    splits[position < val[users]] = VAL
    return splits


def held_out(counts: Index, rule: str) -> tuple[Index, Index]:
    """How many of a user's n rows go to val and to test.

    Below 10 rows one each; else floor(0.2 n) in halves, of which the odd row goes to test by the rule `mmrec` (its
    notebook 1splitting) and to val by `lattice` (its build_data.py). Users with two rows give one to test, users with
    one give none, so that everybody keeps a row to train on.
    """
    held = np.where(counts < FEW, 2, counts * 2 // 10)
    smaller = held // 2
    val, test = (smaller, held - smaller) if rule == "mmrec" else (held - smaller, smaller)
    return np.where(counts < 3, 0, val), np.where(counts < 3, np.minimum(np.maximum(counts - 1, 0), 1), test)
