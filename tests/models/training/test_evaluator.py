import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.sparse import csr_array
from worlds import binary

from mmprep.models.training.evaluator import evaluate, evaluated_users, rank
from mmprep.models.training.metrics import CUTOFFS
from mmprep.pipeline.errors import DataError

Scores = npt.NDArray[np.float64]


def whole_numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    """Embeddings whose inner products are exact in any order of summation, with many equal scores."""
    return torch.from_numpy(np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32))


def random_interactions(users: int, items: int, share: float, seed: int) -> csr_array:
    return csr_array((np.random.default_rng(seed).random((users, items)) < share).astype(np.float32))


def best_items(scores: Scores, masked: set[int], k: int) -> list[int]:
    """The k best of the items that are not masked, one user, the slow way."""
    candidates = [item for item in range(len(scores)) if item not in masked]
    return sorted(candidates, key=lambda item: (-scores[item], item))[:k]


def naive_metrics(scores: Scores, truth: Scores, train: Scores, mask: Scores) -> dict[str, float]:
    """The metrics user by user, from their definition."""
    rows: dict[str, list[float]] = {}
    for user in range(len(scores)):
        wanted = set(np.flatnonzero(truth[user]).tolist())
        if not wanted or not train[user].any():
            continue
        for k in CUTOFFS:
            best = best_items(scores[user], set(np.flatnonzero(mask[user]).tolist()), k)
            gains = [1 / math.log2(place + 2) for place, item in enumerate(best) if item in wanted]
            ideal = sum(1 / math.log2(place + 2) for place in range(min(len(wanted), k)))
            rows.setdefault(f"recall@{k}", []).append(len(gains) / len(wanted))
            rows.setdefault(f"precision@{k}", []).append(len(gains) / k)
            rows.setdefault(f"ndcg@{k}", []).append(sum(gains) / ideal)
    return {name: sum(values) / len(values) for name, values in rows.items()}


@pytest.mark.parametrize("items", [120, 35])  # more and fewer than the longest list
@pytest.mark.parametrize("mask_truth", [False, True])
def test_metrics_agree_with_a_user_by_user_computation(items: int, mask_truth: bool) -> None:
    users, vectors = whole_numbers(40, 5, seed=1), whole_numbers(items, 5, seed=2)
    train = random_interactions(40, items, 0.15, seed=3)
    truth = random_interactions(40, items, 0.1, seed=4)
    if not mask_truth:
        truth = csr_array(truth - truth * train)
        truth.eliminate_zeros()
    train = csr_array(train * (np.arange(40) % 10 > 0)[:, None])  # some users without train items
    train.eliminate_zeros()
    expected = naive_metrics((users @ vectors.T).numpy(), truth.toarray(), train.toarray(), train.toarray())
    assert evaluate(users, vectors, truth, train) == pytest.approx(expected, abs=1e-12)


def test_train_items_are_never_ranked() -> None:
    users, items = whole_numbers(30, 4), whole_numbers(40, 4, seed=1)
    train = random_interactions(30, 40, 0.2, seed=2)
    ranking = rank(users, items, np.arange(30), train, 20)
    assert np.isfinite(ranking.scores).all()
    assert (train.toarray()[np.arange(30)[:, None], ranking.items] == 0).all()


def test_ranking_holds_each_users_best_items_with_their_scores() -> None:
    users, items = whole_numbers(30, 4), whole_numbers(40, 4, seed=1)
    train = random_interactions(30, 40, 0.2, seed=2)
    chosen = np.array([3, 17, 29])
    ranking = rank(users, items, chosen, train, 15)
    scores = (users @ items.T).numpy()
    np.testing.assert_array_equal(ranking.users, chosen)
    for row, user in enumerate(chosen):
        expected = best_items(scores[user], set(np.flatnonzero(train.toarray()[user]).tolist()), 15)
        assert ranking.items[row].tolist() == expected
        np.testing.assert_array_equal(ranking.scores[row], scores[user, expected])


