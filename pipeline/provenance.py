"""What made a file: stage, parameters, inputs and versions, kept in the file itself."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.files import sha256
from pipeline.layout import Layout
from pipeline.params import Params

METADATA_KEY = b"mmprep"


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
        inputs: the files that were read; their SHA-256 is taken here.
        libraries: distributions whose version can change the output.
        notes: anything else worth keeping, such as an encoder's fingerprint.
    """
    return Provenance(
        stage=stage,
        params=params.model_dump(mode="json"),
        inputs={layout.relative(path): sha256(path) for path in sorted(inputs)},
        libraries={name: version(name) for name in sorted(libraries)},
        notes=notes,
    )


def read_provenance(path: Path) -> dict[str, Any]:
    """Read what made a Parquet file.

    Raises:
        DataError: the file is not Parquet, or mmprep did not write it.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from error
    if METADATA_KEY not in metadata:
        raise DataError(f"{path}: holds no mmprep provenance, so mmprep did not write it")
    provenance: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return provenance
