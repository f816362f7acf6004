"""Cosine similarities of items: fast in blocks, exact for single pairs."""

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

PIECE_NUMBERS = 2**17  # doubles processed at once, so that they fit a core's cache
UNIT_ROUNDING = 2.0**-24  # the relative error of rounding to f32


@dataclass(frozen=True)
class Cosines:
    """The vectors of n items and their cosine similarities; a vector of zeros is similar to nothing.

    Attributes:
        vectors: [n, dimension], finite.
        inverse: inverse length of each vector, [n]; 0 for a vector of zeros.
    """

    vectors: Floats
    inverse: Doubles

    @classmethod
    def of(cls, vectors: Floats, items: Items, place: Path) -> "Cosines":
        """Compute the lengths of vectors.

        Args:
            vectors: [n, dimension].
            items: item of each vector, [n], for the message.
            place: their feature folder, for the message.

        Raises:
            DataError: a number is NaN or infinite.
        """
        # In double precision squares neither overflow nor underflow.
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
        """The cosines of a subset of items, given by position."""
        return Cosines(self.vectors[items], self.inverse[items])

    def duplicates(self) -> Index | None:
        """Class of each item, the same for items with equal vectors, [n]; None if all vectors differ."""
        first, classes = equal_rows(self.vectors)
        return None if len(first) == len(self) else classes

    @cached_property
    def unit(self) -> Floats:
        """The vectors scaled to length 1, [n, dimension]."""
        unit = np.empty_like(self.vectors)
        for start, piece in in_doubles(self.vectors):
            unit[start : start + len(piece)] = piece * self.inverse[start : start + len(piece), None]
        return unit

    @property
    def error(self) -> float:
        """Upper bound of the difference between a product of two rows of `unit`, in any summation order, and `exact`.

        A sum of d products in f32 is off by at most d roundings of the sum of their absolute values, which is at most 1
        by Cauchy-Schwarz; eight more account for `unit` itself and the result.
        """
        return float((self.vectors.shape[1] + 8) * UNIT_ROUNDING)

    def exact(self, left: Index, right: Index) -> Floats:
        """The cosine of each pair of items, [pairs].

        Each pair is summed separately in double precision and rounded once, so that the result does not depend on the
        other pairs: equal directions give equal numbers, and swapping left and right changes nothing.
        """
        similarity = np.empty(len(left), dtype=np.float32)
        step = max(1, PIECE_NUMBERS // max(1, self.vectors.shape[1]))

        def compute(span: slice) -> None:
            products = self.vectors[left[span]].astype(np.float64)
            products *= self.vectors[right[span]]
            similarity[span] = products.sum(axis=1) * (self.inverse[left[span]] * self.inverse[right[span]])

        with ThreadPoolExecutor(cpu_count()) as threads:
            list(threads.map(compute, (slice(start, start + step) for start in range(0, len(left), step))))
        return similarity

    @cached_property
    def mean(self) -> float:
        """Mean similarity of all ordered pairs of items that have a vector, including each item with itself.

        It is the squared length of the sum of their n unit vectors over n^2, so no matrix is needed
        (docs/papers/da_mrs.md#mean-similarity). Values are rounded to a grid on which doubles represent any sum of n
        exactly, so that the result is bitwise independent of threads and of the order of the items.
        """
        present = int(np.count_nonzero(self.inverse))
        grid = 2.0 ** (52 - present.bit_length())  # steps per unit
        total = np.zeros(self.vectors.shape[1])
        for start, piece in in_doubles(self.vectors):
            piece *= grid * self.inverse[start : start + len(piece), None]
            total += np.rint(piece, out=piece).sum(axis=0)
        return float(np.square(total / grid).sum() / max(1, present) ** 2)


def in_doubles(vectors: Floats) -> Iterator[tuple[int, Doubles]]:
    """Iterate over blocks of rows in double precision, each with the index of its first row."""
    step = max(1, 8 * PIECE_NUMBERS // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        yield start, vectors[start : start + step].astype(np.float64)


def equal_rows(rows: Floats) -> tuple[Index, Index]:
    """Indices of the distinct rows, ascending, and for each row the position of its equal among those."""
    digests = np.array([blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(rows)], dtype="V16")
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    same = first[inverse]
    new = same == np.arange(len(rows))
    return np.flatnonzero(new), (np.cumsum(new) - 1)[same]
