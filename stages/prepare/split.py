"""Stage `split`: assign interactions to train, val and test."""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.files import require_exists, write_json
from mmprep.pipeline.tables.provenance import read_provenance, record
from mmprep.pipeline.tables.schemas import ITEMS, KCORE, SPLIT_INTERACTIONS, SPLITS, USERS
from mmprep.stages.prepare.noise import NoiseParams, disturb_feedback

Index = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]
Rule = Literal["mmrec", "lattice", "ratio", "temporal", "leave_one_out", "global_time", "given"]

FEW = 10  # users with fewer interactions give one to val and one to test
TENTH = 10  # of `ratio`, which is 8:1:1
IN_TRAIN, IN_VAL, IN_TEST = range(3)  # positions in SPLITS
TRAIN_QUANTILE, VAL_QUANTILE = 0.8, 0.9
DRAWING: tuple[Rule, ...] = ("mmrec", "lattice", "ratio")
NOT_KNOWN = "rule not known"


class SplitRule(Params):
    """Keys of section `split` that determine the result, as provenance records them.

    Attributes:
        rule: see `assign`.
        seed: random seed of the rules that draw.
    """

    rule: Rule = "mmrec"
    seed: Annotated[int, Field(ge=0)] = 0


class SplitParams(SplitRule):
    """Section `split` of params.yaml.

    Attributes:
        rule: see `assign`.
        seed: random seed of the rules that draw.
        redraw: whether another rule than `given` may replace a split of the raw files.
        leaks: for `given`, which rows of a pair that is in more than one part are kept: all (`keep`) or the one that
            filter.duplicates selects (`drop`); None to refuse.
    """

    redraw: bool = False
    leaks: Literal["drop", "keep"] | None = None


def run(
    params: SplitParams, layout: Layout, progress: Progress = silent, noise: NoiseParams | None = None
) -> dict[str, Any]:
    """Assign each interaction to a split, inject noise into the train split if configured, and write the interactions.

    Raises:
        MissingInputError: `filter` has not run.
        DataError: the rule needs times or published splits, and there are none; the raw files give a split, and the
            rule would replace it without `redraw`; a pair is in more than one part, without `leaks`; or the train split
            is empty.
    """
    del progress  # a few seconds, at a hundred million interactions a minute
    require_no_given_split(params, layout)
    core = KCORE.read(layout.core, [name for name in KCORE.schema.names if name != "split" or params.rule == "given"])
    core, leaks = without_leaks(core, params)
    made_with = [require_exists(path, "mmprep filter") for path in (layout.core, layout.users, layout.items)]
    labels = assign(core, params.rule, params.seed)
    if not np.any(labels == IN_TRAIN):
        raise DataError(f"split.rule: {params.rule} leaves no interaction to train on; take another rule")
    interactions = core.with_columns(split=pl.Series(labels.view(np.uint8)).cat.to(pl.Enum(SPLITS)))
    noise = noise or NoiseParams()
    if noise.added or noise.removed:
        n_users, n_items = USERS.count(layout.users), ITEMS.count(layout.items)
        interactions = disturb_feedback(interactions, noise, n_users, n_items)
    determining = SplitRule(rule=params.rule, seed=params.seed)
    notes: dict[str, Any] = {"leaks": params.leaks}
    provenance = record(
        "split",
        layout,
        determining,
        made_with,
        noise=noise.model_dump(include={"added", "removed", "seed"}),
        **(notes if leaks else {}),
    )
    SPLIT_INTERACTIONS.write(interactions, layout.interactions, provenance)
    metrics = summarise(interactions) | ({"pairs_in_more_than_one_part": leaks} if leaks else {})
    write_json(layout.metrics("split"), metrics)
    return metrics


def describe_split(rule: str, seed: int | None) -> str:
    """The rule of a split, and the seed of a rule that draws, for tables of results; None if each run has its own."""
    drawn = "one seed per run" if seed is None else f"seed {seed}"
    return f"{rule}, {drawn}" if rule in DRAWING else rule


def split_of(layout: Layout) -> str:
    """The rule and the seed of a dataset's current split, from its provenance.

    Raises:
        DataError: the file is damaged.
    """
    if not layout.interactions.exists():  # results may be on this machine without the data
        return NOT_KNOWN
    params = read_provenance(layout.interactions).get("params", {})
    return describe_split(params["rule"], params["seed"]) if {"rule", "seed"} <= params.keys() else NOT_KNOWN


def require_no_given_split(params: SplitParams, layout: Layout) -> None:
    """Check that the rule replaces no split of the raw files, unless the parameters allow it.

    Raises:
        MissingInputError: `filter` has not run.
        DataError: it would.
    """
    if params.rule == "given" or params.redraw:
        return
    given, rows = KCORE.count_values(layout.core, "split"), KCORE.count(layout.core)
    if given:
        raise DataError(
            f"split.rule: found {params.rule}, but the raw files give a split for {given} of {rows} interactions; "
            "set split.rule: given to keep it, or split.redraw: true to replace it"
        )


