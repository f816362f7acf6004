"""Metrics of groups: users by how much they have in train, items by how popular they are there."""

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

    A group tells how many it has; where there is nobody, or nothing to find, it has no metrics.

    Args:
        found: what was found for whom.
        truth: [n_users, n_items] what was to be found.
        train: [n_users, n_items].
        bounds: of train items, at which a new group of users begins; ascending, and above 1.
        cutoffs: list lengths.
    """
    return {
        "users_by_train_items": by_train_items(found, train, bounds, cutoffs),
        "items_by_popularity": by_popularity(found, truth, train, cutoffs),
    }


def by_train_items(found: Hits, train: csr_array, bounds: Sequence[int], cutoffs: tuple[int, ...]) -> Groups:
    """Each metric averaged over the users of a group, by name such as `1-5` or `50+`, fewest train items first."""
    group = np.searchsorted(bounds, np.diff(train.indptr)[found.ranking.users], side="right")
    metrics = user_metrics(found.hits, found.relevant, cutoffs)
    groups: Groups = {}
    for number, name in enumerate(names_of(bounds)):
        among = group == number
        groups[name] = {"users": int(among.sum())}
        if among.any():
            groups[name] |= {key: float(values[among].mean()) for key, values in metrics.items()}
    return groups


def names_of(bounds: Sequence[int]) -> list[str]:
    """The groups that begin at 1 and at each of the bounds."""
    starts = [1, *bounds]
    ends = [bound - 1 for bound in bounds]
    inner = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=False)]
    return [*inner, f"{starts[-1]}+"]


def by_popularity(found: Hits, truth: csr_array, train: csr_array, cutoffs: tuple[int, ...]) -> Groups:
    """Recall of the interactions whose item is of a group: the share of them that is in their user's list.

    It is over interactions, not averaged over users, most of whom have nothing to find in most groups.
    """
    group, counts = popularity(train), item_counts(train)
    wanted = np.bincount(group[truth[found.ranking.users].indices], minlength=len(POPULARITY) + 1)
    hits = {
        k: np.bincount(group[found.ranking.items[:, :k][found.hits[:, :k]]], minlength=len(wanted)) for k in cutoffs
    }
    groups: Groups = {}
    for number, name in enumerate((*POPULARITY, UNSEEN)):
        own = counts[group == number]
        groups[name] = {"items": len(own), "interactions": int(wanted[number])}
        if len(own):
            groups[name] |= {"fewest_users": int(own.min()), "most_users": int(own.max())}
        if wanted[number]:
            groups[name] |= {f"recall@{k}": float(hits[k][number] / wanted[number]) for k in cutoffs}
    return groups


def popularity(train: csr_array) -> npt.NDArray[np.int64]:
    """The group of each item, as a number into POPULARITY, or the next one where it is not in train; [n_items].

    Items by falling count are cut into groups that each hold about as many of the train interactions. Items with equal
    counts stay together, in the group in which the middle of their interactions lies.
    """
    counts = item_counts(train)
    values, items = np.unique(counts[counts > 0], return_counts=True)
    held = (values * items)[::-1]
    # Whole numbers: twice the middle, so that no rounding puts a count here or there.
    group = len(POPULARITY) * (2 * np.cumsum(held) - held) // (2 * max(1, held.sum()))
    groups = np.full(len(counts), len(POPULARITY))
    groups[counts > 0] = group[::-1][np.searchsorted(values, counts[counts > 0])]
    return groups


def item_counts(train: csr_array) -> npt.NDArray[np.int64]:
    """How many users have each item in train, [n_items]."""
    return np.bincount(train.indices, minlength=train.shape[1])
