from types import SimpleNamespace
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from deferred import Deferred
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from mmprep.models.recommenders.base import TrainingData
from mmprep.models.training.batches import Batches
from mmprep.models.training.negative_sampling import NegativeSampler, interaction_keys, is_member
from mmprep.models.training.params import TrainParams
from mmprep.pipeline.errors import DataError

chisquare = Deferred("scipy.stats:chisquare")


def random_train(users: int = 30, items: int = 20, seed: int = 0) -> csr_array:
    rng = np.random.default_rng(seed)
    dense = (rng.random((users, items)) < 0.3).astype(np.float32)
    dense[:, :2] = 0  # items that nobody has in train
    return csr_array(dense)


def draw(train: csr_array, users: npt.NDArray[np.int64], seed: int = 0) -> npt.NDArray[np.int64]:
    return NegativeSampler(train).sample(users, np.random.default_rng(seed))


def test_negative_is_never_an_item_that_the_user_has_in_train() -> None:
    train = random_train()
    users = np.repeat(np.arange(30), 500)
    assert (train.toarray()[users, draw(train, users)] == 0).all()


def test_negative_is_always_an_item_that_somebody_has_in_train() -> None:
    train = random_train()
    drawn = draw(train, np.repeat(np.arange(30), 500))
    assert set(drawn.tolist()) == set(np.flatnonzero(train.toarray().sum(axis=0)).tolist())
    assert not {0, 1} & set(drawn.tolist())


def test_negatives_are_uniform_over_the_items_that_a_user_lacks() -> None:
    train = random_train()
    candidates = np.flatnonzero((train.toarray().sum(axis=0) > 0) & (train.toarray()[7] == 0))
    drawn = draw(train, np.full(20_000, 7))
    counts = np.bincount(drawn, minlength=20)[candidates]
    assert counts.sum() == 20_000
    assert chisquare(counts).pvalue > 0.01


def test_items_that_many_users_have_are_drawn_no_more_often() -> None:
    dense = np.zeros((50, 4), dtype=np.float32)
    dense[:, 1] = 1  # everybody has item 1
    dense[0] = [1, 0, 1, 0]
    dense[1, 3] = 1
    drawn = draw(csr_array(dense), np.zeros(10_000, dtype=np.int64))
    assert chisquare(np.bincount(drawn, minlength=4)[[1, 3]]).pvalue > 0.01


def test_negatives_have_no_memory_of_a_batchs_other_users() -> None:
    # The user with one candidate left is drawn together with users who have many.
    dense = np.zeros((3, 6), dtype=np.float32)
    dense[0, :5] = 1
    dense[1, 0] = 1
    dense[2, 5] = 1
    users = np.tile(np.arange(3), 2000)
    drawn = draw(csr_array(dense), users)
    assert set(drawn[users == 0].tolist()) == {5}
    assert set(drawn[users == 1].tolist()) == {1, 2, 3, 4, 5}


def test_same_generator_gives_the_same_negatives_and_another_others() -> None:
    train, users = random_train(), np.repeat(np.arange(30), 10)
    np.testing.assert_array_equal(draw(train, users, seed=4), draw(train, users, seed=4))
    assert (draw(train, users, seed=4) != draw(train, users, seed=5)).any()


def test_users_who_all_have_every_train_item_are_refused() -> None:
    dense = np.zeros((3, 5), dtype=np.float32)
    dense[:2, 1:] = 1
    with pytest.raises(DataError, match=r"^each of 2 users has all 4 items in train; there is no negative item"):
        NegativeSampler(csr_array(dense))


def test_users_without_train_items_can_be_drawn_for() -> None:
    dense = np.zeros((2, 3), dtype=np.float32)
    dense[0, :2] = 1
    dense[1, 2] = 0
    train = csr_array(np.vstack([dense, [[0, 0, 1]]]).astype(np.float32))
    assert set(draw(train, np.ones(100, dtype=np.int64)).tolist()) == {0, 1, 2}


def test_keys_are_sorted_and_do_not_overflow() -> None:
    items = 2_000_000_000
    matrix = csr_array((np.ones(3, "f4"), ([0, 2, 2], [5, items - 1, 1])), shape=(3, items))
    assert interaction_keys(matrix).tolist() == [5, 2 * items + 1, 3 * items - 1]


@given(
    arrays(np.int64, st.tuples(st.integers(0, 5), st.integers(0, 7)), elements=st.integers(-20, 20)),
    st.lists(st.integers(-20, 20), max_size=30),
)
def test_is_member_agrees_with_numpy(values: npt.NDArray[np.int64], among: list[int]) -> None:
    ordered = np.array(sorted(among), dtype=np.int64)
    np.testing.assert_array_equal(is_member(values, ordered), np.isin(values, ordered))


def one_full_user() -> csr_array:
    return csr_array(np.array([[1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]], dtype=np.float32))


def test_a_user_with_every_train_item_has_no_negative_and_the_others_do() -> None:
    sampler = NegativeSampler(one_full_user())
    assert sampler.full_users.tolist() == [1]
    assert sampler.has_negative(np.array([0, 1, 2, 1])).tolist() == [True, False, True, False]
    assert set(sampler.sample(np.zeros(100, dtype=np.int64), np.random.default_rng(0)).tolist()) == {1, 3}
    with pytest.raises(ValueError, match="a user has no negative"):
        sampler.sample(np.array([0, 1]), np.random.default_rng(0))


def test_batches_leave_out_users_without_a_negative_and_say_so_once(caplog: pytest.LogCaptureFixture) -> None:
    data = SimpleNamespace(train=one_full_user())
    batches = Batches(cast(TrainingData, data), TrainParams(batch_size=2), torch.device("cpu"))
    for epoch in (1, 2):
        triples = [torch.stack(step) for step in batches.of_epoch(epoch)]
        users, positives, _ = torch.cat(triples, dim=1).tolist()
        assert sorted(zip(users, positives, strict=True)) == [(0, 0), (0, 2), (2, 1), (2, 3)]
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 3 users have all 4 items in train, such as user 1; their 4 interactions have no negative and are left "
        "out of the batches"
    ]
