"""Noise on purpose: how much, where, and that val and test stay as they are."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from worlds import two_groups, write_world

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import SPLIT_INTERACTIONS
from mmprep.stages.prepare.noise import NoiseParams, disturb_feedback, replace_sources

N_USERS, N_ITEMS = 40, 60  # of two_groups; 400 train, 40 val and 40 test rows


@pytest.fixture
def clean(tmp_path: Path) -> pl.DataFrame:
    layout = Layout(tmp_path / "data", "toy")
    write_world(two_groups(), layout)
    return SPLIT_INTERACTIONS.read(layout.interactions)


def disturb(clean: pl.DataFrame, **rates: float) -> pl.DataFrame:
    return disturb_feedback(clean, NoiseParams.model_validate(rates), N_USERS, N_ITEMS)


def rows(frame: pl.DataFrame, split: str) -> set[tuple[int, int]]:
    return set(frame.filter(split=split).select("user", "item").iter_rows())


def test_without_noise_nothing_changes(clean: pl.DataFrame) -> None:
    assert disturb(clean).equals(clean)


@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0])
def test_added_feedback_is_new_in_train_and_unknown_before(clean: pl.DataFrame, rate: float) -> None:
    noisy = disturb(clean, added=rate)
    added = rows(noisy, "train") - rows(clean, "train")
    assert len(added) == int(rate * 400)
    assert len(noisy) == len(clean) + len(added), "no pair twice"
    assert not added & (rows(clean, "val") | rows(clean, "test"))
    assert noisy.rows() == sorted(noisy.rows(), key=lambda row: row[:2])
    assert all(0 <= user < N_USERS and 0 <= item < N_ITEMS for user, item in added)


@pytest.mark.parametrize("rate", [0.05, 0.2, 1.0])
def test_removed_feedback_is_of_train_alone(clean: pl.DataFrame, rate: float) -> None:
    noisy = disturb(clean, removed=rate)
    assert len(rows(noisy, "train")) == 400 - int(rate * 400)
    assert rows(noisy, "train") <= rows(clean, "train")


def test_val_and_test_stay_as_they_are(clean: pl.DataFrame) -> None:
    noisy = disturb(clean, added=0.3, removed=0.3)
    for split in ("val", "test"):
        assert noisy.filter(split=split).equals(clean.filter(split=split))
    assert len(noisy) == len(clean), "both are counted on the clean train split"


def test_the_same_seed_draws_the_same_and_a_smaller_rate_a_part_of_it(clean: pl.DataFrame) -> None:
    assert disturb(clean, added=0.2, removed=0.1).equals(disturb(clean, added=0.2, removed=0.1))
    assert not disturb(clean, added=0.2).equals(disturb(clean, added=0.2, seed=1))
    assert rows(disturb(clean, removed=0.2), "train") <= rows(disturb(clean, removed=0.1), "train")


def test_added_pairs_are_spread_evenly_over_users_and_items(clean: pl.DataFrame) -> None:
    added = np.zeros((N_USERS, N_ITEMS))
    for seed in range(60):
        for user, item in rows(disturb(clean, added=0.5, seed=seed), "train") - rows(clean, "train"):
            added[user, item] += 1
    free = np.ones((N_USERS, N_ITEMS), dtype=bool)
    free[clean["user"], clean["item"]] = False
    expected = 60 * 200 / free.sum()
    assert abs(added[free].mean() - expected) < 1e-9
    assert added[free].var() < 1.5 * expected  # drawn without replacement: a little below a Poisson variable's


def test_a_dense_dataset_is_refused() -> None:
    full = pl.DataFrame({"user": [0, 0, 1], "item": [0, 1, 0]}).with_columns(split=pl.lit("train"))
    with pytest.raises(DataError, match=r"noise.added: 1 pairs beside the 3 known ones .* 2 x 2 pairs; lower it"):
        disturb_feedback(full, NoiseParams(added=0.4), 2, 2)


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.5, 1.0])
def test_replaced_items_show_another_items_content(rate: float) -> None:
    sources = [(item, f"photo {item}") for item in range(0, 200, 2)]
    noisy, count = replace_sources(sources, rate, seed=0)
    assert count == int(rate * 100)
    assert [item for item, _ in noisy] == [item for item, _ in sources]
    changed = [(item, photo) for item, photo in noisy if photo != f"photo {item}"]
    assert len(changed) == count, "never by its own"
    assert {photo for _, photo in changed} <= {photo for _, photo in sources}


def test_an_item_never_gets_its_own_content_again_and_every_other_may_come() -> None:
    sources = [(item, item) for item in range(5)]
    drawn = {pair for seed in range(200) for pair in replace_sources(sources, 1.0, seed)[0]}
    assert drawn == {(item, other) for item in range(5) for other in range(5) if item != other}


def test_one_item_alone_cannot_be_replaced() -> None:
    assert replace_sources([(0, "photo")], 1.0, seed=0) == ([(0, "photo")], 0)
