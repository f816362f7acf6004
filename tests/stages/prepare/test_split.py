"""Stage `split`: the sizes of each user's parts, which rows are in them, and the same parts for the same seed."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import write_items, write_users

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance, read_provenance
from mmprep.pipeline.tables.schemas import KCORE, SPLIT_INTERACTIONS, SPLITS
from mmprep.stages.ingest import ingest
from mmprep.stages.ingest.ingest import IngestParams
from mmprep.stages.prepare import filter as filter_stage
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.noise import NoiseParams
from mmprep.stages.prepare.split import Rule, SplitParams, assign, held_out, run

AT_RANDOM: tuple[Rule, ...] = ("mmrec", "lattice", "ratio")
BY_TIME: tuple[Rule, ...] = ("temporal", "leave_one_out", "global_time")
PROVENANCE = Provenance("test", {}, {}, {}, {})


def sizes(n: int, rule: Rule) -> tuple[int, int]:
    """How many of n rows go to val and test, in the words of `held_out`."""
    if n == 1:
        return 0, 0
    if n == 2:
        return 0, 1
    if n < 10 or rule == "leave_one_out":
        return 1, 1
    if rule == "ratio":
        return n // 10, n // 10
    held = n // 5
    return (held - held // 2, held // 2) if rule == "lattice" else (held // 2, held - held // 2)


def users_of(counts: list[int]) -> npt.NDArray[np.int32]:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int32)


def core_of(
    counts: list[int], times: list[int | None] | None = None, splits: list[str | None] | None = None
) -> pl.DataFrame:
    """Table KCORE, in which user n has `counts[n]` items."""
    users = users_of(counts)
    columns = {
        "user": users,
        "item": [item for count in counts for item in range(count)],
        "rating": [5.0] * len(users),
        "timestamp": times or list(range(len(users))),
        "split": splits or [None] * len(users),
    }
    return pl.DataFrame(columns, schema_overrides={"item": pl.Int32, "timestamp": pl.Int64, "split": pl.String})


def splits_of(core: pl.DataFrame, rule: Rule, seed: int = 0) -> npt.NDArray[np.str_]:
    return np.array(SPLITS)[assign(core, rule, seed)]


def filtered(folder: Path, counts: list[int], core: pl.DataFrame | None = None) -> Layout:
    """A dataset as `filter` leaves it, in which user n has `counts[n]` items."""
    layout = Layout(folder / "data", "toys")
    KCORE.write(core_of(counts) if core is None else core, layout.core, PROVENANCE)
    write_users(layout, len(counts))
    write_items(layout, [{} for _ in range(max(counts, default=0))])
    return layout


@pytest.mark.parametrize("rule", [*AT_RANDOM, "temporal", "leave_one_out"])
@pytest.mark.parametrize("n", range(1, 41))
def test_each_user_gives_as_many_rows_as_the_rule_says(n: int, rule: Rule) -> None:
    counts = [n, 7, n, 23]
    users = users_of(counts)
    splits = splits_of(core_of(counts), rule, seed=1)
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
        (5, "ratio", (1, 1)),
        (19, "ratio", (1, 1)),
        (39, "ratio", (3, 3)),
        (2, "ratio", (0, 1)),
        (1, "ratio", (0, 0)),
        (39, "temporal", (3, 4)),
        (39, "leave_one_out", (1, 1)),
        (3, "leave_one_out", (1, 1)),
        (2, "leave_one_out", (0, 1)),
        (1, "leave_one_out", (0, 0)),
    ],
)
def test_the_sizes_of_known_cases(n: int, rule: Rule, expected: tuple[int, int]) -> None:
    val, test = held_out(np.array([n]), rule)
    assert (int(val[0]), int(test[0])) == expected


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(counts=st.lists(st.integers(1, 60), min_size=1, max_size=12), seed=st.integers(0, 2**40))
def test_everybody_keeps_a_row_to_train_on(counts: list[int], seed: int) -> None:
    users = users_of(counts)
    for rule in (*AT_RANDOM, "temporal", "leave_one_out"):
        splits = splits_of(core_of(counts), rule, seed)
        assert set(splits.tolist()) <= set(SPLITS)
        assert np.bincount(users[splits == "train"], minlength=len(counts)).min() >= 1


def test_the_same_seed_gives_the_same_splits_and_another_seed_others() -> None:
    core = core_of([12] * 50)
    np.testing.assert_array_equal(assign(core, "mmrec", 3), assign(core, "mmrec", 3))
    assert (assign(core, "mmrec", 3) != assign(core, "mmrec", 4)).any()


def test_the_random_rules_hold_out_the_same_rows_of_which_ratio_leaves_the_odd_one_in_train() -> None:
    mmrec, lattice, ratio = (splits_of(core_of([15] * 50), rule) for rule in AT_RANDOM)
    np.testing.assert_array_equal(mmrec == "train", lattice == "train")
    assert (mmrec != lattice).any()
    assert (ratio[mmrec == "train"] == "train").all()
    assert Counter(ratio.tolist()) == {"train": 650, "val": 50, "test": 50}


def test_the_rules_differ_on_one_small_dataset() -> None:
    # A fifth of 15, 19, 35 and 107, rounded down, is odd.
    core = core_of([2, 5, 9, 10, 14, 15, 19, 20, 35, 107])
    found = {rule: Counter(splits_of(core, rule).tolist()) for rule in ("mmrec", "lattice", "ratio")}
    assert {rule: tuple(counts[split] for split in SPLITS) for rule, counts in found.items()} == {
        "mmrec": (189, 21, 26),
        "lattice": (189, 25, 22),
        "ratio": (193, 21, 22),
    }


def test_every_place_among_a_users_rows_is_held_out_as_often() -> None:
    n, users = 10, 20_000
    splits = splits_of(core_of([n] * users), "mmrec").reshape(users, n)
    for split in ("val", "test"):
        share = (splits == split).mean(axis=0)
        assert np.abs(share - 0.1).max() < 0.01  # five standard deviations


def test_the_rows_keep_their_order_and_gain_a_split(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [3, 12, 1, 20])
    run(SplitParams(), layout)
    interactions = SPLIT_INTERACTIONS.read(layout.interactions)
    assert interactions.drop("split").equals(KCORE.read(layout.core).drop("split"))
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


@pytest.mark.parametrize("rule", [*AT_RANDOM, "temporal", "leave_one_out"])
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
        "users_without_train": 0,
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
    assert len(assign(core_of([10]), "mmrec", SplitParams(seed=seed).seed)) == 10


TIMED = st.lists(st.lists(st.integers(-3, 3), min_size=1, max_size=30), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(times=TIMED, rule=st.sampled_from(["temporal", "leave_one_out"]), seed=st.integers(0, 9))
def test_each_users_latest_rows_are_held_out_of_equal_times_those_of_the_last_items(
    times: list[list[int]], rule: Rule, seed: int
) -> None:
    expected = []
    for own in times:
        val, test = sizes(len(own), rule)
        in_time = sorted(range(len(own)), key=lambda item: (own[item], item))
        parts = ["train"] * (len(own) - val - test) + ["val"] * val + ["test"] * test
        expected += [part for _, part in sorted(zip(in_time, parts, strict=True))]
    core = core_of([len(own) for own in times], [time for own in times for time in own])
    assert splits_of(core, rule, seed).tolist() == expected


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(times=TIMED, seed=st.integers(0, 9))
def test_everybody_is_split_at_the_same_two_times(times: list[list[int]], seed: int) -> None:
    every = sorted(time for own in times for time in own)

    def quantile(share: float) -> float:
        place = share * (len(every) - 1)
        below, above = every[int(place)], every[min(int(place) + 1, len(every) - 1)]
        return below + (above - below) * (place - int(place))

    first_val, first_test = quantile(0.8), quantile(0.9)
    core = core_of([len(own) for own in times], [time for own in times for time in own])
    found = splits_of(core, "global_time", seed)
    assert found.tolist() == [
        "train" if time < first_val else "val" if time < first_test else "test" for own in times for time in own
    ]


def test_by_global_time_the_first_eighty_percent_train(tmp_path: Path) -> None:
    metrics = run(SplitParams(rule="global_time"), filtered(tmp_path, [10] * 10))
    assert (metrics["train"], metrics["val"], metrics["test"]) == (80, 10, 10)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(times=TIMED, rule=st.sampled_from(["temporal", "leave_one_out"]))
def test_nothing_is_trained_on_that_is_later_than_what_is_tested(times: list[list[int]], rule: Rule) -> None:
    core = core_of([len(own) for own in times], [time for own in times for time in own])
    rows = core.with_columns(split=pl.Series(splits_of(core, rule)))
    for own in rows.partition_by("user"):
        moments = [own.filter(split=split)["timestamp"].to_list() for split in SPLITS]
        together = [time for part in moments for time in sorted(part)]
        assert together == sorted(together)


def test_given_splits_are_kept_exactly(tmp_path: Path) -> None:
    splits: list[str | None] = ["test", "train", "val", "train", "train", "test", "val", "train"]
    layout = filtered(tmp_path, [3, 5], core_of([3, 5], splits=splits))
    metrics = run(SplitParams(rule="given"), layout)
    assert SPLIT_INTERACTIONS.read(layout.interactions)["split"].to_list() == splits
    assert metrics == {"train": 4, "val": 2, "test": 2, "items_seen_in_train": 3, "users_without_train": 0}


@pytest.mark.parametrize("rule", [rule for rule in get_args(Rule) if rule != "given"])
def test_a_given_split_is_replaced_on_request_alone(tmp_path: Path, rule: Rule) -> None:
    counts = [12, 5]
    without = filtered(tmp_path / "without", counts)
    given_too = filtered(tmp_path / "with", counts, core_of(counts, splits=["test"] * 16 + [None]))
    run(SplitParams(rule=rule), without)
    with pytest.raises(DataError) as caught:
        run(SplitParams(rule=rule), given_too)
    assert str(caught.value) == (
        f"split.rule: found {rule}, but the raw files give a split for 16 of 17 interactions; "
        "set split.rule: given to keep it, or split.redraw: true to replace it"
    )
    assert not given_too.interactions.exists()
    run(SplitParams(rule=rule, redraw=True), given_too)
    assert SPLIT_INTERACTIONS.read(given_too.interactions).equals(SPLIT_INTERACTIONS.read(without.interactions))


def test_the_permission_to_redraw_changes_no_byte(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [12, 5])
    written = []
    for redraw in (False, True):
        run(SplitParams(redraw=redraw), layout)
        written.append(layout.interactions.read_bytes())
    assert written[0] == written[1]


@pytest.mark.parametrize("rule", BY_TIME)
def test_rules_by_time_need_times(tmp_path: Path, rule: Rule) -> None:
    layout = filtered(tmp_path, [2, 2], core_of([2, 2], [1, None, 3, None]))
    with pytest.raises(DataError) as caught:
        run(SplitParams(rule=rule), layout)
    assert str(caught.value) == f"split.rule: found {rule}, but the raw files give no times for 2 interactions"
    assert not layout.interactions.exists()


def test_given_needs_splits(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [2, 2], core_of([2, 2], splits=["train", None, None, None]))
    with pytest.raises(DataError) as caught:
        run(SplitParams(rule="given"), layout)
    assert str(caught.value) == "split.rule: found given, but the raw files give no split for 3 interactions"


@pytest.mark.parametrize("rule", AT_RANDOM)
def test_random_rules_need_no_times(tmp_path: Path, rule: Rule) -> None:
    layout = filtered(tmp_path, [12], core_of([12], [None] * 12))
    assert run(SplitParams(rule=rule), layout)["train"] == 10


def test_a_split_with_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    layout = filtered(tmp_path, [2, 2], core_of([2, 2], [7, 7, 7, 7]))
    with pytest.raises(DataError) as caught:
        run(SplitParams(rule="global_time"), layout)
    assert str(caught.value) == "split.rule: global_time leaves no interaction to train on; take another rule"
    assert not layout.interactions.exists()


def ingested(folder: Path, reviews: list[str], items: list[str]) -> Layout:
    """A dataset that was ingested from these lines and filtered, with its metrics."""
    layout = Layout(folder, "toys")
    layout.raw.mkdir(parents=True)
    (layout.raw / "reviews.json").write_text("\n".join(reviews) + "\n")
    (layout.raw / "meta.json").write_text("\n".join(items) + "\n")
    ingest.run(IngestParams(), layout)
    filter_stage.run(FilterParams(), layout)
    return layout


def outputs(layout: Layout) -> list[Path]:
    """What `filter` wrote, and the metrics of both stages."""
    return [layout.core, layout.users, layout.items, layout.metrics("ingest"), layout.metrics("filter")]


def test_the_order_of_the_raw_files_changes_no_byte(tmp_path: Path) -> None:
    chance = random.Random(0)  # noqa: S311 - no secret
    reviews = [
        json.dumps({"reviewerID": f"u{user}", "asin": f"i{item}", "overall": rating, "unixReviewTime": 10**9 + time})
        for user in range(20)
        for item in range(30)
        if (user + item) % 5 < 2
        for rating, time in {(user % 5 + 1, user * item % 4), (item % 3 + 1, user * item % 3)}
    ]
    items = [json.dumps({"asin": f"i{item}", "title": f"title of {item}"}) for item in range(30)]
    layouts = [
        ingested(tmp_path / f"{n}", chance.sample(reviews, len(reviews)), chance.sample(items, len(items)))
        for n in range(3)
    ]
    assert len({layout.raw_interactions.read_bytes() for layout in layouts}) == 3
    for paths in zip(*(outputs(layout) for layout in layouts), strict=True):
        assert len({path.read_bytes() for path in paths}) == 1, paths[0].name
    for rule in (*AT_RANDOM, *BY_TIME):
        for noise in (NoiseParams(), NoiseParams(added=0.1, removed=0.2)):
            for layout in layouts:
                run(SplitParams(rule=rule), layout, noise=noise)
            assert len({layout.interactions.read_bytes() for layout in layouts}) == 1, rule
            assert len({layout.metrics("split").read_bytes() for layout in layouts}) == 1, rule
