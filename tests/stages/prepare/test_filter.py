"""Stage `filter`: the k-core against its definition, and the dense indices."""

import json
import random
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.provenance import Provenance, digest_of, read_provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS, ITEMS, KCORE, RAW_ITEMS, SPLITS, USERS
from mmprep.stages.prepare.filter import FilterParams, distinct, k_core, run

PROVENANCE = Provenance("test", {}, {}, {}, {})
Review = tuple[str, str, float | None, int | None]
Row = tuple[str, str, float | None, int | None, str | None]
Policy = Literal["last", "first", "best"]
POLICIES: tuple[Policy, ...] = ("last", "first", "best")
SCHEMA = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64, "split": pl.String}


def frame_of(reviews: list[Review] | list[Row]) -> pl.DataFrame:
    return pl.DataFrame([(*review, None)[:5] for review in reviews], schema=SCHEMA, orient="row")


def ingested(
    folder: Path,
    reviews: list[Review] | list[Row],
    photos: dict[str, str] | None = None,
    untitled: frozenset[str] = frozenset(),
) -> Layout:
    """A dataset as `ingest` leaves it; every item has a title but those in `untitled`."""
    layout = Layout(folder / "data", "toys")
    frame = frame_of(reviews)
    INTERACTIONS.write(frame, layout.raw_interactions, PROVENANCE)
    ids = sorted(set(frame["item_id"]) | {"never reviewed"})
    photos = photos or {}
    items = {
        "item_id": ids,
        "title": ["" if item_id in untitled else f"title of {item_id}" for item_id in ids],
        **{name: [""] * len(ids) for name in ("description", "categories", "brand")},
        "image": [photos.get(item_id) for item_id in ids],
        "image_url": [None] * len(ids),
    }
    RAW_ITEMS.write(
        pl.DataFrame(items, schema_overrides={"image": pl.String, "image_url": pl.String}), layout.raw_items, PROVENANCE
    )
    return layout


def kept_by(layout: Layout) -> set[Row]:
    """What `filter` has kept, under published ids."""
    users, items = USERS.read(layout.users), ITEMS.read(layout.items)
    named = KCORE.read(layout.core).join(users, on="user").join(items, on="item")
    return set(named.select(*SCHEMA).rows())


def cliques(*sizes: tuple[str, int, int]) -> list[Review]:
    """Groups in which every user has reviewed every item: (name, users, items)."""
    return [
        (f"{name}u{user}", f"{name}i{item}", 5.0, 1)
        for name, users, items in sizes
        for user in range(users)
        for item in range(items)
    ]


def by_definition(pairs: list[tuple[str, str]], k: int, k_items: int | None = None) -> set[tuple[str, str]]:
    """Drop one offending row after the other until there is none."""
    left = set(pairs)
    while True:
        users, items = Counter(user for user, _ in left), Counter(item for _, item in left)
        bad = [pair for pair in left if users[pair[0]] < k or items[pair[1]] < (k_items or k)]
        if not bad:
            return left
        left.remove(bad[0])


