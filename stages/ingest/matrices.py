"""Published splits as sparse matrices of users and items: the layout of MMSSL and DiffMM.

A folder has one matrix for train, val and test each, as scipy pickles it or as `.npz`. Users and items are numbered by
rows and columns. No pickle is loaded: `matrix_pickle` interprets the few opcodes of a matrix and refuses all others.
"""

import shlex
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import polars as pl

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.external_npy import BAD_ARRAY
from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.pipeline.tables.schemas import TEST, TRAIN, VAL
from mmprep.stages.ingest.base import FileHead, Format
from mmprep.stages.ingest.line_reader import BAD_ZIP
from mmprep.stages.ingest.matrix_pickle import DamagedPickleError, RefusedPickleError, read_matrix_state
from mmprep.stages.ingest.records import LARGEST_RATING

Array = npt.NDArray[Any]

SPLIT_OF = {"train_mat": TRAIN, "val_mat": VAL, "test_mat": TEST, "trnMat": TRAIN, "valMat": VAL, "tstMat": TEST}
SUFFIXES = ("", ".pkl", ".npz")
NAMES = frozenset(f"{stem}{suffix}" for stem in SPLIT_OF for suffix in SUFFIXES)
ZIP_MAGIC = b"PK\x03\x04"
MAX_BYTES = 1 << 30  # of a file, and of what an archive unpacks to; Electronics has 1.7 million interactions, 20 MB
MAX_ENTRIES = 100_000_000
KINDS = ("csr", "coo")
MAX_ARRAYS = 16  # of an archive
CHUNK = 1 << 18  # entries in a frame
CONVERT = (
    "import pickle, sys, scipy.sparse as s; "
    's.save_npz(sys.argv[1] + ".npz", s.coo_matrix(pickle.load(open(sys.argv[1], "rb"))))'
)


@dataclass(frozen=True)
class Matrix:
    """A sparse matrix of interactions.

    Attributes:
        shape: numbers of users and items.
        rows: each entry's user, or the start of each user's entries for CSR.
        columns: each entry's item.
        values: each entry's value.
        compressed: whether the matrix is CSR.
    """

    shape: tuple[int, int]
    rows: Array
    columns: Array
    values: Array
    compressed: bool

    def chunks(self) -> Iterator[tuple[Array, Array, Array]]:
        """Users, items and values of CHUNK entries at a time."""
        for start in range(0, len(self.values), CHUNK):
            part = slice(start, min(start + CHUNK, len(self.values)))
            if self.compressed:
                users = np.searchsorted(self.rows, np.arange(part.start, part.stop), side="right") - 1
            else:
                users = self.rows[part]
            yield users, self.columns[part], self.values[part]


def read_matrix(path: Path) -> Matrix:
    """Read a matrix from a pickle or an `.npz`, without loading the pickle.

    Raises:
        DataError: the file is damaged, too large or holds anything else.
    """
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: found {path.stat().st_size:,} bytes, expected a matrix of at most {MAX_BYTES:,}")
    content = path.read_bytes()
    if content.startswith(ZIP_MAGIC):
        attributes = read_archive(content, path)
    else:
        try:
            attributes = read_matrix_state(content)
        except RefusedPickleError as error:
            command = f"python -c {shlex.quote(CONVERT)} {shlex.quote(str(path))}"
            raise DataError(
                f"{path}: found {error} in the pickle, expected a CSR or COO matrix of scipy and nothing else; nothing "
                f"was loaded. If you trust the file, convert it and remove it: {command}"
            ) from error
        except DamagedPickleError as error:
            raise DataError(f"{path}: the pickle breaks off or is damaged ({error}); fetch it again") from error
    return to_matrix(attributes, path)


def read_archive(content: bytes, path: Path) -> dict[str, Any]:
    """Arrays of an archive of scipy's `save_npz`, by name.

    Raises:
        DataError: it is damaged, too large, or holds other things than arrays of numbers.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS or sum(member.file_size for member in members) > MAX_BYTES:
                raise DataError(f"{path}: found an archive of other or larger content, expected a matrix of save_npz")
            arrays = {
                member.filename.removesuffix(".npy"): plain_array(archive.read(member), path) for member in members
            }
    except BAD_ZIP as error:
        raise DataError(f"{path}: damaged or no archive of scipy's save_npz ({error}); fetch it again") from error
    kind = arrays.get("format", np.array("")).tobytes().replace(b"\0", b"").decode("ascii", errors="replace")
    if kind not in KINDS:
        raise DataError(f"{path}: found a matrix of format {kind!r}, expected {' or '.join(KINDS)}")
    return arrays


def plain_array(content: bytes, path: Path) -> Array:
    """The array in the bytes of an `.npy`, which it shares.

    Raises:
        DataError: the bytes are damaged, or no array of numbers or ASCII.
    """
    stream = BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype.kind not in "biufS" or len(shape) > 1:
            raise ValueError(f"an array of {dtype} and shape {shape}")
        count = int(np.prod(shape, dtype=object))
        array = np.frombuffer(content, dtype, count, stream.tell()) if count else np.empty(0, dtype)
    except BAD_ARRAY as error:
        raise DataError(f"{path}: no array of plain numbers ({error}); fetch it again") from error
    return array.reshape(shape)


def to_matrix(attributes: dict[str, Any], path: Path) -> Matrix:
    """The matrix with given attributes, checked.

    Raises:
        DataError: an attribute is missing, or the attributes do not fit together.
    """
    pair = attributes.get("coords")
    rows, columns = pair if isinstance(pair, tuple) else (attributes.get("row"), attributes.get("col"))
    compressed = rows is None
    if compressed:
        rows, columns = attributes.get("indptr"), attributes.get("indices")
    shape, values = attributes.get("_shape", attributes.get("shape")), attributes.get("data")
    shape = tuple(shape.tolist()) if isinstance(shape, np.ndarray) else shape
    match shape:
        case (int(n_users), int(n_items)) if 0 < n_users < 2**31 and 0 < n_items < 2**31:
            pass
        case _:
            raise DataError(f"{path}: found no shape of users and items, expected a CSR or COO matrix")
    if not is_vector(rows, "iu") or not is_vector(columns, "iu") or not is_vector(values, "biuf"):
        raise DataError(f"{path}: found neither row, col and data nor indptr, indices and data, expected CSR or COO")
    matrix = Matrix((n_users, n_items), rows, columns, values, compressed)
    if fault := fault_of(matrix):
        raise DataError(f"{path}: damaged matrix ({fault}); fetch it again")
    return matrix


def is_vector(value: object, kinds: str) -> TypeGuard[Array]:
    """Whether a value is an array of one dimension of one of numpy's kinds of dtype."""
    return isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in kinds


