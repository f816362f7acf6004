"""Stage `filter`: the k-core against its definition, and the dense indices."""

import json
import random
from collections import Counter
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.errors import DataError, MissingInputError
from pipeline.files import sha256
from pipeline.layout import Layout
from pipeline.provenance import Provenance, read_provenance
from pipeline.tables import CORE, INTERACTIONS, ITEMS, RAW_ITEMS, USERS
from stages.filter import FilterParams, k_core, keep_last, run

PROVENANCE = Provenance("test", {}, {}, {}, {})
Review = tuple[str, str, float, int]


def frame_of(reviews: list[Review]) -> pl.DataFrame:
    schema = {"user_id": pl.String, "item_id": pl.String, "rating": pl.Float32, "timestamp": pl.Int64}
    return pl.DataFrame(reviews, schema=schema, orient="row")


def ingested(folder: Path, reviews: list[Review], photos: dict[str, str] | None = None) -> Layout:
    """A dataset as `ingest` leaves it."""
    layout = Layout(folder / "data", "toys")
    frame = frame_of(reviews)
    INTERACTIONS.write(frame, layout.raw_interactions, PROVENANCE)
    ids = sorted(set(frame["item_id"]) | {"never reviewed"})
    photos = photos or {}
    items = {
        "item_id": ids,
        "title": [f"title of {item_id}" for item_id in ids],
        **{name: [""] * len(ids) for name in ("description", "categories", "brand")},
        "image": [photos.get(item_id) for item_id in ids],
        "image_url": [None] * len(ids),
    }
    RAW_ITEMS.write(
        pl.DataFrame(items, schema_overrides={"image": pl.String, "image_url": pl.String}), layout.raw_items, PROVENANCE
    )
    return layout


def cliques(*sizes: tuple[str, int, int]) -> list[Review]:
    """Groups in which every user has reviewed every item: (name, users, items)."""
    return [
        (f"{name}u{user}", f"{name}i{item}", 5.0, 1)
        for name, users, items in sizes
        for user in range(users)
        for item in range(items)
    ]


def by_definition(pairs: list[tuple[str, str]], k: int) -> set[tuple[str, str]]:
    """Drop one offending row after the other until there is none."""
    left = set(pairs)
    while True:
        users, items = Counter(user for user, _ in left), Counter(item for _, item in left)
        bad = [pair for pair in left if users[pair[0]] < k or items[pair[1]] < k]
        if not bad:
            return left
        left.remove(bad[0])


def core_of(pairs: list[tuple[str, str]], k: int) -> set[tuple[str, str]]:
    users, items = zip(*pairs, strict=True) if pairs else ((), ())
    kept, _ = k_core(pl.Series(users, dtype=pl.String), pl.Series(items, dtype=pl.String), k)
    return {pair for pair, stays in zip(pairs, kept, strict=True) if stays}


IDS = st.sampled_from(["", "a", "B", "b", "é", "10", "9"])
PAIRS = st.lists(st.tuples(IDS, IDS), unique=True, max_size=40)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pairs=PAIRS, k=st.integers(1, 4), seed=st.integers(0, 100))
def test_the_k_core_is_that_of_its_definition_in_any_order_of_rows(
    pairs: list[tuple[str, str]], k: int, seed: int
) -> None:
    core = core_of(pairs, k)
    assert core == by_definition(pairs, k)
    users, items = Counter(user for user, _ in core), Counter(item for _, item in core)
    assert all(count >= k for count in (*users.values(), *items.values()))
    shuffled = random.Random(seed).sample(pairs, len(pairs))  # noqa: S311 - no secret
    assert core_of(shuffled, k) == core
    assert core_of(sorted(core), k) == core


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
    users, items = (pl.Series(column) for column in zip(*chain, strict=True))
    kept, rounds = k_core(users, items, 2)
    assert (kept.tolist(), rounds) == ([False] * 5, 3)
    kept, rounds = k_core(users, items, 1)
    assert (kept.tolist(), rounds) == ([True] * 5, 0)


def test_of_several_reviews_of_an_item_by_a_user_the_last_is_kept() -> None:
    reviews = [
        ("u", "i", 3.0, 20),
        ("u", "i", 5.0, 10),
        ("u", "j", 1.0, 5),
        ("u", "i", 2.0, 20),
        ("v", "i", 4.0, 7),
        ("v", "i", 4.0, 7),
    ]
    expected = frame_of([("u", "i", 3.0, 20), ("u", "j", 1.0, 5), ("v", "i", 4.0, 7)])
    for seed in range(5):
        shuffled = random.Random(seed).sample(reviews, len(reviews))  # noqa: S311 - no secret
        assert_frame_equal(keep_last(frame_of(shuffled)), expected)


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
    reviews = [
        (f"u{chance.integers(12)}", f"i{chance.integers(9)}", float(chance.integers(1, 6)), int(chance.integers(1, 50)))
        for _ in range(150)
    ]
    layout = ingested(tmp_path, reviews)
    metrics = run(FilterParams(k_core=3), layout)
    core = CORE.read(layout.core)
    named = core.join(USERS.read(layout.users), on="user").join(ITEMS.read(layout.items), on="item")
    kept = keep_last(frame_of(reviews))
    pairs = by_definition(list(zip(kept["user_id"], kept["item_id"], strict=True)), 3)
    assert set(named.select("user_id", "item_id", "rating", "timestamp").rows()) == {
        row for row in kept.rows() if row[:2] in pairs
    }
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
        "rounds": 1,
        "lost_to_duplicates": 1,
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
        f"no user and item have 5 interactions with each other: the 5-core of {len(reviews)} interactions is empty; "
        "lower filter.k_core"
    )
    assert not layout.core.exists()
    assert not layout.users.exists()


def test_the_tables_tell_what_they_were_made_from(tmp_path: Path) -> None:
    layout = ingested(tmp_path, cliques(("a", 2, 2)))
    run(FilterParams(k_core=2), layout)
    for path in (layout.core, layout.users, layout.items):
        provenance = read_provenance(path)
        assert (provenance["stage"], provenance["params"]) == ("filter", {"k_core": 2})
        assert provenance["inputs"] == {
            "interim/toys/interactions.parquet": sha256(layout.raw_interactions),
            "interim/toys/items.parquet": sha256(layout.raw_items),
        }


def test_before_ingest_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"interactions.parquet: not found; run `mmprep ingest` first$"):
        run(FilterParams(), Layout(tmp_path, "toys"))