def codes(ids: list[str]) -> npt.NDArray[np.uint32]:
    """A number for each different id."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(ids))}
    return np.array([numbers[name] for name in ids], dtype=np.uint32)


def core_of(pairs: list[tuple[str, str]], k: int, k_items: int | None = None) -> set[tuple[str, str]]:
    kept, _ = k_core(codes([user for user, _ in pairs]), codes([item for _, item in pairs]), k, k_items)
    return {pair for pair, stays in zip(pairs, kept, strict=True) if stays}


IDS = st.sampled_from(["", "a", "B", "b", "é", "10", "9"])
PAIRS = st.lists(st.tuples(IDS, IDS), unique=True, max_size=40)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pairs=PAIRS, k=st.integers(1, 4), k_items=st.none() | st.integers(1, 4), seed=st.integers(0, 100))
def test_the_k_core_is_that_of_its_definition_in_any_order_of_rows(
    pairs: list[tuple[str, str]], k: int, k_items: int | None, seed: int
) -> None:
    core = core_of(pairs, k, k_items)
    assert core == by_definition(pairs, k, k_items)
    users, items = Counter(user for user, _ in core), Counter(item for _, item in core)
    assert all(count >= k for count in users.values())
    assert all(count >= (k_items or k) for count in items.values())
    shuffled = random.Random(seed).sample(pairs, len(pairs))  # noqa: S311 - no secret
    assert core_of(shuffled, k, k_items) == core
    assert core_of(sorted(core), k, k_items) == core


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pairs=st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), unique=True, max_size=8))
def test_no_larger_set_of_rows_satisfies_the_k_core(pairs: list[tuple[str, str]]) -> None:
    found = len(core_of(pairs, 2))
    for size in range(len(pairs), found, -1):
        for rows in combinations(pairs, size):
            users, items = Counter(user for user, _ in rows), Counter(item for _, item in rows)
            assert min((*users.values(), *items.values())) < 2


def test_rows_fall_in_rounds() -> None:
    chain = [("u0", "i0"), ("u0", "i1"), ("u1", "i1"), ("u1", "i2"), ("u2", "i2")]
    users, items = (codes(list(column)) for column in zip(*chain, strict=True))
    kept, rounds = k_core(users, items, 2)
    assert (kept.tolist(), rounds) == ([False] * 5, 3)
    kept, rounds = k_core(users, items, 1)
    assert (kept.tolist(), rounds) == ([True] * 5, 0)


def test_tables_are_read_in_pieces_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = [*cliques(("a", 7, 5), ("b", 5, 7)), ("one", "gone", 5.0, 1)]
    layout = ingested(tmp_path, reviews, photos={f"bi{n}": f"images/{n}.jpg" for n in range(6)})
    params = FilterParams(require=("image",))
    run(params, layout)
    whole = [path.read_bytes() for path in (layout.core, layout.users, layout.items)]
    monkeypatch.setattr("mmprep.pipeline.tables.table.PIECE", 3)
    run(params, layout)
    assert [path.read_bytes() for path in (layout.core, layout.users, layout.items)] == whole
    assert len(KCORE.read(layout.core)) == 30


def test_rows_are_counted_in_pieces_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(0)
    users, items = (chance.integers(0, 40, 300).astype(np.uint32) for _ in range(2))
    whole, rounds = k_core(users, items, 7)
    monkeypatch.setattr("mmprep.stages.prepare.filter.CHUNK", 11)
    pieces, rounds_in_pieces = k_core(users, items, 7)
    np.testing.assert_array_equal(pieces, whole)
    assert rounds_in_pieces == rounds > 1


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("last", [(3.0, 20), (1.0, 5), (4.0, 7), (2.0, 1), (5.0, None)]),
        ("first", [(5.0, 10), (1.0, 5), (4.0, 7), (2.0, 1), (4.0, None)]),
        ("best", [(5.0, 10), (1.0, 5), (4.0, 7), (2.0, 1), (5.0, None)]),
    ],
)
def test_of_several_reviews_of_an_item_by_a_user_one_is_kept(
    tmp_path: Path, policy: Policy, expected: list[tuple[float | None, int | None]]
) -> None:
    reviews: list[Review] = [
        ("u", "i", 3.0, 20),
        ("u", "i", 5.0, 10),
        ("u", "i", 2.0, 20),
        ("u", "j", 1.0, 5),
        ("v", "i", 4.0, 7),
        ("v", "i", 4.0, 7),
        ("w", "i", 2.0, 1),
        ("w", "i", None, None),
        ("x", "i", 4.0, None),
        ("x", "i", 5.0, None),
        ("x", "i", None, None),
    ]
    pairs = [("u", "i"), ("u", "j"), ("v", "i"), ("w", "i"), ("x", "i")]
    for seed in range(5):
        shuffled = random.Random(seed).sample(reviews, len(reviews))  # noqa: S311 - no secret
        layout = ingested(tmp_path, shuffled)
        metrics = run(FilterParams(k_core=1, duplicates=policy), layout)
        assert kept_by(layout) == {(*pair, *row, None) for pair, row in zip(pairs, expected, strict=True)}
        assert metrics["lost_to_duplicates"] == 6


def test_duplicates_do_not_help_into_the_core(tmp_path: Path) -> None:
    layout = ingested(tmp_path, [*cliques(("a", 2, 2)), *[("one", "ai0", 5.0, time) for time in range(9)]])
    metrics = run(FilterParams(k_core=2), layout)
    assert (metrics["users"], metrics["lost_to_duplicates"], metrics["lost_to_k_core"]) == (2, 8, 1)


def test_users_and_items_are_numbered_in_the_order_of_ids(tmp_path: Path) -> None:
    ids = ["b", "B", "a", "é", "10", "9", " "]
    pairs = [(user, item) for user in ids for item in reversed(ids) if (user, item) not in {(" ", " "), (" ", "10")}]
    layout = ingested(tmp_path, [(user, item, 5.0, 1) for user, item in pairs])
    run(FilterParams(k_core=2), layout)
    expected = list(enumerate(sorted(ids)))
    assert USERS.read(layout.users).rows() == expected
    assert ITEMS.read(layout.items, columns=["item", "item_id"]).rows() == expected


def test_the_core_holds_what_the_reviews_said(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    reviews: list[Review] = [
        (f"u{chance.integers(12)}", f"i{chance.integers(9)}", float(chance.integers(1, 6)), int(chance.integers(1, 50)))
        for _ in range(150)
    ]
    layout = ingested(tmp_path, reviews)
    metrics = run(FilterParams(k_core=3), layout)
    core = KCORE.read(layout.core)
    assert kept_by(layout) == by_every_rule([(*review, None) for review in reviews], Rules(3, None, "last", None, ()))
    assert core.rows() == sorted(core.rows()), "by user, then item"
    assert core["user"].unique().sort().to_list() == list(range(metrics["users"]))
    assert core["item"].unique().sort().to_list() == list(range(metrics["items"]))


def test_items_keep_their_texts_and_photos(tmp_path: Path) -> None:
    layout = ingested(tmp_path, [*cliques(("a", 2, 2)), ("one", "gone", 5.0, 1)], photos={"ai1": "images/ai1.jpg"})
    metrics = run(FilterParams(k_core=2), layout)
    assert ITEMS.read(layout.items).rows() == [
        (0, "ai0", "title of ai0", "", "", "", None, None),
        (1, "ai1", "title of ai1", "", "", "", "images/ai1.jpg", None),
    ]
    assert metrics["items_with_photo"] == 1


def test_the_metrics_count_what_was_kept_and_lost(tmp_path: Path) -> None:
    reviews = [*cliques(("a", 3, 2)), ("au0", "ai0", 1.0, 0), ("one", "ai0", 5.0, 1), ("au0", "other", 5.0, 1)]
    layout = ingested(tmp_path, reviews)
    metrics = run(FilterParams(k_core=2), layout)
    assert metrics == {
        "users": 3,
        "items": 2,
        "interactions": 6,
        "sparsity": 0.0,
        "items_with_photo": 0,
        "items_with_text": 2,
        "rounds": 1,
        "lost_to_duplicates": 1,
        "lost_to_min_rating": 0,
        "lost_to_missing_modality": 0,
        "lost_to_k_core": 2,
    }
    assert json.loads(layout.metrics("filter").read_text()) == metrics


def test_k_of_1_keeps_everything(tmp_path: Path) -> None:
    reviews = [("u1", "i1", 5.0, 1), ("u2", "i2", 5.0, 1)]
    metrics = run(FilterParams(k_core=1), ingested(tmp_path, reviews))
    assert (metrics["interactions"], metrics["users"], metrics["items"], metrics["sparsity"]) == (2, 2, 2, 0.5)


@pytest.mark.parametrize("reviews", [cliques(("a", 3, 4), ("b", 4, 3)), []])
def test_an_empty_core_is_refused_and_nothing_is_written(tmp_path: Path, reviews: list[Review]) -> None:
    layout = ingested(tmp_path, reviews)
    with pytest.raises(DataError) as caught:
        run(FilterParams(k_core=5), layout)
    assert str(caught.value) == (
        f"{layout.raw_interactions}: no interaction is left of {len(reviews)} (lost 0 to duplicates, 0 to min_rating, "
        f"0 to missing_modality, {len(reviews)} to k_core); lower filter.k_core or loosen the other rules"
    )
    assert not layout.core.exists()
    assert not layout.users.exists()


def test_the_tables_tell_what_they_were_made_from(tmp_path: Path) -> None:
    layout = ingested(tmp_path, cliques(("a", 2, 2)))
    params = FilterParams(k_core=2, k_core_items=1, duplicates="best", min_rating=2.5, require=("text",))
    run(params, layout)
    for path in (layout.core, layout.users, layout.items):
        provenance = read_provenance(path)
        assert (provenance["stage"], provenance["params"]) == (
            "filter",
            {"k_core": 2, "k_core_items": 1, "duplicates": "best", "min_rating": 2.5, "require": ["text"]},
        )
        assert provenance["inputs"] == {
            "interim/toys/interactions.parquet": digest_of(layout.raw_interactions),
            "interim/toys/items.parquet": digest_of(layout.raw_items),
        }


def test_before_ingest_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"interactions.parquet: not found; run `mmprep ingest` first$"):
        run(FilterParams(), Layout(tmp_path, "toys"))


@dataclass(frozen=True)
class Rules:
    """The parameters of `filter`."""

    k: int
    k_items: int | None
    duplicates: Policy
    min_rating: float | None
    require: tuple[Literal["image", "text"], ...]


def worth(row: Row, policy: Policy) -> tuple[float, ...]:
    """A key by which the row that the policy keeps is the largest."""
    sign = -1 if policy == "first" else 1
    time, rating = ((value is not None, sign * (value or 0)) for value in (row[3], row[2]))
    last_of_all = -1 if row[4] is None else SPLITS.index(row[4])
    return (*rating, *time, last_of_all) if policy == "best" else (*time, *rating, last_of_all)


def by_every_rule(
    rows: list[Row], rules: Rules, photos: frozenset[str] = frozenset(), untitled: frozenset[str] = frozenset()
) -> set[Row]:
    """Apply the rules one by one; of the last ones, drop one offending row after the other until there is none."""
    chosen: dict[tuple[str, str], Row] = {}
    for row in rows:
        rival = chosen.get(row[:2])
        if rival is None or worth(row, rules.duplicates) > worth(rival, rules.duplicates):
            chosen[row[:2]] = row
    least = rules.min_rating
    left = {row for row in chosen.values() if least is None or (row[2] is not None and row[2] >= least)}
    while True:
        users, items = Counter(row[0] for row in left), Counter(row[1] for row in left)
        bad = [
            row
            for row in left
            if users[row[0]] < rules.k
            or items[row[1]] < (rules.k_items or rules.k)
            or ("image" in rules.require and row[1] not in photos)
            or ("text" in rules.require and row[1] in untitled)
        ]
        if not bad:
            return left
        left.remove(bad[0])


FEW_IDS = st.sampled_from(["", "a", "b", "c", "d"])
ROWS = st.lists(
    st.tuples(
        FEW_IDS,
        FEW_IDS,
        st.none() | st.sampled_from([1.0, 3.5, 5.0]),
        st.none() | st.integers(-2, 2),
        st.none() | st.sampled_from(SPLITS),
    ),
    max_size=40,
)
RULES = st.builds(
    Rules,
    k=st.integers(1, 3),
    k_items=st.none() | st.integers(1, 3),
    duplicates=st.sampled_from(POLICIES),
    min_rating=st.none() | st.sampled_from([3.5, 4.0]),
    require=st.sampled_from([(), ("image",), ("text",), ("image", "text")]),
)
SOME = st.frozensets(FEW_IDS, min_size=2)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, rules=RULES, photos=SOME, untitled=st.frozensets(FEW_IDS, max_size=3))
def test_what_is_kept_is_the_largest_set_that_meets_all_rules(
    rows: list[Row], rules: Rules, photos: frozenset[str], untitled: frozenset[str]
) -> None:
    expected = by_every_rule(rows, rules, photos, untitled)
    params = FilterParams(
        k_core=rules.k,
        k_core_items=rules.k_items,
        duplicates=rules.duplicates,
        min_rating=rules.min_rating,
        require=rules.require,
    )
    with TemporaryDirectory() as folder:
        layout = ingested(Path(folder), rows, {item: f"images/{item}.jpg" for item in photos}, untitled)
        if not expected:
            with pytest.raises(DataError, match="no interaction is left"):
                run(params, layout)
            return
        metrics = run(params, layout)
        assert kept_by(layout) == expected
        assert sum(lost for name, lost in metrics.items() if name.startswith("lost_to_")) == len(rows) - len(expected)
        assert (metrics["items_with_photo"], metrics["items_with_text"]) == (
            len({row[1] for row in expected} & photos),
            len({row[1] for row in expected} - untitled),
        )


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, policy=st.sampled_from(POLICIES))
def test_exactly_one_row_of_each_user_and_item_is_kept(rows: list[Row], policy: Policy) -> None:
    frame = frame_of(rows).with_columns(user=codes([row[0] for row in rows]), item=codes([row[1] for row in rows]))
    kept = [row for row, stays in zip(rows, distinct(frame, policy), strict=True) if stays]
    assert sorted(row[:2] for row in kept) == sorted({row[:2] for row in rows})


@pytest.mark.parametrize(
    ("min_rating", "kept"), [(None, {"a", "b", "c", "none"}), (3.0, {"b", "c"}), (3.1, {"c"}), (0.0, {"a", "b", "c"})]
)
def test_low_and_missing_ratings_are_dropped_only_when_asked_for(
    tmp_path: Path, min_rating: float | None, kept: set[str]
) -> None:
    layout = ingested(tmp_path, [("a", "i", 1.0, 1), ("b", "i", 3.0, 1), ("c", "i", 5.0, 1), ("none", "i", None, 1)])
    metrics = run(FilterParams(k_core=1, min_rating=min_rating), layout)
    assert {row[0] for row in kept_by(layout)} == kept
    assert metrics["lost_to_min_rating"] == 4 - len(kept)


def test_a_duplicate_that_is_not_kept_does_not_stand_in_for_a_low_rating(tmp_path: Path) -> None:
    reviews = [("u", "i", 5.0, 1), ("u", "i", 1.0, 2), ("v", "i", 5.0, 1)]
    layout = ingested(tmp_path, reviews)
    run(FilterParams(k_core=1, min_rating=4), layout)
    assert {row[0] for row in kept_by(layout)} == {"v"}
    run(FilterParams(k_core=1, min_rating=4, duplicates="best"), layout)
    assert {row[0] for row in kept_by(layout)} == {"u", "v"}


@pytest.mark.parametrize(
    ("require", "kept"),
    [
        ((), {"both", "photo", "text", "none"}),
        (("image",), {"both", "photo"}),
        (("text",), {"both", "text"}),
        (("image", "text"), {"both"}),
    ],
)
def test_items_without_a_required_modality_are_dropped(
    tmp_path: Path, require: tuple[Literal["image", "text"], ...], kept: set[str]
) -> None:
    layout = ingested(
        tmp_path,
        [("u", item, 5.0, 1) for item in ("both", "photo", "text", "none")],
        {"both": "images/a.jpg", "photo": "images/b.jpg"},
        frozenset({"photo", "none"}),
    )
    metrics = run(FilterParams(k_core=1, require=require), layout)
    assert set(ITEMS.read(layout.items)["item_id"]) == kept
    assert metrics["lost_to_missing_modality"] == 4 - len(kept)


def test_users_and_items_may_need_different_numbers(tmp_path: Path) -> None:
    layout = ingested(tmp_path, [*cliques(("a", 2, 5), ("b", 5, 2)), ("bu0", "ai0", 5.0, 1)])
    assert run(FilterParams(k_core=2, k_core_items=5), layout)["items"] == 2
    assert run(FilterParams(k_core=5, k_core_items=2), layout)["users"] == 2


def test_ids_with_the_same_long_beginning_stay_apart(tmp_path: Path) -> None:
    beginning = "AGKHLEW2SOWHNMFQIJGBECAF7INQ" * 20
    pairs = [(f"{beginning}{n % 700}", f"{beginning}{n % 300}") for n in range(2100)]
    layout = ingested(tmp_path, [(user, item, 5.0, 1) for user, item in pairs])
    metrics = run(FilterParams(k_core=1), layout)
    assert (metrics["users"], metrics["items"], metrics["interactions"]) == (700, 300, 2100)
    assert {row[:2] for row in kept_by(layout)} == set(pairs)


def test_the_empty_id_is_an_id_like_any_other(tmp_path: Path) -> None:
    layout = ingested(tmp_path, [(user, item, 5.0, 1) for user in ("", "u") for item in ("", "i")])
    run(FilterParams(k_core=2), layout)
    assert USERS.read(layout.users).rows() == [(0, ""), (1, "u")]
    assert ITEMS.read(layout.items, columns=["item", "item_id"]).rows() == [(0, ""), (1, "i")]


def test_datasets_filtered_one_after_the_other_share_no_numbers(tmp_path: Path) -> None:
    first = ingested(tmp_path / "first", cliques(("a", 3, 3)))
    second = ingested(tmp_path / "second", cliques(("b", 2, 2), ("a", 2, 2)))
    alone = ingested(tmp_path / "alone", cliques(("b", 2, 2), ("a", 2, 2)))
    run(FilterParams(k_core=2), alone)
    run(FilterParams(k_core=2), first)
    run(FilterParams(k_core=2), second)
    assert USERS.read(second.users)["user_id"].to_list() == ["au0", "au1", "bu0", "bu1"]
    assert second.core.read_bytes() == alone.core.read_bytes()
    assert second.items.read_bytes() == alone.items.read_bytes()


def test_the_order_of_the_reviews_changes_nothing(tmp_path: Path) -> None:
    chance = random.Random(0)  # noqa: S311 - no secret
    rows: list[Row] = [
        (
            f"u{chance.randrange(9)}",
            f"i{chance.randrange(7)}",
            chance.choice([None, 1.0, 5.0]),
            chance.choice([None, 1, 2]),
            chance.choice([None, *SPLITS]),
        )
        for _ in range(200)
    ]
    for policy in POLICIES:
        written = []
        for number in range(3):
            layout = ingested(tmp_path / f"{policy}{number}", chance.sample(rows, len(rows)))
            metrics = run(FilterParams(k_core=2, duplicates=policy), layout)
            written.append([metrics, *(path.read_bytes() for path in (layout.core, layout.users, layout.items))])
        assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("name", ["interactions", "items"])
def test_damage_under_a_sound_footer_is_reported(tmp_path: Path, name: str) -> None:
    layout = ingested(tmp_path, cliques(("a", 6, 6)))
    path = layout.raw_interactions.with_name(f"{name}.parquet")
    content = bytearray(path.read_bytes())
    content[4:64] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.parquet: damaged \(.*\); remove it and run `mmprep ingest`"):
        run(FilterParams(), layout)


def test_an_item_that_is_reviewed_but_not_described_is_reported(tmp_path: Path) -> None:
    layout = ingested(tmp_path, cliques(("a", 2, 2)))
    RAW_ITEMS.write(RAW_ITEMS.read(layout.raw_items).filter(pl.col("item_id") != "ai1"), layout.raw_items, PROVENANCE)
    with pytest.raises(DataError) as caught:
        run(FilterParams(k_core=2), layout)
    assert str(caught.value) == f"{layout.raw_items}: has 1 of the 2 items that are left; run `mmprep ingest`"
