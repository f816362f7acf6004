"""What made a file: stage, parameters, inputs and versions, kept in the file itself."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.params import Params
from mmprep.pipeline.storage.files import sha256

METADATA_KEY = b"mmprep"
ROWS_KEY = b"mmprep.rows"
SEEDS = (0, 1)  # of a row's hashes, 64 bits each


@dataclass(frozen=True)
class Provenance:
    """What a stage writes beside its rows. Holds no time and no machine, so equal work gives equal bytes."""

    stage: str
    params: dict[str, Any]
    inputs: dict[str, str]
    libraries: dict[str, str]
    notes: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The provenance as plain JSON values."""
        return {
            "mmprep": version("mmprep"),
            "stage": self.stage,
            "params": self.params,
            "inputs": self.inputs,
            "libraries": self.libraries,
            **self.notes,
        }

    def to_metadata(self) -> dict[bytes, bytes]:
        """The provenance as Parquet schema metadata."""
        return {METADATA_KEY: json.dumps(self.to_dict(), sort_keys=True).encode()}


class RowsDigest:
    """A digest of a table's rows that is the same in whatever order they come.

    It tells by which rows later work was made; it is no seal against somebody who wants it to be the same.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._sums = np.zeros(len(SEEDS), dtype=np.uint64)

    def add(self, rows: pl.DataFrame) -> None:
        """Take some more rows, of the same columns and types each time."""
        self._rows += len(rows)
        # Sums, not xor, in which a row that is there twice would vanish.
        self._sums += np.array([rows.hash_rows(seed).to_numpy().sum() for seed in SEEDS], dtype=np.uint64)

    def to_metadata(self) -> dict[bytes, bytes]:
        """The digest as metadata of the file, not of its schema, which other programs copy to files that they write."""
        sums = "".join(f"{value:016x}" for value in self._sums.tolist())
        return {ROWS_KEY: f"rows:{self._rows}:{sums}".encode()}


def record(
    stage: str,
    layout: Layout,
    params: Params,
    inputs: Iterable[Path],
    libraries: Iterable[str] = (),
    **notes: Any,  # noqa: ANN401 - whatever JSON a stage wants to add
) -> Provenance:
    """Collect the provenance of one output.

    Args:
        stage: the stage's name.
        layout: the dataset's paths, by which inputs are named.
        params: the stage's parameters.
        inputs: the files that were read; their digests are taken here.
        libraries: distributions whose version can change the output.
        notes: anything else worth keeping, such as an encoder's fingerprint.
    """
    return Provenance(
        stage=stage,
        params=params.model_dump(mode="json"),
        inputs={layout.relative(path): digest_of(path) for path in sorted(inputs)},
        libraries={name: version(name) for name in sorted(libraries)},
        notes=notes,
    )


def digest_of(path: Path) -> str:
    """What provenance names a file by: the digest of its rows if it holds one, else the SHA-256 of its bytes.

    Raises:
        DataError: the name is that of a Parquet file, but the file is none.
    """
    rows = read_footer(path).get(ROWS_KEY) if path.suffix == ".parquet" else None
    return sha256(path) if rows is None else rows.decode()


def read_provenance(path: Path) -> dict[str, Any]:
    """Read what made a Parquet file.

    Raises:
        DataError: the file is not Parquet, or mmprep did not write it, or what it tells is damaged.
    """
    footer = read_footer(path)
    if METADATA_KEY not in footer:
        raise DataError(f"{path}: holds no mmprep provenance, so mmprep did not write it")
    try:
        provenance = json.loads(footer[METADATA_KEY])
    except ValueError as error:
        raise DataError(f"{path}: damaged provenance ({error})") from error
    if not isinstance(provenance, dict):
        raise DataError(f"{path}: damaged provenance: found {type(provenance).__name__}, expected a mapping")
    return provenance


def read_footer(path: Path) -> dict[bytes, bytes]:
    """The keys and values in the footer of a Parquet file.

    Raises:
        DataError: it is not Parquet.
    """
    try:
        return pq.read_metadata(path).metadata or {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
