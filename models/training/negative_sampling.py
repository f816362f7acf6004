"""Negative sampling: items that a user has not, uniformly from those seen in train."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mmprep.pipeline.errors import DataError

Index = npt.NDArray[np.int64]


class NegativeSampler:
    """Draws one negative a positive, as MMRec does (docs/papers/conventions.md#negative-sampling), but all at once.

    Items that only val or test have are never drawn; a user's own val and test items may be.
    """

    def __init__(self, train: csr_array) -> None:
        """Prepare for the interactions of `train`, [n_users, n_items].

        Raises:
            DataError: a user has every item, so there is no negative for them.
        """
        self._n_items = train.shape[1]
        self._keys = interaction_keys(train)
        self._candidates = np.unique(train.indices).astype(np.int64)
        full = np.flatnonzero(np.diff(train.indptr) >= len(self._candidates))
        if len(full):
            raise DataError(f"user {full[0]} has all {len(self._candidates)} items in train; there is no negative item")

    def sample(self, users: Index, rng: np.random.Generator) -> Index:
        """One item for each user [n] that the user has not in train, [n]."""
        drawn = rng.choice(self._candidates, size=len(users))
        wrong = np.flatnonzero(is_member(users * self._n_items + drawn, self._keys))
        while len(wrong):
            drawn[wrong] = rng.choice(self._candidates, size=len(wrong))
            wrong = wrong[is_member(users[wrong] * self._n_items + drawn[wrong], self._keys)]
        return drawn


def interaction_keys(matrix: csr_array) -> Index:
    """User * n_items + item of each interaction, sorted."""
    users = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return np.sort(users * matrix.shape[1] + matrix.indices)


def is_member(values: Index, among: Index) -> npt.NDArray[np.bool_]:
    """Which values occur in a sorted array."""
    if len(among) == 0:
        return np.zeros(values.shape, dtype=bool)
    place = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return np.asarray(among[place] == values)