def without_leaks(core: pl.DataFrame, params: SplitParams) -> tuple[pl.DataFrame, int]:
    """Drop or keep the further rows of pairs that are in more than one part of a given split.

    Args:
        core: table KCORE, sorted by user and item, the row that `filter` kept of a pair first.
        params: other rules than `given` drop them.

    Returns:
        The rows that are left, and with `given` the number of these pairs.

    Raises:
        DataError: there are such pairs, the rule is `given`, and `leaks` is not set.
    """
    user, item = core["user"].to_numpy(), core["item"].to_numpy()
    further = np.zeros(len(core), dtype=bool)
    further[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    if not further.any():
        return core, 0
    if params.rule != "given":
        return core.filter(pl.Series(~further)), 0
    count = core.filter(pl.Series(further)).select("user", "item").n_unique()
    if params.leaks is None:
        raise DataError(
            f"split.rule: found given, but {count} pairs of a user and an item are in more than one part of the split, "
            "so that train has items of val or test; set split.leaks: drop to keep the one row of each pair that "
            "filter.duplicates selects, or keep to keep all as given"
        )
    return (core if params.leaks == "keep" else core.filter(pl.Series(~further))), count


def summarise(interactions: pl.DataFrame) -> dict[str, Any]:
    """The stage's metrics. Users without train items, which only noise causes, are left out of evaluation."""
    labels = interactions["split"].to_physical().to_numpy()
    counts = np.bincount(labels, minlength=len(SPLITS))
    trained = labels == IN_TRAIN
    users = interactions["user"].to_numpy()
    return {
        **{split: int(count) for split, count in zip(SPLITS, counts, strict=True)},
        "items_seen_in_train": int(np.count_nonzero(np.bincount(interactions["item"].to_numpy()[trained]))),
        "users_without_train": int(np.count_nonzero(np.bincount(users)))
        - int(np.count_nonzero(np.bincount(users[trained]))),
    }


def assign(core: pl.DataFrame, rule: Rule, seed: int) -> Labels:
    """The split of each row, as a position in SPLITS.

    - `mmrec`, `lattice`, `ratio`: at random within a user, by the sizes of `held_out`.
    - `temporal`: each user's last rows, by the sizes of `held_out` for `mmrec`; test is last.
    - `leave_one_out`: each user's last row is test, the one before it val.
    - `global_time`: before the 0.8 quantile of all times train, before the 0.9 quantile val, the rest test (the first
      split of MMRec's notebook 0rating2inter).
    - `given`: as in the raw files.

    Rows of equal time are ordered by item, so the result depends only on the rows and the seed.

    Args:
        core: table KCORE, sorted by user and item.
        rule: one of the above.
        seed: random seed of the rules that draw.

    Raises:
        DataError: the rule needs times or published splits, and a row has none.
    """
    needed = {"temporal": "timestamp", "leave_one_out": "timestamp", "global_time": "timestamp", "given": "split"}
    if rule in needed and core[needed[rule]].null_count():
        missing = "the raw files give no split" if rule == "given" else "the raw files give no times"
        raise DataError(f"split.rule: found {rule}, but {missing} for {core[needed[rule]].null_count()} interactions")
    users = core["user"].to_numpy()
    if rule == "given":
        return core["split"].cast(pl.Enum(SPLITS)).to_physical().to_numpy().astype(np.int8)
    if rule == "global_time":
        return by_time(core["timestamp"].to_numpy())
    # A user's rows are held out in this order: at random, or the latest first.
    if rule in ("temporal", "leave_one_out"):
        turn = np.empty(len(users), dtype=np.int64)
        turn[np.argsort(core["timestamp"].to_numpy(), kind="stable")] = np.arange(len(users))[::-1]
    else:
        turn = np.random.default_rng(seed).permutation(len(users))
    place = place_in_user(users, turn)
    val, test = held_out(np.bincount(users), rule)
    labels = np.full(len(users), IN_TRAIN, dtype=np.int8)
    labels[place < (test + val)[users]] = IN_VAL
    labels[place < test[users]] = IN_TEST
    return labels


def place_in_user(users: npt.NDArray[np.int32], turn: Index) -> Index:
    """Rank of each row among its user's rows, from 0, by `turn`, which is distinct for every row.

    Args:
        users: each row's user, sorted.
        turn: each row's sort key.
    """
    counts = np.bincount(users)
    place = np.empty(len(users), dtype=np.int64)
    order = np.argsort(users.astype(np.int64) << 32 | turn)
    place[order] = np.arange(len(users)) - np.repeat(np.cumsum(counts) - counts, counts)
    return place


def held_out(counts: Index, rule: Rule) -> tuple[Index, Index]:
    """Numbers of a user's n rows that go to val and to test.

    Below 10 rows one each. Else `mmrec` (its notebook 1splitting), `temporal` and `lattice` (its build_data.py) hold
    out floor(0.2 n) in halves, with the odd row in test by the first two and in val by `lattice`; `ratio` holds out
    floor(0.1 n) each, and `leave_one_out` one each. Users with two rows give one to test, users with one give none, so
    that every user keeps a train row.
    """
    if rule == "ratio":
        val = test = np.maximum(counts // TENTH, 1)
    else:
        held = np.where((counts < FEW) | (rule == "leave_one_out"), 2, counts * 2 // 10)
        smaller = held // 2
        val, test = (held - smaller, smaller) if rule == "lattice" else (smaller, held - smaller)
    return np.where(counts < 3, 0, val), np.where(counts < 3, np.clip(counts - 1, 0, 1), test)


def by_time(times: Index) -> Labels:
    """Train, val and test by quantiles of all times; equal times stay together."""
    first_val, first_test = np.quantile(times, [TRAIN_QUANTILE, VAL_QUANTILE])
    return np.where(times < first_val, IN_TRAIN, np.where(times < first_test, IN_VAL, IN_TEST)).astype(np.int8)
