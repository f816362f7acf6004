"""Features computed elsewhere: MMRec's arrays, Amazon's image features, Ducho's folders.

Nothing is unpickled. Large files are read in blocks of rows.
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features import external_amazon as amazon_vectors
from mmprep.pipeline.features.external_npy import is_array, map_array, read_vector, stack
from mmprep.pipeline.photos.names import item_of_photo

Vectors = npt.NDArray[np.float32]
Kind = Literal["mmrec", "amazon", "ducho"]
Fetch = Callable[[list[int]], npt.NDArray[Any]]
Block = tuple[list[str | None], Fetch]
"""The ids of a block of rows, and a function that returns the vectors at given positions in the block."""

BATCH_ROWS = 512  # 8 MB at 4,096 dimensions
MAPPING = "i_id_mapping.csv"


class LeftOut(StrEnum):
    """Why a vector was left out."""

    NOT_WANTED = "of an item that was not asked for"
    NO_ID = "row without an id"
    AGAIN = "item has a vector already"
    NOT_FINITE = "NaN or infinite numbers"
    ZEROS = "all zeros"


@dataclass(frozen=True)
class ForeignFeatures:
    """A file or folder of vectors, one per item.

    Attributes:
        path: the file or folder.
        kind: its format.
        dimension: length of a vector.
        rows: number of rows of an array; 0 for other formats.
        left_out: number of vectors that the last pass over `batches` left out, by reason; complete at its end.
        ids: the ids of all vectors that the last pass read, a series for each block; complete at its end.
    """

    path: Path
    kind: Kind
    dimension: int
    _blocks: Callable[[int], Iterator[Block]] = field(repr=False)
    rows: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    ids: list[pl.Series] = field(default_factory=list, repr=False)

    def batches(self, wanted: set[str], rows: int = BATCH_ROWS) -> Iterator[tuple[list[str], Vectors]]:
        """Iterate over the vectors of given items, in the order of the file.

        Of several vectors of an item the first counts. Rows of zeros or with non-finite numbers are placeholders for
        missing features and are left out.

        Args:
            wanted: the ids of the items.
            rows: number of rows read at a time, which bounds the memory.

        Yields:
            The ids of n items, and their vectors [n, dimension].

        Raises:
            DataError: the file is damaged, or a vector has another length.
        """
        self.left_out.clear()
        self.ids.clear()
        seen: set[str] = set()
        for ids, fetch in self._blocks(rows):
            self.ids.append(pl.Series("id", ids, dtype=pl.String).drop_nulls())
            chosen = self._choose(ids, wanted, seen)
            if not chosen:
                continue
            vectors = to_float32(fetch([place for place, _ in chosen]))
            usable = self._usable(vectors)
            if usable.any():
                kept = [item_id for (_, item_id), good in zip(chosen, usable.tolist(), strict=True) if good]
                yield kept, vectors[usable]

    def _choose(self, ids: list[str | None], wanted: set[str], seen: set[str]) -> list[tuple[int, str]]:
        """Positions and ids of the wanted items that have not been seen before."""
        chosen: list[tuple[int, str]] = []
        for place, item_id in enumerate(ids):
            if item_id is None:
                self.left_out[LeftOut.NO_ID] += 1
            elif item_id not in wanted:
                self.left_out[LeftOut.NOT_WANTED] += 1
            elif item_id in seen:
                self.left_out[LeftOut.AGAIN] += 1
            else:
                seen.add(item_id)
                chosen.append((place, item_id))
        return chosen

    def _usable(self, vectors: Vectors) -> npt.NDArray[np.bool_]:
        """Mask of the vectors that are finite and not all zeros, [n]."""
        finite, nonzero = np.asarray(np.isfinite(vectors).all(axis=1)), np.asarray(vectors.any(axis=1))
        for reason, good in ((LeftOut.NOT_FINITE, finite), (LeftOut.ZEROS, nonzero)):
            if count := len(good) - int(good.sum()):
                self.left_out[reason] += count
        return finite & nonzero


def open_foreign(path: Path, *, by_number: bool = False) -> ForeignFeatures:
    """Open features computed elsewhere; the format is detected from the content.

    - MMRec's `image_feat.npy` or `text_feat.npy`: row i is the item with number i in the adjacent `i_id_mapping.csv`.
    - Amazon's `image_features_CATEGORY.b`, also `.b.gz`: records of an ASIN and 4,096 numbers.
    - Ducho's output: a folder of one `.npy` per item, named by the item's id, percent-encoded as photos are.

    Args:
        path: the file or folder.
        by_number: row i of an array is the item with the id `i`; there must be no table of ids.

    Raises:
        MissingInputError: the file does not exist, or has no table of ids beside it.
        DataError: the file is damaged or of an unknown format, or `by_number` does not fit it.
    """
    if by_number and path.exists() and not (path.is_file() and is_array(path)):
        raise DataError(
            f"{path}: found no array, expected one for rows: number; remove the key, as each vector has an id"
        )
    if path.is_dir():
        return open_folder(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file or folder of features")
    if is_array(path):
        return open_mmrec(path, by_number=by_number)
    amazon_vectors.check_records(path)

    def blocks(rows: int) -> Iterator[Block]:
        for ids, vectors in amazon_vectors.read_records(path, rows):
            yield ids, rows_of(vectors)

    return ForeignFeatures(path, "amazon", amazon_vectors.DIMENSION, blocks)


def open_mmrec(path: Path, *, by_number: bool) -> ForeignFeatures:
    """Open an array [n, dimension] with `i_id_mapping.csv` beside it; see `open_foreign`."""
    shape = map_array(path).shape
    if len(shape) != 2 or 0 in shape:
        raise DataError(f"{path}: found an array of shape {shape}, expected a row an item")
    table = path.with_name(MAPPING)
    if by_number and table.exists():
        raise DataError(f"{table}: found ids of rows, expected none for rows: number; remove the key or the table")
    ids = {row: str(row) for row in range(shape[0])} if by_number else read_mapping(table, shape[0])

    def blocks(rows: int) -> Iterator[Block]:
        for start in range(0, shape[0], rows):
            here = range(start, min(start + rows, shape[0]))
            # Mapped again for each block, as the pages of a mapping stay in memory until it is closed.
            yield [ids.get(row) for row in here], rows_of(map_array(path)[start : here.stop])

    return ForeignFeatures(path, "mmrec", shape[1], blocks, shape[0])


def read_mapping(path: Path, n_rows: int) -> Mapping[int, str]:
    """Read the id of each row from MMRec's table of `asin` and `itemID`, which is tab-separated despite its suffix.

    Raises:
        MissingInputError: the table does not exist.
        DataError: it has other columns, a row number out of range, or two items for one row.
    """
    if not path.is_file():
        raise MissingInputError(
            f"{path}: not found; it says which item a row is, put MMRec's own there, or write "
            "`rows: number` in the encoder's section if the items' ids are the numbers of rows"
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            pairs = [(int(row["itemID"]), row["asin"]) for row in csv.DictReader(file, delimiter="\t")]
    except (csv.Error, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: expected a tab-separated table with the columns asin and itemID ({error})") from error
    ids: dict[int, str] = {}
    for number, item_id in pairs:
        if not 0 <= number < n_rows:
            raise DataError(f"{path}: found row {number}, but the array has {n_rows} rows, so it is of other items")
        if item_id and ids.setdefault(number, item_id) != item_id:
            raise DataError(f"{path}: found two items of row {number}, {ids[number]} and {item_id}")
    return ids


def open_folder(path: Path) -> ForeignFeatures:
    """Open a folder of one `.npy` per item; raises the errors of `open_foreign`."""
    if (path / MAPPING).is_file():
        raise DataError(f"{path}: found a folder of MMRec's, expected one of its arrays, such as image_feat.npy")
    files = sorted(file for file in path.iterdir() if file.suffix == ".npy" and file.is_file())
    if not files:
        raise DataError(f"{path}: found no .npy in the folder, expected one an item, as Ducho writes them")
    dimension = len(read_vector(files[0]))

    def blocks(rows: int) -> Iterator[Block]:
        for start in range(0, len(files), rows):
            here = files[start : start + rows]
            yield [item_of_photo(file) for file in here], vectors_in(here, dimension)

    return ForeignFeatures(path, "ducho", dimension, blocks)


def vectors_in(files: list[Path], dimension: int) -> Fetch:
    """A function that reads the files at given positions."""
    return lambda places: stack((files[place] for place in places), dimension)


def rows_of(array: npt.NDArray[Any]) -> Fetch:
    """A function that copies the rows of an array at given positions."""
    return lambda places: array[places]


def to_float32(vectors: npt.NDArray[Any]) -> Vectors:
    """The vectors as native f32; values out of range become infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(vectors, dtype=np.float32)
