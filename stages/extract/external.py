"""Import externally computed features as features of a dataset."""

import hashlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mmprep.models.encoders.params import ExtractParams, FileParams
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.features.external import ForeignFeatures, open_foreign
from mmprep.pipeline.features.vectors import NUMPY, FeatureSpec, Items, VectorBatch, Vectors
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress
from mmprep.pipeline.storage.files import write_json
from mmprep.pipeline.tables.id_matching import IdComparison
from mmprep.pipeline.tables.provenance import record
from mmprep.stages.extract.missing import warn_of_missing
from mmprep.stages.prepare.noise import NoiseParams, replace_sources

logger = logging.getLogger(__name__)

BLOCK = 4096  # rows written at once


def run_foreign(
    name: str,
    params: ExtractParams,
    file: FileParams,
    layout: Layout,
    items: pl.DataFrame,
    progress: Progress,
    noise: NoiseParams,
) -> dict[str, Any]:
    """Import the vectors of a dataset's items from an external file or folder.

    Items that the file lacks get no row, like those without a photo in `extract`.

    Raises:
        ParamsError: the path is outside the raw folder, `reduce` is set, or `rows: number` does not fit the ids.
        MissingInputError: there is no such file.
        DataError: it cannot be read, has none of the items, its ids do not match theirs, or its numbers are too large
            for `stored_as`.
    """
    foreign = open_foreign(path_of(name, file, layout), by_number=file.rows == "number")
    if file.rows == "number":
        check_numbers(items["item_id"].to_list(), name, foreign)
    numbers = dict(zip(items["item_id"].to_list(), items["item"].to_list(), strict=True))
    folder = layout.features(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # On disk, since the file may have the items in any order and all of them may not fit in memory.
    with tempfile.TemporaryFile(dir=folder.parent) as scratch:
        size = (max(1, len(items)), foreign.dimension)
        table: Vectors = np.memmap(scratch, dtype=NUMPY[file.stored_as], mode="w+", shape=size)
        with_vector = fill(table, foreign, numbers, file, progress, name)
        check_ids(items["item_id"], foreign, name, file.max_unmatched_fraction)
        if not with_vector:
            raise DataError(
                f"{foreign.path}: has none of the {len(items)} items, or only vectors of zeros or NaN of them"
            )
        warn_of_missing(name, "vector", items, with_vector, params.missing)
        rate = noise.replaced if noise.modality == file.modality else 0.0
        pairs, replaced = replace_sources([(item, item) for item in with_vector], rate, noise.seed)
        notes: dict[str, Any] = {
            "missing": params.missing,
            "encoder": made_by_others(name, file, foreign),
            "contents_sha256": digest(table, pairs),
            "replaced_by_noise": replaced,
        }
        provenance = record("extract", layout, file, [layout.items], **notes)
        with write_features(folder, FeatureSpec("vector", foreign.dimension, file.stored_as), provenance) as writer:
            for block, vectors in blocks_of(table, pairs):
                writer.append(block, VectorBatch(vectors))
    metrics = {
        "items": len(items),
        "encoded": len(with_vector),
        "missing": len(items) - len(with_vector),
        "replaced_by_noise": replaced,
        "dimension": foreign.dimension,
        "kind": foreign.kind,
        "left_out": {reason.value: count for reason, count in sorted(foreign.left_out.items())},
    }
    write_json(layout.metrics(f"extract-{name}"), metrics)
    return metrics


def path_of(name: str, file: FileParams, layout: Layout) -> Path:
    """Path of the external features; raises as `run_foreign` does."""
    if file.components:
        raise ParamsError(f"encoders.{name}.reduce: external features are kept as they are; remove the key")
    path = layout.raw / file.path
    if not path.resolve().is_relative_to(layout.raw.resolve()):
        raise ParamsError(f"encoders.{name}.path: found {file.path!r}, expected a file or folder below {layout.raw}")
    return path


def check_numbers(ids: list[str], name: str, foreign: ForeignFeatures) -> None:
    """Check that ids of items are numbers of rows.

    Raises:
        ParamsError: an id is not the number of a row, as published ids are not.
    """
    for item_id in ids:
        is_short_number = item_id.isascii() and item_id.isdecimal() and len(item_id) < 10
        if not is_short_number or str(int(item_id)) != item_id or int(item_id) >= foreign.rows:
            raise ParamsError(
                f"encoders.{name}.rows: found number, but an item has the id {item_id!r}, which is no row of the "
                f"{foreign.rows} in {foreign.path}; use features of this dataset, or remove the key and put the table "
                "of ids beside the file"
            )


def check_ids(item_ids: pl.Series, foreign: ForeignFeatures, name: str, limit: float) -> None:
    """Warn of items without a vector beside vectors of no item, and fail if they are too many.

    A file may lack some items, and may have items that the k-core dropped; ids that do not match raise both shares.

    Args:
        item_ids: ids of the dataset's items.
        foreign: external features, all read.
        name: the encoder's name.
        limit: largest share of items without a vector and, at the same time, of vectors of no item.

    Raises:
        DataError: no vector is of an item, or both shares are above the limit; the message has an example of each
            side and, if there is one, the change of spelling that would let ids match.
    """
    compared = IdComparison(item_ids, pl.concat(foreign.ids) if foreign.ids else pl.Series("id", [], dtype=pl.String))
    if 0 < len(compared.lacking) == compared.expected:
        raise DataError(
            f"{foreign.path}: has none of the {compared.expected} items; it belongs to another dataset or uses other "
            f"ids ({compared.explain()})"
        )
    if not compared.mismatch:
        return
    line = (
        f"{foreign.path}: {len(compared.lacking)} of {compared.expected} items have no vector, and "
        f"{len(compared.spare)} of {compared.available} vectors are of no item ({compared.explain()})"
    )
    if compared.mismatch > limit:
        raise DataError(
            f"{line}; a share of {compared.mismatch:.2g}, more than encoders.{name}.max_unmatched_fraction allows "
            f"({limit:g}); make the ids alike, or raise the limit if nothing is misspelt"
        )
    logger.warning("%s", line)


def fill(
    table: Vectors, foreign: ForeignFeatures, numbers: dict[str, int], file: FileParams, progress: Progress, name: str
) -> list[int]:
    """Write each item's vector to its row; returns the items that have one, in order."""
    with_vector: list[int] = []
    with progress(f"{name}: reading", len(numbers), "vectors") as advance:
        for ids, vectors in foreign.batches(set(numbers)):
            rows = [numbers[item_id] for item_id in ids]
            table[rows] = VectorBatch(vectors).cast_checked(file.stored_as, ids).vectors
            with_vector += rows
            advance(len(ids), "")
    return sorted(with_vector)


def blocks_of(table: Vectors, pairs: list[tuple[int, int]]) -> Iterator[tuple[Items, Vectors]]:
    """Yield the first items of pairs with the vectors of the second items, in blocks."""
    for start in range(0, len(pairs), BLOCK):
        block: Items = np.array(pairs[start : start + BLOCK], dtype=np.int32)
        yield block[:, 0], np.asarray(table[block[:, 1]])


def digest(table: Vectors, pairs: list[tuple[int, int]]) -> str:
    """SHA-256 of the items and their vectors."""
    contents = hashlib.sha256()
    for block, vectors in blocks_of(table, pairs):
        contents.update(block.tobytes() + vectors.tobytes())
    return contents.hexdigest()


def made_by_others(name: str, file: FileParams, foreign: ForeignFeatures) -> dict[str, Any]:
    """Provenance entry of the unknown encoder of external features."""
    return {
        "encoder": name,
        "library": "file",
        "model": file.path,
        "output": f"as in {foreign.kind}",
        "form": "vector",
        "dimension": foreign.dimension,
        "pretrained": True,
        "seed": None,
        "weights": "not known",
        "stored_as": file.stored_as,
    }
