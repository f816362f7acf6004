"""In-memory index from keys to shards and rows of the row cache; about 40 to 90 bytes per key."""

from collections.abc import Sequence

import numpy as np

from mmprep.pipeline.cache.shards import KEY_BYTES, Keys, Rows, to_list

ROW_BITS = 32  # the lower half of a location is the row, the upper one the shard's number
FRESH = 4096  # keys held unsorted before they are merged into the sorted ones


class KeyIndex:
    """Locations by key. If several shards hold a key, the one with the smallest name counts.

    A location stays valid until its shard is forgotten; shard numbers are never reused.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._keys: Keys = np.zeros(0, dtype=f"S{KEY_BYTES}")
        self._locations: Rows = np.zeros(0, dtype=np.int64)
        self._waiting: list[tuple[Keys, Rows]] = []
        self._fresh: set[bytes] = set()  # the keys in `_waiting`

    @property
    def shards(self) -> set[str]:
        """The names of the indexed shards."""
        return set(self._numbers)

    def __contains__(self, key: bytes) -> bool:
        return key in self._fresh or bool(self._find_sorted(np.frombuffer(key, dtype=f"S{KEY_BYTES}"))[0] >= 0)

    def name(self, number: int) -> str:
        """Name of the shard with a number, the upper half of a location."""
        return self._names[number]

    def add(self, shards: Sequence[tuple[str, Keys]]) -> None:
        """Index the keys of shards' rows; skips shards that are already indexed."""
        for name, keys in shards:
            if name not in self._numbers:
                first = self._number(name) << ROW_BITS
                self._waiting.append((keys, np.arange(first, first + len(keys), dtype=np.int64)))
        if sum(len(keys) for keys, _ in self._waiting) > max(FRESH, len(self._keys) // 4):
            self._merge()
            return
        for _, keys in shards:
            self._fresh.update(to_list(keys))

    def forget(self, names: set[str]) -> None:
        """Remove shards from the index."""
        gone = [self._numbers.pop(name) for name in names if name in self._numbers]
        if gone:
            self._merge()
            kept = ~np.isin(self._locations >> ROW_BITS, np.array(gone))
            self._keys, self._locations = self._keys[kept], self._locations[kept]

    def find(self, keys: Keys) -> Rows:
        """The location of each key [n], -1 for unknown keys."""
        self._merge()
        return self._find_sorted(keys)

    def _find_sorted(self, keys: Keys) -> Rows:
        if len(self._keys) == 0:
            return np.full(len(keys), -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._locations[at], -1)

    def _number(self, name: str) -> int:
        self._numbers[name] = len(self._names)
        self._names.append(name)
        return self._numbers[name]

    def _merge(self) -> None:
        """Merge the waiting keys into the sorted ones, by key, then by the shard's name."""
        if not self._waiting:
            return
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._waiting)])
        locations = np.concatenate([self._locations, *(at for _, at in self._waiting)])
        ranks = np.empty(len(self._names), dtype=np.int32)
        ranks[sorted(range(len(self._names)), key=self._names.__getitem__)] = np.arange(len(self._names))
        order = np.lexsort((ranks[locations >> ROW_BITS], keys))
        self._keys, self._locations = keys[order], locations[order]
        self._waiting, self._fresh = [], set()
