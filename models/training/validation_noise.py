"""Noise of validation Recall@20, and the patience from which early stopping can tell a slow rise from it."""

from math import ceil, sqrt

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mmprep.models.training.evaluator import evaluated_users

SLOWEST_RISE = 0.0025
"""Relative rise of Recall@20 per epoch that early stopping should notice: 5 % in 20 epochs.

Source: docs/recommenders.md#early-stopping.
"""


def relative_standard_error(recall: float, relevant: npt.NDArray[np.int64]) -> float:
    """Standard error of Recall@20 over users, as a share of Recall@20.

    Each relevant item is a hit with probability `recall`, independently, so that the recall of a user with t relevant
    items has the variance recall (1 - recall) / t.

    Args:
        recall: mean Recall@20; without any hit, that of a single one is assumed.
        relevant: [users] number of relevant items of each user, at least 1.
    """
    recall = max(recall, 1 / int(relevant.sum()))
    return sqrt((1 - recall) / recall * float((1 / relevant).sum())) / len(relevant)


def patience_needed(recall: float, relevant: npt.NDArray[np.int64]) -> int:
    """Number of epochs in which the slowest rise adds up to one standard error of Recall@20; at least 1."""
    return max(1, ceil(relative_standard_error(recall, relevant) / SLOWEST_RISE))


def doubt(recall: float, val: csr_array, train: csr_array, patience: int) -> str | None:
    """Warning, in one line, that training may have ended on a plateau; None if `patience` is long enough.

    Args:
        recall: the best validation Recall@20.
        val: [n_users, n_items].
        train: [n_users, n_items]; users without train items are not validated.
        patience: `train.patience`.
    """
    relevant = np.diff(val.indptr)[evaluated_users(val, train)].astype(np.int64)
    needed = patience_needed(recall, relevant)
    if patience >= needed:
        return None
    share = relative_standard_error(recall, relevant)
    return (
        f"training may have ended on a plateau: validation has {relevant.sum()} interactions, so that one standard "
        f"error of Recall@20 is {share:.1%} of its value, too much for train.patience {patience}; set it to {needed} "
        "or more and compare (docs/recommenders.md, Early stopping)"
    )