def test_of_equal_scores_the_smaller_item_comes_first() -> None:
    users, items = torch.ones(1, 1), torch.tensor([[1.0], [2.0], [1.0], [2.0], [1.0], [0.0]])
    ranking = rank(users, items, np.array([0]), binary([(0, 2)], (1, 6)), 4)
    assert ranking.items.tolist() == [[1, 3, 0, 4]]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_result_does_not_depend_on_how_many_users_are_ranked_at_once(
    monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    users, items = whole_numbers(30, 4), whole_numbers(60, 4, seed=1)
    train, truth = random_interactions(30, 60, 0.2, seed=2), random_interactions(30, 60, 0.1, seed=3)
    expected = rank(users, items, np.arange(30), train, 50)
    metrics = evaluate(users, items, truth, train)
    monkeypatch.setattr("mmprep.models.training.evaluator.BLOCK_USERS", block)
    found = rank(users, items, np.arange(30), train, 50)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert evaluate(users, items, truth, train) == metrics


def test_val_items_stay_candidates_unless_they_are_masked() -> None:
    # One user; item 0 is in train, item 1 in val and best, item 2 in test and second best.
    users, items = torch.ones(1, 1), torch.tensor([[9.0], [3.0], [2.0], [1.0], [0.0], [-1.0]])
    train, test = binary([(0, 0)], (1, 6)), binary([(0, 2)], (1, 6))
    both = binary([(0, 0), (0, 1)], (1, 6))
    assert evaluate(users, items, test, train, cutoffs=(1, 2)) == pytest.approx(
        {"recall@1": 0, "recall@2": 1, "precision@1": 0, "precision@2": 0.5, "ndcg@1": 0, "ndcg@2": 1 / math.log2(3)}
    )
    assert evaluate(users, items, test, train, both, cutoffs=(1,)) == {"recall@1": 1, "precision@1": 1, "ndcg@1": 1}


def test_users_without_train_or_without_truth_are_left_out() -> None:
    train, truth = binary([(0, 0), (1, 1), (3, 2)], (4, 5)), binary([(1, 2), (2, 2), (3, 3)], (4, 5))
    assert evaluated_users(truth, train).tolist() == [1, 3]
    users, items = torch.zeros(4, 1), torch.zeros(5, 1)
    users[1], items[2] = 1, 1  # user 1's test item is best; for user 3 all are equal, so item 0 is first
    assert evaluate(users, items, truth, train, cutoffs=(1,))["recall@1"] == 0.5


def test_lists_are_cut_to_the_number_of_items() -> None:
    users, items = whole_numbers(3, 2), whole_numbers(7, 2)
    train = binary([(0, 0), (1, 1), (2, 2)], (3, 7))
    ranking = rank(users, items, np.arange(3), train, 50)
    assert ranking.items.shape == (3, 7)
    assert np.isneginf(ranking.scores[:, -1]).all()
    truth = binary([(0, 1), (1, 2), (2, 3)], (3, 7))
    metrics = evaluate(users, items, truth, train)
    assert metrics["recall@10"] == metrics["recall@50"] == 1
    assert metrics["precision@50"] == pytest.approx(1 / 50)


def test_masked_item_that_fills_a_short_list_is_no_hit() -> None:
    # Item 1 is wanted but masked; the list of three holds it at the end with a score of -inf.
    users, items = torch.ones(1, 1), torch.tensor([[1.0], [5.0], [2.0]])
    metrics = evaluate(users, items, binary([(0, 1)], (1, 3)), binary([(0, 1)], (1, 3)), cutoffs=(5,))
    assert metrics == {"recall@5": 0, "precision@5": 0, "ndcg@5": 0}


def test_nobody_to_rank_for_gives_an_empty_ranking() -> None:
    none = np.array([], dtype=np.int64)
    ranking = rank(torch.ones(2, 1), torch.ones(3, 1), none, binary([], (2, 3)), 2)
    assert ranking.items.shape == ranking.scores.shape == (0, 2)


def test_nothing_to_evaluate_is_said() -> None:
    train, truth = binary([(0, 0)], (2, 3)), binary([(1, 1)], (2, 3))
    with pytest.raises(DataError, match="nothing to evaluate: no user has interactions both in train and in the"):
        evaluate(torch.ones(2, 1), torch.ones(3, 1), truth, train)


def test_ranking_leaves_the_embeddings_as_they_were() -> None:
    users, items = whole_numbers(5, 2), whole_numbers(6, 2)
    copies = users.clone(), items.clone()
    rank(users, items, np.arange(5), random_interactions(5, 6, 0.5, seed=1), 3)
    assert torch.equal(users, copies[0])
    assert torch.equal(items, copies[1])
