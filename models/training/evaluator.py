"""Full-ranking evaluation: every item is scored for every user, with known items masked."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.layers.topk import top_k
from mmprep.models.training.metrics import CUTOFFS, ranking_metrics
from mmprep.models.training.negative_sampling import interaction_keys, is_member
from mmprep.pipeline.errors import DataError

BLOCK_USERS = 256  # small enough for their scores to stay in the processor's cache while they are sorted
BLOCK_NUMBERS = 2**25  # scores computed at once


@dataclass(frozen=True)
class Ranking:
    """Top-k items of n users.

    Attributes:
        users: [n].
        items: [n, k], best first.
        scores: [n, k]; -inf where a user has fewer than k items that are not masked.
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hits:
    """Relevant items in the ranked lists of users.

    Attributes:
        ranking: the lists of the n users that have relevant items.
        hits: [n, k] whether each ranked item is relevant.
        relevant: [n] number of relevant items of each user.
    """

    ranking: Ranking
    hits: npt.NDArray[np.bool_]
    relevant: npt.NDArray[np.int64]


@torch.inference_mode()
def rank(users: Tensor, items: Tensor, chosen: npt.NDArray[np.int64], mask: csr_array, k: int) -> Ranking:
    """Rank the k best items of each chosen user by inner product; ties go to the smaller item index.

    Args:
        users: embeddings [n_users, d].
        items: embeddings [n_items, d].
        chosen: [n] users to rank for.
        mask: [n_users, n_items] items that are not recommended to a user.
        k: length of the lists, cut to n_items.
    """
    k = min(k, len(items))
    ranked = np.empty((len(chosen), k), dtype=np.int64)
    best = np.empty((len(chosen), k), dtype=np.float32)
    for block in blocks(len(chosen), len(items)):
        known = mask[chosen[block]]
        place = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr)), known.indices.astype(np.int64)
        scores = users[torch.from_numpy(chosen[block]).to(users.device)] @ items.T
        scores[tuple(torch.from_numpy(each).to(scores.device) for each in place)] = -torch.inf
        best[block], ranked[block] = (tensor.cpu().numpy() for tensor in top_k(scores, k))
    return Ranking(chosen, ranked, best)


def blocks(users: int, items: int) -> Iterator[slice]:
    """Slices of consecutive users, small enough for their scores of all items to fit."""
    step = max(1, min(BLOCK_USERS, BLOCK_NUMBERS // max(1, items)))
    return (slice(start, min(start + step, users)) for start in range(0, users, step))


def evaluated_users(truth: csr_array, train: csr_array) -> npt.NDArray[np.int64]:
    """Users to evaluate: those with interactions both in the truth and in train."""
    return np.flatnonzero((np.diff(truth.indptr) > 0) & (np.diff(train.indptr) > 0))


def evaluate(
    users: Tensor,
    items: Tensor,
    truth: csr_array,
    train: csr_array,
    mask: csr_array | None = None,
    cutoffs: tuple[int, ...] = CUTOFFS,
) -> dict[str, float]:
    """Rank all items and compare with the interactions of `truth`.

    Args:
        users: embeddings [n_users, d].
        items: embeddings [n_items, d].
        truth: [n_users, n_items] relevant items.
        train: [n_users, n_items] masked items; users without train items are left out.
        mask: items masked instead of `train` if given.
        cutoffs: list lengths.

    Raises:
        DataError: no user has relevant items.
    """
    ranking = rank(users, items, evaluated_users(truth, train), train if mask is None else mask, max(cutoffs))
    matched = match_hits(ranking, truth)
    return ranking_metrics(matched.hits, matched.relevant, cutoffs)


def match_hits(ranking: Ranking, truth: csr_array) -> Hits:
    """Match the ranked lists with the interactions of `truth`, [n_users, n_items]; users without any are left out.

    Raises:
        DataError: none of the ranked users has interactions in `truth`.
    """
    relevant = np.diff(truth.indptr)[ranking.users].astype(np.int64)
    has_relevant = relevant > 0
    if not has_relevant.any():
        raise DataError("nothing to evaluate: no user has interactions both in train and in the evaluated split")
    if not has_relevant.all():
        ranking = Ranking(ranking.users[has_relevant], ranking.items[has_relevant], ranking.scores[has_relevant])
    return Hits(ranking, find_hits(ranking, truth), relevant[has_relevant])


def find_hits(ranking: Ranking, truth: csr_array) -> npt.NDArray[np.bool_]:
    """Whether each ranked item is in the truth, [n, k]; masked items that pad short lists are no hits."""
    relevant = is_member(ranking.users[:, None] * truth.shape[1] + ranking.items, interaction_keys(truth))
    return relevant & np.isfinite(ranking.scores)
