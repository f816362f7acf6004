import numpy as np
import numpy.typing as npt
import pytest
import torch
from deferred import Deferred
from hypothesis import given
from hypothesis import strategies as st

from mmprep.models.training.metrics import CUTOFFS, ranking_metrics, user_metrics

retrieval_normalized_dcg = Deferred("torchmetrics.functional.retrieval:retrieval_normalized_dcg")
retrieval_precision = Deferred("torchmetrics.functional.retrieval:retrieval_precision")
retrieval_recall = Deferred("torchmetrics.functional.retrieval:retrieval_recall")
INDEPENDENT = {"recall": retrieval_recall, "precision": retrieval_precision, "ndcg": retrieval_normalized_dcg}


def hits_at(ranks: list[list[int]], length: int) -> npt.NDArray[np.bool_]:
    """A row a user with a hit at each of the ranks, from 1."""
    hits = np.zeros((len(ranks), length), dtype=bool)
    for user, places in enumerate(ranks):
        hits[user, np.array(places, dtype=int) - 1] = True
    return hits


def test_metrics_of_two_users_by_hand() -> None:
    # User 0 has 3 relevant items, found at ranks 1, 3 and 8; user 1 has 1, found at rank 6.
    metrics = ranking_metrics(hits_at([[1, 3, 8], [6]], 10), np.array([3, 1]), (5, 10))
    # At 5: hits 2 and 0. Recall (2/3 + 0) / 2, precision (2/5 + 0) / 2.
    assert metrics["recall@5"] == pytest.approx(1 / 3)
    assert metrics["precision@5"] == pytest.approx(0.2)
    # DCG 1/log2(2) + 1/log2(4) = 1.5; ideal 1 + 0.630930 + 0.5 = 2.130930; 1.5 / 2.130930 = 0.703918; user 1 has 0.
    assert metrics["ndcg@5"] == pytest.approx(0.703918 / 2, abs=1e-6)
    # At 10: hits 3 and 1.
    assert metrics["recall@10"] == pytest.approx(1.0)
    assert metrics["precision@10"] == pytest.approx((0.3 + 0.1) / 2)
    # DCG 1.5 + 1/log2(9) = 1.815465, over 2.130930 = 0.851959; user 1: 1/log2(7) = 0.356207, over 1.
    assert metrics["ndcg@10"] == pytest.approx((0.851959 + 0.356207) / 2, abs=1e-6)


def test_ideal_list_is_cut_at_the_cutoff() -> None:
    # All of the first five are hits of a user with eight relevant items: NDCG@5 is 1, Recall@5 is 5/8.
    metrics = ranking_metrics(hits_at([[1, 2, 3, 4, 5]], 5), np.array([8]), (5,))
    assert metrics == {"recall@5": 0.625, "precision@5": 1.0, "ndcg@5": 1.0}


def test_lists_shorter_than_the_cutoff_still_divide_precision_by_it() -> None:
    metrics = ranking_metrics(hits_at([[1, 3]], 3), np.array([2]), (5, 50))
    assert metrics["precision@5"] == pytest.approx(2 / 5)
    assert metrics["precision@50"] == pytest.approx(2 / 50)
    assert metrics["recall@50"] == 1.0
    assert metrics["ndcg@50"] == pytest.approx(1.5 / (1 + 1 / np.log2(3)))


def test_metrics_are_named_by_kind_and_cutoff() -> None:
    names = list(ranking_metrics(hits_at([[1]], 50), np.array([1])))
    assert CUTOFFS == (5, 10, 20, 50)
    assert names == [f"{kind}@{k}" for kind in ("recall", "precision", "ndcg") for k in CUTOFFS]


@given(st.data())
def test_metrics_keep_their_bounds(data: st.DataObject) -> None:
    users, length = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 60))
    ranks = [data.draw(st.sets(st.integers(1, length))) for _ in range(users)]
    relevant = np.array([max(1, len(found)) + data.draw(st.integers(0, 30)) for found in ranks])
    metrics = ranking_metrics(hits_at([list(found) for found in ranks], length), relevant)
    for k in CUTOFFS:
        assert metrics[f"precision@{k}"] >= metrics[f"recall@{k}"] / k - 1e-12
        assert 0 <= metrics[f"ndcg@{k}"] <= 1 + 1e-12
        assert 0 <= metrics[f"recall@{k}"] <= 1
    recalls = [metrics[f"recall@{k}"] for k in CUTOFFS]
    assert recalls == sorted(recalls)


def test_metrics_agree_with_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.tile(np.arange(80), (25, 1)), axis=1)  # no two are equal
    wanted = rng.random((25, 80)) < rng.uniform(0.02, 0.5, (25, 1))
    wanted[:, 0] = True
    hits = np.take_along_axis(wanted, np.argsort(-scores, axis=1), axis=1)[:, :50]
    found = user_metrics(hits, wanted.sum(axis=1))
    for user in range(25):
        given_scores, target = torch.from_numpy(scores[user]).float(), torch.from_numpy(wanted[user])
        for kind, function in INDEPENDENT.items():
            for k in CUTOFFS:
                expected = function(given_scores, target, top_k=k).item()
                assert found[f"{kind}@{k}"][user] == pytest.approx(expected, rel=1e-5)  # theirs are of single precision
    averages = {name: pytest.approx(values.mean()) for name, values in found.items()}
    assert ranking_metrics(hits, wanted.sum(axis=1)) == averages
