"""Uniform negative sampling among the items of train."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from mmprep.pipeline.errors import DataError

Index = npt.NDArray[np.int64]


class NegativeSampler:
    """Draws one negative per positive, as MMRec does (docs/papers/conventions.md#negative-sampling), but vectorised.

    Items that occur only in val or test are never drawn; a user's own val and test items may be.

    Attributes:
        full_users: users with all items of train, who have no negative.
        n_candidates: number of items of train.
    """

    def __init__(self, train: csr_array) -> None:
        """Index the interactions of `train`, [n_users, n_items].

        Raises:
            DataError: every user has every item, so that no negative exists.
        """
        self._n_items = train.shape[1]
        self._keys = interaction_keys(train)
        self._candidates = np.unique(train.indices).astype(np.int64)
        self.n_candidates = len(self._candidates)
        degrees = np.diff(train.indptr)
        self.full_users = np.flatnonzero((degrees >= self.n_candidates) & (degrees > 0))
        if len(self.full_users) == np.count_nonzero(degrees):
            raise DataError(
                f"each of {len(self.full_users)} users has all {self.n_candidates} items in train; there is no "
                "negative item to train with; use more data or another split"
            )

    def has_negative(self, users: Index) -> npt.NDArray[np.bool_]:
        """Whether each user [n] has a negative, [n]."""
        return ~is_member(users, self.full_users)

    def sample(self, users: Index, rng: np.random.Generator) -> Index:
        """Draw for each user [n] an item that is not in the user's train interactions, [n].

        Raises:
            ValueError: a user has no negative.
        """
        if not self.has_negative(users).all():
            raise ValueError("a user has no negative")
        drawn = rng.choice(self._candidates, size=len(users))
        rejected = np.flatnonzero(is_member(users * self._n_items + drawn, self._keys))
        while len(rejected):
            drawn[rejected] = rng.choice(self._candidates, size=len(rejected))
            rejected = rejected[is_member(users[rejected] * self._n_items + drawn[rejected], self._keys)]
        return drawn


def interaction_keys(matrix: csr_array) -> Index:
    """Sorted keys user * n_items + item of the interactions."""
    users = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
    return np.sort(users * matrix.shape[1] + matrix.indices)


def is_member(values: Index, among: Index) -> npt.NDArray[np.bool_]:
    """Whether each value occurs in a sorted array."""
    if len(among) == 0:
        return np.zeros(values.shape, dtype=bool)
    place = np.minimum(np.searchsorted(among, values), len(among) - 1)
    return np.asarray(among[place] == values)
