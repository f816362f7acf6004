"""Full ranking: every item scored for every user, the known ones masked."""

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

BLOCK_USERS = 256  # whose scores stay in a processor's cache while they are sorted
BLOCK_NUMBERS = 2**25  # of scores computed at once


@dataclass(frozen=True)
class Ranking:
    """The best items of some users.

    Attributes:
        users: [n].
        items: [n, k], the best first.
        scores: [n, k]; -inf where a user has fewer than k items that are not masked.
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hits:
    """What of the truth the lists of some users hold.

    Attributes:
        ranking: the lists, of the n users who have anything to find.
        hits: [n, k] whether each ranked item is to be found.
        relevant: [n] how many items there are to find.
    """

    ranking: Ranking
    hits: npt.NDArray[np.bool_]
    relevant: npt.NDArray[np.int64]


@torch.inference_mode()
def rank(users: Tensor, items: Tensor, chosen: npt.NDArray[np.int64], mask: csr_array, k: int) -> Ranking:
    """The k best items of each chosen user by inner product; of equal scores the smaller item index first.

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
    """Consecutive users, so many at once that their scores of all items fit."""
    step = max(1, min(BLOCK_USERS, BLOCK_NUMBERS // max(1, items)))
    return (slice(start, min(start + step, users)) for start in range(0, users, step))


def evaluated_users(truth: csr_array, train: csr_array) -> npt.NDArray[np.int64]:
    """The users that are evaluated: those with something to find and something in train."""
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
        truth: [n_users, n_items] what is to be found.
        train: [n_users, n_items] masked, and users without train items are left out.
        mask: masked instead of `train` if given.
        cutoffs: list lengths.

    Raises:
        DataError: no user has anything to find.
    """
    ranking = rank(users, items, evaluated_users(truth, train), train if mask is None else mask, max(cutoffs))
    found = match_hits(ranking, truth)
    return ranking_metrics(found.hits, found.relevant, cutoffs)


def match_hits(ranking: Ranking, truth: csr_array) -> Hits:
    """Look for the interactions of `truth`, [n_users, n_items], in the lists of those users who have any.

    Raises:
        DataError: none of the ranked users has any.
    """
    relevant = np.diff(truth.indptr)[ranking.users].astype(np.int64)
    some = relevant > 0
    if not some.any():
        raise DataError("nothing to evaluate: no user has interactions both in train and in the evaluated split")
    if not some.all():
        ranking = Ranking(ranking.users[some], ranking.items[some], ranking.scores[some])
    return Hits(ranking, find_hits(ranking, truth), relevant[some])


def find_hits(ranking: Ranking, truth: csr_array) -> npt.NDArray[np.bool_]:
    """Whether each ranked item is in the truth, [n, k]; the masked items that fill short lists are no hits."""
    found = is_member(ranking.users[:, None] * truth.shape[1] + ranking.items, interaction_keys(truth))
    return found & np.isfinite(ranking.scores)
