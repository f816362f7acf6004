"""Stage `split`: the sizes of each user's parts, and the same parts for the same seed."""

import json
from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import write_items, write_users

from pipeline.errors import MissingInputError
from pipeline.files import sha256
from pipeline.layout import Layout
from pipeline.provenance import Provenance, read_provenance
from pipeline.tables import CORE, SPLIT_INTERACTIONS, SPLITS
from stages.split import SplitParams, assign, held_out, run

Rule = Literal["mmrec", "lattice"]
RULES: tuple[Rule, ...] = ("mmrec", "lattice")
PROVENANCE = Provenance("test", {}, {}, {}, {})


def sizes(n: int, rule: Rule) -> tuple[int, int]:
    """How many of n rows go to val and test, in the words of `held_out`."""
    if n == 1:
        return 0, 0
    if n == 2:
        return 0, 1
    if n < 10:
        return 1, 1
    held = int(0.2 * n)
    return (held // 2, held - held // 2) if rule == "mmrec" else (held - held // 2, held // 2)


def users_of(counts: list[int]) -> npt.NDArray[np.int32]:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def filtered(folder: Path, counts: list[int]) -> Layout:
    """A dataset as `filter` leaves it, in which user n has `counts[n]` items."""
    layout = Layout(folder / "data", "toys")
    users = users_of(counts)
    items = [item for count in counts for item in range(count)]
    frame = pl.DataFrame({"user": users, "item": items, "rating": [5.0] * len(users), "timestamp": range(len(users))})
    CORE.write(frame, layout.core, PROVENANCE)
    write_users(layout, len(counts))
    write_items(layout, [{} for _ in range(max(counts, default=0))])
    return layout


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n", range(1, 41))
def test_each_user_gives_as_many_rows_as_the_rule_says(n: int, rule: Rule) -> None:
    counts = [n, 7, n, 23]
    users = users_of(counts)
    splits = assign(users, rule, seed=1)
    for user, count in enumerate(counts):
        found = Counter(splits[users == user].tolist())
        val, test = sizes(count, rule)
        assert (found["val"], found["test"], found["train"]) == (val, test, count - val - test)


@pytest.mark.parametrize(
    ("n", "rule", "expected"),
    [
        (9, "mmrec", (1, 1)),
        (10, "mmrec", (1, 1)),
        (14, "mmrec", (1, 1)),
        (15, "mmrec", (1, 2)),
        (15, "lattice", (2, 1)),
        (20, "mmrec", (2, 2)),
        (39, "mmrec", (3, 4)),
        (39, "lattice", (4, 3)),
        (1000, "mmrec", (100, 100)),
    ],
)
def test_the_sizes_of_known_cases(n: int, rule: Rule, expected: tuple[int, int]) -> None:
    val, test = held_out(np.array([n]), rule)
    assert (int(val[0]), int(test[0])) == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=12), seed=st.integers(0, 2**40))
def test_everybody_keeps_a_row_to_train_on(counts: list[int], seed: int) -> None:
    users = users_of(counts)
    for rule in RULES:
        splits = assign(users, rule, seed)
        assert set(splits.tolist()) <= set(SPLITS)
        assert np.bincount(users[splits == "train"], minlength=len(counts)).min() >= 1


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    users = users_of([12] * 50)
    np.testing.assert_array_equal(assign(users, "mmrec", 3), assign(users, "mmrec", 3))
    assert (assign(users, "mmrec", 3) != assign(users, "mmrec", 4)).any()


def test_both_rules_hold_out_the_same_rows() -> None:
    users = users_of([15] * 50)
    mmrec, lattice = (assign(users, rule, 0) for rule in RULES)
    np.testing.assert_array_equal(mmrec == "train", lattice == "train")
    assert (mmrec != lattice).any()


def test_every_place_among_a_users_rows_is_held_out_as_often() -> None:
    n, users = 10, 20_000
    splits = assign(users_of([n] * users), "mmrec", 0).reshape(users, n)
    for split in ("val", "test"):
        share = (splits == split).mean(axis=0)
        assert np.abs(share - 0.1).max() < 0.01  # five standard deviations


def test_the_rows_keep_their_order_and_gain_a_split(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [3, 12, 1, 20])
    run(SplitParams(), layout)
    interactions = SPLIT_INTERACTIONS.read(layout.interactions)
    assert interactions.drop("split").equals(CORE.read(layout.core))
    assert set(interactions["split"]) == {"train", "val", "test"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [12] * 20)
    written = []
    for seed in (0, 0, 1):
        run(SplitParams(seed=seed), layout)
        written.append(layout.interactions.read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]
    splits = SPLIT_INTERACTIONS.read(layout.interactions)["split"]
    run(SplitParams(seed=0), layout)
    assert not splits.equals(SPLIT_INTERACTIONS.read(layout.interactions)["split"])


@pytest.mark.parametrize("rule", RULES)
def test_the_metrics_count_the_splits(tmp_path: Path, rule: Rule) -> None:
    layout = filtered(tmp_path, [1, 2, 9, 15, 40])
    metrics = run(SplitParams(rule=rule), layout)
    val, test = (sum(part) for part in zip(*(sizes(n, rule) for n in (1, 2, 9, 15, 40)), strict=True))
    trained = SPLIT_INTERACTIONS.read(layout.interactions).filter(split="train")
    assert metrics == {
        "train": 67 - val - test,
        "val": val,
        "test": test,
        "items_seen_in_train": trained["item"].n_unique(),
    }
    assert json.loads(layout.metrics("split").read_text()) == metrics


def test_a_split_without_rows_is_counted_as_0(tmp_path: Path) -> None:
    metrics = run(SplitParams(), filtered(tmp_path, [1, 1]))
    assert (metrics["train"], metrics["val"], metrics["test"]) == (2, 0, 0)


def test_the_split_tells_what_it_was_made_from(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [12, 5])
    run(SplitParams(rule="lattice", seed=7), layout)
    provenance = read_provenance(layout.interactions)
    assert (provenance["stage"], provenance["params"]) == ("split", {"rule": "lattice", "seed": 7})
    read = (layout.core, layout.users, layout.items)
    assert provenance["inputs"] == {layout.relative(path): sha256(path) for path in read}


def test_before_filter_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"core.parquet: not found; run `mmprep filter` first$"):
        run(SplitParams(), Layout(tmp_path, "toys"))


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63])
def test_any_seed_that_the_parameters_take_works(seed: int) -> None:
    assert len(assign(users_of([10]), "mmrec", SplitParams(seed=seed).seed)) == 10
