"""Interactions under numbers instead of ids, so that ids are compared once and held once."""

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

PART = 2**20  # rows numbered at once
JOIN = 2**22  # ids of parts that wait to be numbered as one
BESIDE_IDS = (
    pl.col("rating") + 0.0,  # -0.0 is 0.0, for which of two equal reviews stays must not show
    pl.col("timestamp"),
    pl.col("split").cast(pl.Enum(SPLITS)),  # a byte instead of sixteen
)


@dataclass(frozen=True)
class FactorizedInteractions:
    """Interactions under provisional numbers, which ids have in no order.

    Attributes:
        rows: user u32, item u32, and what INTERACTIONS has beside the ids.
        users: the id of each user number.
        items: the id of each item number.
    """

    rows: pl.DataFrame
    users: pl.Series
    items: pl.Series

    def keep(self, mask: Mask) -> "FactorizedInteractions":
        """The rows where the mask is true."""
        return self if mask.all() else FactorizedInteractions(self.rows.filter(pl.Series(mask)), self.users, self.items)

    def codes(self, kind: Literal["user", "item"]) -> Codes:
        """Each row's user or item number."""
        return self.rows[kind].to_numpy()


class Factorizer:
    """The numbers of ids that come in parts."""

    def __init__(self) -> None:
        self._found: list[Numbered] = []

    def add(self, part: Numbered) -> None:
        """Take the numbers of one more part."""
        self._found.append(part)
        first, *waiting = (len(ids) for _, ids in self._found)
        if sum(waiting) > max(JOIN, first // 4):  # more would take memory, fewer time
            self.all()

    def all(self) -> Numbered:
        """The numbers of all rows so far, and the id of each number."""
        if len(self._found) > 1:
            codes, ids = factorize(pl.concat([ids for _, ids in self._found], rechunk=True))
            of_part = np.split(codes, np.cumsum([len(ids) for _, ids in self._found])[:-1])
            rows = [new[old] for new, (old, _) in zip(of_part, self._found, strict=True)]
            self._found = [(np.concatenate(rows), ids)]
        return self._found[0]


def read_factorized(path: Path) -> FactorizedInteractions:
    """Read interactions with a number for each id.

    Raises:
        MissingInputError: there is no such file.
        DataError: the file is damaged or has other columns.
    """
    others: list[pl.DataFrame] = []
    users, items = Factorizer(), Factorizer()
    with ThreadPoolExecutor(2) as pool:
        running: Iterator[Numbered] = iter(())
        for part in parts(path):
            for numbering, numbered in zip((users, items), running, strict=False):  # while this part was read
                numbering.add(numbered)
            running = pool.map(factorize, (part["user_id"], part["item_id"]))
            others.append(part.drop("user_id", "item_id"))
        for numbering, numbered in zip((users, items), running, strict=True):
            numbering.add(numbered)
    user, user_ids = users.all()
    item, item_ids = items.all()
    numbers = pl.DataFrame({"user": user, "item": item})
    return FactorizedInteractions(numbers.hstack(pl.concat(others, rechunk=True)), user_ids, item_ids)


def parts(path: Path) -> Iterator[pl.DataFrame]:
    """The interactions of a file, about PART at a time; at least one frame."""
    columns = (pl.col("user_id", "item_id"), *BESIDE_IDS)
    waiting = [pl.DataFrame(INTERACTIONS.schema.empty_table()).select(columns)]
    for piece in INTERACTIONS.iter_batches(path):
        waiting.append(piece.select(columns))
        if sum(map(len, waiting)) >= PART:
            yield pl.concat(waiting, rechunk=True)
            waiting = waiting[:1]
    yield pl.concat(waiting, rechunk=True)


def factorize(ids: pl.Series) -> Numbered:
    """Number ids from 0 in no order.

    Plain numbers are sorted many times faster than ids are looked up one by one, so ids are sorted by hash, and each
    is then compared with the one before it. Different ids of one hash are sorted by themselves.

    Returns:
        Each row's number, and the id of each number.
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
    # By way of Arrow, as a gathered series would hold on to the texts of all rows.
    return codes, pl.Series(ids.name, ids.gather(rows[first]).to_arrow())


def by_hash(ids: pl.Series) -> tuple[Hashes, Codes]:
    """The upper bits of each id's hash in order, and the row of each."""
    bits = np.uint64(len(ids).bit_length())
    # The row in the lower bits spares an argsort, which is much slower than a sort.
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
    """Where the id of a row differs from that of the row before it; so the first does."""
    mask = np.ones(len(rows), dtype=bool)
    for start in range(0, len(rows), PART):  # in parts, as gathered ids take as much memory as the ids
        found = ids.gather(rows[start : start + PART + 1])
        mask[start + 1 : start + PART + 1] = (found[1:] != found[:-1]).to_numpy()
    return mask


def places_of(wanted: Hashes, keys: Hashes) -> Index:
    """Where sorted keys are one of some; both in order."""
    starts, ends = (np.searchsorted(keys, wanted, side) for side in ("left", "right"))
    return np.concatenate([np.arange(start, end) for start, end in zip(starts, ends, strict=True)])
