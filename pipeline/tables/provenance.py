"""Provenance of a file: stage, parameters, inputs and versions, stored in the file itself."""

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
SEEDS = (0, 1)  # of the two 64-bit hashes of each row


@dataclass(frozen=True)
class Provenance:
    """Provenance that a stage writes with its rows. Holds no time or machine, so that equal work gives equal bytes."""

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
    """Order-independent digest of a table's rows.

    It identifies the rows that later artefacts were made from; it is not cryptographic and does not resist forgery.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._sums = np.zeros(len(SEEDS), dtype=np.uint64)

    def add(self, rows: pl.DataFrame) -> None:
        """Add rows; columns and types must be the same in each call."""
        self._rows += len(rows)
        # Sums, not xor, in which two equal rows would cancel out.
        self._sums += np.array([rows.hash_rows(seed).to_numpy().sum() for seed in SEEDS], dtype=np.uint64)

    def to_metadata(self) -> dict[bytes, bytes]:
        """The digest as file metadata, not schema metadata, which other programs copy into their own files."""
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
        layout: the dataset's paths, relative to which inputs are named.
        params: the stage's parameters.
        inputs: the files that were read; their digests are computed here.
        libraries: distributions whose version can change the output.
        notes: further entries, such as an encoder's fingerprint.
    """
    return Provenance(
        stage=stage,
        params=params.model_dump(mode="json"),
        inputs={layout.relative(path): digest_of(path) for path in sorted(inputs)},
        libraries={name: version(name) for name in sorted(libraries)},
        notes=notes,
    )


def digest_of(path: Path) -> str:
    """A file's digest for provenance: the digest of its rows if it stores one, else the SHA-256 of its bytes.

    Raises:
        DataError: the suffix is `.parquet`, but the file is not Parquet.
    """
    rows = read_footer(path).get(ROWS_KEY) if path.suffix == ".parquet" else None
    return sha256(path) if rows is None else rows.decode()


def read_provenance(path: Path) -> dict[str, Any]:
    """Read the provenance of a Parquet file.

    Raises:
        DataError: the file is not Parquet, was not written by mmprep, or its provenance is damaged.
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
        DataError: the file is not Parquet.
    """
    try:
        return pq.read_metadata(path).metadata or {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
