"""Metrics by group: users by number of train items, items by popularity in train."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mmprep.models.training.evaluator import Hits
from mmprep.models.training.metrics import CUTOFFS, user_metrics

POPULARITY = ("most popular", "popular", "middle", "rare", "rarest")
UNSEEN = "not in train"

Groups = dict[str, dict[str, Any]]


def metrics_by_group(
    found: Hits, truth: csr_array, train: csr_array, bounds: Sequence[int], cutoffs: tuple[int, ...] = CUTOFFS
) -> dict[str, Groups]:
    """The metrics of groups of users, as `users_by_train_items`, and of items, as `items_by_popularity`.

    Each group has its size; an empty group, or one without relevant items, has no metrics.

    Args:
        found: hits of each user.
        truth: [n_users, n_items] relevant items.
        train: [n_users, n_items].
        bounds: numbers of train items at which a new group of users begins; ascending, and above 1.
        cutoffs: list lengths.
    """
    return {
        "users_by_train_items": by_train_items(found, train, bounds, cutoffs),
        "items_by_popularity": by_popularity(found, truth, train, cutoffs),
    }


def by_train_items(found: Hits, train: csr_array, bounds: Sequence[int], cutoffs: tuple[int, ...]) -> Groups:
    """Each metric averaged over a group's users; groups are named such as `1-5` or `50+`, fewest train items first."""
    group = np.searchsorted(bounds, np.diff(train.indptr)[found.ranking.users], side="right")
    metrics = user_metrics(found.hits, found.relevant, cutoffs)
    groups: Groups = {}
    for number, name in enumerate(names_of(bounds)):
        members = group == number
        groups[name] = {"users": int(members.sum())}
        if members.any():
            groups[name] |= {key: float(values[members].mean()) for key, values in metrics.items()}
    return groups


def names_of(bounds: Sequence[int]) -> list[str]:
    """Names of the groups that begin at 1 and at each of the bounds."""
    starts = [1, *bounds]
    ends = [bound - 1 for bound in bounds]
    inner = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=False)]
    return [*inner, f"{starts[-1]}+"]


def by_popularity(found: Hits, truth: csr_array, train: csr_array, cutoffs: tuple[int, ...]) -> Groups:
    """Recall of interactions by their item's popularity group: the share that is in the user's list.

    Computed over interactions, not averaged over users, since most users have no relevant items in most groups.
    """
    group, counts = popularity(train), item_counts(train)
    relevant = np.bincount(group[truth[found.ranking.users].indices], minlength=len(POPULARITY) + 1)
    hits = {
        k: np.bincount(group[found.ranking.items[:, :k][found.hits[:, :k]]], minlength=len(relevant)) for k in cutoffs
    }
    groups: Groups = {}
    for number, name in enumerate((*POPULARITY, UNSEEN)):
        own = counts[group == number]
        groups[name] = {"items": len(own), "interactions": int(relevant[number])}
        if len(own):
            groups[name] |= {"fewest_users": int(own.min()), "most_users": int(own.max())}
        if relevant[number]:
            groups[name] |= {f"recall@{k}": float(hits[k][number] / relevant[number]) for k in cutoffs}
    return groups


def popularity(train: csr_array) -> npt.NDArray[np.int64]:
    """Group of each item, as an index into POPULARITY, or len(POPULARITY) if it is not in train; [n_items].

    Items in descending order of count are cut into groups with about equal numbers of train interactions. Items with
    equal counts stay together, in the group that contains the midpoint of their interactions.
    """
    counts = item_counts(train)
    values, items = np.unique(counts[counts > 0], return_counts=True)
    held = (values * items)[::-1]
    # In integers (twice the midpoint), so that rounding does not decide the group.
    group = len(POPULARITY) * (2 * np.cumsum(held) - held) // (2 * max(1, held.sum()))
    groups = np.full(len(counts), len(POPULARITY))
    groups[counts > 0] = group[::-1][np.searchsorted(values, counts[counts > 0])]
    return groups


def item_counts(train: csr_array) -> npt.NDArray[np.int64]:
    """Number of users of each item in train, [n_items]."""
    return np.bincount(train.indices, minlength=train.shape[1])
