"""Cosine similarities of items: fast in blocks, exact a pair at a time."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from os import cpu_count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.vectors import Items

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

PIECE_NUMBERS = 2**17  # of doubles worked on at once, so that they stay in a core's cache
UNIT_ROUNDING = 2.0**-24  # the relative error of rounding to f32


@dataclass(frozen=True)
class Cosines:
    """The vectors of n items and their cosine similarities; a vector of zeros is similar to nothing.

    Attributes:
        vectors: [n, dimension], finite.
        inverse: one over each vector's length, [n]; 0 for a vector of zeros.
    """

    vectors: Floats
    inverse: Doubles

    @classmethod
    def of(cls, vectors: Floats, items: Items, place: Path) -> "Cosines":
        """Measure the lengths of vectors.

        Args:
            vectors: [n, dimension].
            items: whose they are, [n], for the message.
            place: where they lie, for the message.

        Raises:
            DataError: a number is NaN or infinite.
        """
        # In double precision squares neither overflow nor vanish.
        lengths = np.concatenate([np.sqrt(np.square(piece).sum(axis=1)) for _, piece in in_doubles(vectors)] or [[]])
        bad = np.flatnonzero(~np.isfinite(lengths))
        if len(bad):
            raise DataError(
                f"{place}: found NaN or infinite numbers in the vectors of {len(bad)} items, item {items[bad[0]]} "
                f"first, expected finite ones; run `mmprep extract --encoder {place.name}` again"
            )
        return cls(vectors, np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0))

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, items: Index) -> "Cosines":
        """Those of some items."""
        return Cosines(self.vectors[items], self.inverse[items])

    def duplicates(self) -> Index | None:
        """A number for each item, which items with the same vector share, [n]; None if no two have the same."""
        first, classes = equal_rows(self.vectors)
        return None if len(first) == len(self) else classes

    @cached_property
    def unit(self) -> Floats:
        """The vectors at length 1, [n, dimension]."""
        unit = np.empty_like(self.vectors)
        for start, piece in in_doubles(self.vectors):
            unit[start : start + len(piece)] = piece * self.inverse[start : start + len(piece), None]
        return unit

    @property
    def error(self) -> float:
        """How far a product of two rows of `unit`, in whatever order it is summed, can be from `exact` at most.

        A sum of d products in f32 is off by at most d roundings of the sum of their sizes, which Cauchy and Schwarz
        bound by 1; eight more are those of `unit` itself and of the result.
        """
        return float((self.vectors.shape[1] + 8) * UNIT_ROUNDING)

    def exact(self, left: Index, right: Index) -> Floats:
        """The cosine of each pair of items, [pairs].

        Summed in double precision, each pair by itself, and rounded once, so that it does not depend on what else is
        computed: equal directions give equal numbers, and who is left or right does not matter.
        """
        found = np.empty(len(left), dtype=np.float32)
        step = max(1, PIECE_NUMBERS // max(1, self.vectors.shape[1]))

        def compute(span: slice) -> None:
            products = self.vectors[left[span]].astype(np.float64)
            products *= self.vectors[right[span]]
            found[span] = products.sum(axis=1) * (self.inverse[left[span]] * self.inverse[right[span]])

        with ThreadPoolExecutor(cpu_count()) as threads:
            list(threads.map(compute, (slice(start, start + step) for start in range(0, len(left), step))))
        return found

    @cached_property
    def mean(self) -> float:
        """The mean similarity of all ordered pairs of items that have a vector, each item's with itself among them.

        It is the squared length of the sum of their n unit vectors over n^2, so no matrix is needed
        (docs/papers/da_mrs.md#mean-similarity). Their numbers are rounded to a grid on which doubles hold any sum of n,
        so that neither threads nor the order of the items change a bit of it.
        """
        there = int(np.count_nonzero(self.inverse))
        grid = 2.0 ** (52 - there.bit_length())  # steps in 1
        total = np.zeros(self.vectors.shape[1])
        for start, piece in in_doubles(self.vectors):
            piece *= grid * self.inverse[start : start + len(piece), None]
            total += np.rint(piece, out=piece).sum(axis=0)
        return float(np.square(total / grid).sum() / max(1, there) ** 2)


def in_doubles(vectors: Floats) -> Iterator[tuple[int, Doubles]]:
    """Pieces of the rows in double precision, each with the number of its first row."""
    step = max(1, 8 * PIECE_NUMBERS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        yield start, vectors[start : start + step].astype(np.float64)


def equal_rows(rows: Floats) -> tuple[Index, Index]:
    """Which rows differ from all before them, ascending, and for each row the position of its equal among those."""
    digests = np.array([blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(rows)], dtype="V16")
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    same = first[inverse]
    new = same == np.arange(len(rows))
    return np.flatnonzero(new), (np.cumsum(new) - 1)[same]