def fault_of(matrix: Matrix) -> str | None:
    """What is inconsistent in a matrix, or None."""
    n_users, n_items = matrix.shape
    rows, columns, entries = matrix.rows, matrix.columns, len(matrix.values)
    if entries > MAX_ENTRIES:
        return f"{entries:,} entries, more than {MAX_ENTRIES:,}"
    if len(columns) != entries:
        return f"{len(columns):,} columns for {entries:,} entries"
    if entries and not (columns.min() >= 0 and columns.max() < n_items):
        return f"columns beyond the shape's {n_items:,}"
    if not matrix.compressed:
        if len(rows) != entries:
            return f"{len(rows):,} rows for {entries:,} entries"
        return f"rows beyond the shape's {n_users:,}" if entries and not is_within(rows, n_users) else None
    if len(rows) != n_users + 1 or rows[0] != 0 or rows[-1] != entries or (rows[1:] < rows[:-1]).any():
        return f"indptr does not divide {entries:,} entries among {n_users:,} rows"
    return None


def is_within(numbers: Array, limit: int) -> bool:
    """Whether all numbers are from 0 to below a limit."""
    return bool(numbers.min() >= 0 and numbers.max() < limit)


def read_frames(path: Path, source: str) -> Iterator[pl.DataFrame | Reject]:
    """Yield the interactions of a matrix in frames, and rejects of entries that are zero or not finite.

    Ratings are the values, or null if all values are 1, as in matrices of implicit feedback.

    Raises:
        DataError: see `read_matrix`.
    """
    matrix, split = read_matrix(path), split_of(path)
    implicit = bool((matrix.values == 1).all())
    for users, items, values in matrix.chunks():
        ratings = values.astype(np.float64)
        usable = np.abs(ratings) <= LARGEST_RATING  # False for NaN
        for reason, bad in ((Reason.BAD_RATING, ~usable), (Reason.ZERO_ENTRY, ratings == 0)):
            for place in np.flatnonzero(bad).tolist():
                yield Reject(source, None, reason, f"row {users[place]}, column {items[place]}: {values[place]}")
        kept = usable & (ratings != 0)
        yield pl.DataFrame(
            {"user_id": users[kept], "item_id": items[kept], "rating": None if implicit else ratings[kept]}
        ).select(
            pl.col("user_id", "item_id").cast(pl.String),
            pl.col("rating").cast(pl.Float32),
            pl.lit(None, pl.Int64).alias("timestamp"),
            pl.lit(split, pl.String).alias("split"),
        )


def split_of(path: Path) -> str:
    """The split in a matrix file's name."""
    return SPLIT_OF[path.name.split(".")[0]]


def common_shape(paths: Iterable[Path]) -> tuple[int, int] | None:
    """Numbers of users and items, the same in all matrices of a folder; None without any.

    Raises:
        DataError: see `read_matrix`, or the shapes differ.
    """
    shapes = {path: read_matrix(path).shape for path in paths}
    for path, shape in shapes.items():
        first, expected = next(iter(shapes.items()))
        if shape != expected:
            raise DataError(
                f"{path}: found {shape[0]:,} rows and {shape[1]:,} columns, expected {expected[0]:,} and "
                f"{expected[1]:,} as in {first.name}; they are of different datasets"
            )
    return next(iter(shapes.values()), None)


def is_matrix(head: FileHead) -> bool:
    """Whether a file has the name of a split's matrix; its content is checked when it is read."""
    return head.path.name in NAMES


MATRIX = Format(
    name="sparse matrices of MMSSL or DiffMM (train_mat or trnMat.pkl, ...)",
    kind="reviews",
    matches=is_matrix,
    read_frames=lambda head, source: read_frames(head.path, source),
)
