"""Dictionary-encoded interactions, so that ids are compared once and stored once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from mmprep.pipeline.tables.schemas import INTERACTIONS, SPLITS

Codes = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Numbered = tuple[Codes, pl.Series]

PART = 2**20  # rows encoded at once
JOIN = 2**22  # pending ids of parts above which they are merged
BESIDE_IDS = (
    pl.col("rating") + 0.0,  # -0.0 becomes 0.0, as it must not show which of two equal reviews is kept
    pl.col("timestamp"),
    pl.col("split").cast(pl.Enum(SPLITS)),  # one byte instead of sixteen
)


@dataclass(frozen=True)
class FactorizedInteractions:
    """Interactions with provisional user and item codes, unordered.

    Attributes:
        rows: user u32, item u32, and the columns of INTERACTIONS other than ids.
        users: the id of each user code.
        items: the id of each item code.
    """

    rows: pl.DataFrame
    users: pl.Series
    items: pl.Series

    def keep(self, mask: Mask) -> "FactorizedInteractions":
        """The rows where the mask is true."""
        return self if mask.all() else FactorizedInteractions(self.rows.filter(pl.Series(mask)), self.users, self.items)

    def codes(self, kind: Literal["user", "item"]) -> Codes:
        """Each row's user or item code."""
        return self.rows[kind].to_numpy()


class Factorizer:
    """Merges the codes of ids that arrive in parts."""

    def __init__(self) -> None:
        self._parts: list[Numbered] = []

    def add(self, part: Numbered) -> None:
        """Add the codes of one more part."""
        self._parts.append(part)
        first, *pending = (len(ids) for _, ids in self._parts)
        if sum(pending) > max(JOIN, first // 4):  # a larger limit costs memory, a smaller one time
            self.all()

    def all(self) -> Numbered:
        """The codes of all rows so far, and the id of each code."""
        if len(self._parts) > 1:
            codes, ids = factorize(pl.concat([ids for _, ids in self._parts], rechunk=True))
            of_part = np.split(codes, np.cumsum([len(ids) for _, ids in self._parts])[:-1])
            rows = [new[old] for new, (old, _) in zip(of_part, self._parts, strict=True)]
            self._parts = [(np.concatenate(rows), ids)]
        return self._parts[0]


def read_factorized(path: Path) -> FactorizedInteractions:
    """Read interactions with a code for each id.

    Raises:
        MissingInputError: there is no such file.
        DataError: the file is damaged or has other columns.
    """
    others: list[pl.DataFrame] = []
    users, items = Factorizer(), Factorizer()
    with ThreadPoolExecutor(2) as pool:
        running: Iterator[Numbered] = iter(())
        for part in parts(path):
            for factorizer, part_codes in zip((users, items), running, strict=False):  # computed during the read
                factorizer.add(part_codes)
            running = pool.map(factorize, (part["user_id"], part["item_id"]))
            others.append(part.drop("user_id", "item_id"))
        for factorizer, part_codes in zip((users, items), running, strict=True):
            factorizer.add(part_codes)
    user, user_ids = users.all()
    item, item_ids = items.all()
    codes = pl.DataFrame({"user": user, "item": item})
    return FactorizedInteractions(codes.hstack(pl.concat(others, rechunk=True)), user_ids, item_ids)


def parts(path: Path) -> Iterator[pl.DataFrame]:
    """The interactions of a file in frames of about PART rows; at least one frame."""
    columns = (pl.col("user_id", "item_id"), *BESIDE_IDS)
    pending = [pl.DataFrame(INTERACTIONS.schema.empty_table()).select(columns)]
    for piece in INTERACTIONS.iter_batches(path):
        pending.append(piece.select(columns))
        if sum(map(len, pending)) >= PART:
            yield pl.concat(pending, rechunk=True)
            pending = pending[:1]
    yield pl.concat(pending, rechunk=True)


def factorize(ids: pl.Series) -> Numbered:
    """Assign codes from 0 to ids, unordered.

    Sorting integers is many times faster than looking up ids one by one, so ids are sorted by hash, and each is then
    compared with the one before it. Different ids with the same hash are sorted separately.

    Returns:
        Each row's code, and the id of each code.
    """
    keys, rows = by_hash(ids)
    first = changes(ids, rows)
    clashes = np.flatnonzero(first[1:] & (keys[1:] == keys[:-1]))
    if len(clashes):
        places = places_of(np.unique(keys[clashes]), keys)
        clashing = pl.DataFrame({"key": keys[places], "id": ids.gather(rows[places])})
        rows[places] = rows[places][clashing.select(pl.arg_sort_by("key", "id")).to_series().to_numpy()]
        first[places] = changes(ids, rows[places])
    codes = np.empty(len(ids), dtype=np.uint32)
    codes[rows] = np.cumsum(first, dtype=np.uint32) - np.uint32(1)
    # Via Arrow, as a gathered series would keep the texts of all rows in memory.
    return codes, pl.Series(ids.name, ids.gather(rows[first]).to_arrow())


def by_hash(ids: pl.Series) -> tuple[Hashes, Codes]:
    """The sorted upper bits of the ids' hashes, and the row of each."""
    bits = np.uint64(len(ids).bit_length())
    # The row in the lower bits saves an argsort, which is much slower than a sort.
    keys = hashes(ids) >> bits << bits
    keys |= np.arange(len(ids), dtype=np.uint64)
    keys.sort()
    rows = (keys & ((np.uint64(1) << bits) - np.uint64(1))).astype(np.uint32)
    keys >>= bits
    return keys, rows


def hashes(ids: pl.Series) -> Hashes:
    """A hash of each id."""
    return ids.hash().to_numpy()


def changes(ids: pl.Series, rows: Codes) -> Mask:
    """Mask of rows that differ from the row before in their id; True for the first row."""
    mask = np.ones(len(rows), dtype=bool)
    for start in range(0, len(rows), PART):  # in parts, as gathered ids take as much memory as the ids
        gathered = ids.gather(rows[start : start + PART + 1])
        mask[start + 1 : start + PART + 1] = (gathered[1:] != gathered[:-1]).to_numpy()
    return mask


def places_of(wanted: Hashes, keys: Hashes) -> Index:
    """Positions of the values `wanted` in `keys`; both are sorted."""
    starts, ends = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
    return np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
