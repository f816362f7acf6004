"""Metrics of groups of users and of items."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from worlds import binary

from mmprep.models.training.evaluator import Hits, Ranking, match_hits
from mmprep.models.training.group_metrics import POPULARITY, UNSEEN, metrics_by_group, names_of, popularity
from mmprep.models.training.metrics import ranking_metrics

Lists = dict[int, list[int]]


def found_in(lists: Lists, truth: csr_array) -> Hits:
    """What lists of equal length hold of the truth."""
    items = np.array(list(lists.values()))
    return match_hits(Ranking(np.array(list(lists)), items, np.zeros(items.shape, dtype=np.float32)), truth)


def counted(counts: list[int], users: int) -> csr_array:
    """A train matrix in which so many users have each item."""
    return binary([(user, item) for item, count in enumerate(counts) for user in range(count)], (users, len(counts)))


def users_of(lists: Lists, truth: csr_array, train: csr_array, bounds: tuple[int, ...]) -> dict[str, Any]:
    return metrics_by_group(found_in(lists, truth), truth, train, bounds, (1, 2))["users_by_train_items"]


def test_users_are_grouped_by_how_many_train_items_they_have() -> None:
    # Users 0 and 1 have one train item, user 2 has two, user 3 has three.
    train = binary([(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)], (4, 6))
    truth = binary([(0, 3), (1, 3), (2, 4), (3, 5)], (4, 6))
    lists = {0: [3, 4], 1: [4, 3], 2: [4, 5], 3: [3, 4]}
    groups = users_of(lists, truth, train, (2, 3))
    assert list(groups) == ["1", "2", "3+"]
    assert [group["users"] for group in groups.values()] == [2, 1, 1]
    assert [group["recall@1"] for group in groups.values()] == [0.5, 1, 0]
    assert [group["recall@2"] for group in groups.values()] == [1, 1, 0]
    assert groups["1"]["ndcg@2"] == pytest.approx((1 + 1 / np.log2(3)) / 2)


def test_group_of_users_without_anybody_has_no_metrics() -> None:
    train, truth = binary([(0, 0), (1, 0)], (2, 4)), binary([(0, 1)], (2, 4))
    groups = users_of({0: [1, 2], 1: [1, 2]}, truth, train, (6, 10, 50))
    assert groups["6-9"] == groups["10-49"] == groups["50+"] == {"users": 0}
    # User 1 has nothing to find.
    assert groups["1-5"] == {
        "users": 1,
        **{
            f"{kind}@{k}": 1 / k if kind == "precision" else 1
            for kind in ("recall", "precision", "ndcg")
            for k in (1, 2)
        },
    }


@pytest.mark.parametrize(
    ("bounds", "names"),
    [((), ["1+"]), ((2,), ["1", "2+"]), ((6, 10, 50), ["1-5", "6-9", "10-49", "50+"]), ((3, 4), ["1-2", "3", "4+"])],
)
def test_groups_are_named_by_their_first_and_last_count(bounds: tuple[int, ...], names: list[str]) -> None:
    assert names_of(bounds) == names


@given(st.lists(st.integers(2, 12), unique=True).map(sorted), st.integers(0, 2**32 - 1))
def test_every_evaluated_user_is_in_one_group_and_the_groups_average_to_the_whole(bounds: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    train = csr_array((rng.random((12, 15)) < 0.4).astype(np.float32) + np.eye(12, 15, dtype=np.float32) > 0)
    truth = csr_array(rng.random((12, 15)) < 0.3)
    if not truth.nnz:
        return
    found = found_in({user: list(rng.permutation(15)[:8]) for user in range(12)}, truth)
    groups = metrics_by_group(found, truth, train, bounds, (2, 5))["users_by_train_items"].values()
    users = sum(group["users"] for group in groups)
    assert users == len(found.ranking.users)
    for name, value in ranking_metrics(found.hits, found.relevant, (2, 5)).items():
        assert sum(group["users"] * group.get(name, 0) for group in groups) / users == pytest.approx(value)


def test_items_are_cut_into_groups_of_a_fifth_of_the_interactions_by_falling_popularity() -> None:
    # 8 + 4 + 4 + 8 x 2 + 8 x 1 = 40 interactions; a fifth are 8.
    counts = [1] * 8 + [4, 8, 4] + [2] * 8 + [0]
    # Those of count 2 hold interactions 17 to 32, whose middle is in the fourth fifth; none is left to the third.
    assert popularity(counted(counts, 8)).tolist() == [4] * 8 + [1, 0, 1] + [3] * 8 + [5]
    assert POPULARITY[2] == "middle"


def test_items_of_equal_popularity_are_in_one_group() -> None:
    assert popularity(counted([3] * 10, 3)).tolist() == [2] * 10


def test_recall_of_items_counts_interactions_by_the_popularity_of_their_item() -> None:
    train = counted([5, 1, 1, 0], 5)  # item 0 holds 5 of 7 interactions, items 1 and 2 one each
    truth = binary([(0, 1), (0, 3), (1, 0), (2, 0), (2, 1), (3, 0)], (5, 4))
    lists = {0: [1, 2], 1: [2, 0], 2: [2, 3], 3: [0, 1], 4: [0, 1]}
    groups = metrics_by_group(found_in(lists, truth), truth, train, (), (1, 2))["items_by_popularity"]
    assert list(groups) == [*POPULARITY, UNSEEN]
    popular = {"items": 1, "interactions": 3, "fewest_users": 5, "most_users": 5, "recall@1": 1 / 3, "recall@2": 2 / 3}
    assert groups["popular"] == popular
    assert groups["rarest"] == {
        "items": 2,
        "interactions": 2,
        "fewest_users": 1,
        "most_users": 1,
        "recall@1": 0.5,
        "recall@2": 0.5,
    }
    assert groups[UNSEEN] == {
        "items": 1,
        "interactions": 1,
        "fewest_users": 0,
        "most_users": 0,
        "recall@1": 0.0,
        "recall@2": 0.0,
    }
    assert groups["middle"] == {"items": 0, "interactions": 0}


def test_only_interactions_of_ranked_users_count() -> None:
    train, truth = counted([2, 1], 2), binary([(0, 1), (1, 0)], (2, 2))
    groups = metrics_by_group(found_in({0: [1, 0]}, truth), truth, train, (), (1,))["items_by_popularity"]
    assert sum(group["interactions"] for group in groups.values()) == 1


def test_groups_are_numbers_that_json_takes() -> None:
    train, truth = counted([2, 1], 2), binary([(0, 1), (1, 0)], (2, 2))
    groups = metrics_by_group(found_in({0: [1, 0]}, truth), truth, train, (6,))
    assert json.loads(json.dumps(groups, allow_nan=False)) == groups
