"""Safe reading of untrusted `.npy` files: only arrays of floats are accepted, and nothing is unpickled."""

from collections.abc import Iterable
from pathlib import Path
from tokenize import TokenError
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.errors import DataError

Floats = npt.NDArray[np.floating[Any]]

MAGIC = b"\x93NUMPY"
# Raised by numpy for a damaged or forged header.
BAD_ARRAY = (
    ValueError,
    OSError,
    EOFError,
    SyntaxError,
    TokenError,
    OverflowError,
    TypeError,
    RecursionError,
    MemoryError,
)


def is_array(path: Path) -> bool:
    """Whether a file begins with the magic bytes of `.npy`."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def map_array(path: Path) -> Floats:
    """Memory-map an array of floats.

    Raises:
        DataError: the file is damaged or not an array of floats, such as a pickle.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except BAD_ARRAY as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path}: no array of plain numbers, or cut off ({why})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise DataError(f"{path}: found {getattr(array, 'dtype', 'an archive')}, expected float32 or float64")
    return cast("Floats", array)


def read_vector(path: Path) -> Floats:
    """Read the vector in a file, [dimension].

    Raises:
        DataError: the file does not hold a single vector.
    """
    array = map_array(path)
    if array.size == 0 or array.shape not in {(array.size,), (1, array.size)}:
        raise DataError(
            f"{path}: found an array of shape {array.shape}, expected one vector, (d,) or (1, d); of patches and maps "
            "Ducho keeps only the first if a batch has one photo, so choose a layer that returns a vector"
        )
    return array.reshape(-1)


def stack(paths: Iterable[Path], dimension: int) -> Floats:
    """Read the vectors in files, [n, dimension].

    Raises:
        DataError: a vector has another length.
    """
    vectors = []
    for path in paths:
        vector = read_vector(path)
        if len(vector) != dimension:
            raise DataError(
                f"{path}: found {len(vector)} numbers, expected {dimension}, as the folder's first file has"
            )
        vectors.append(vector)
    return np.stack(vectors)
