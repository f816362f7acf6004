"""Full ranking: every item scored for every user, the known ones masked."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.training.metrics import CUTOFFS, ranking_metrics
from models.training.sampling import interaction_keys, is_member
from pipeline.errors import DataError
from pipeline.topk import top_k

BLOCK_USERS = 1024


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
    blocks = []
    for start in range(0, len(chosen), BLOCK_USERS):
        block = chosen[start : start + BLOCK_USERS]
        scores = users[torch.from_numpy(block).to(users.device)] @ items.T
        known = mask[block]
        rows = np.repeat(np.arange(len(block)), np.diff(known.indptr))
        index = (torch.from_numpy(rows).to(scores.device), torch.from_numpy(known.indices).long().to(scores.device))
        scores[index] = -torch.inf
        blocks.append([tensor.cpu().numpy() for tensor in top_k(scores, k)])
    if not blocks:
        return Ranking(chosen, np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))
    return Ranking(chosen, np.concatenate([b[1] for b in blocks]), np.concatenate([b[0] for b in blocks]))


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
    chosen = evaluated_users(truth, train)
    if len(chosen) == 0:
        raise DataError("nothing to evaluate: no user has interactions both in train and in the evaluated split")
    ranking = rank(users, items, chosen, train if mask is None else mask, max(cutoffs))
    return ranking_metrics(find_hits(ranking, truth), np.diff(truth.indptr)[chosen].astype(np.int64), cutoffs)


def find_hits(ranking: Ranking, truth: csr_array) -> npt.NDArray[np.bool_]:
    """Whether each ranked item is in the truth, [n, k]; the masked items that fill short lists are no hits."""
    found = is_member(ranking.users[:, None] * truth.shape[1] + ranking.items, interaction_keys(truth))
    return found & np.isfinite(ranking.scores)
