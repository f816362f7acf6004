"""Compaction: merge the row cache's small shards, one per encoded batch, into larger ones that open and list faster."""

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmprep.pipeline.cache.folder import CacheFolder
from mmprep.pipeline.cache.shards import ShardReader, ShardWriter
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.storage.store import FileInfo, StoreError

logger = logging.getLogger(__name__)

SMALL_BYTES = 8 * 1024 * 1024
LARGE_BYTES = 256 * 1024 * 1024


def compact(folder: CacheFolder) -> None:
    """Merge the shards below SMALL_BYTES into shards of at most LARGE_BYTES.

    Other processes may read, add and compact at the same time: a merged shard is written before its sources are
    removed, so that every row is available at any moment, some of them twice.
    """
    folder.sweep()
    for group in groups_of(folder.shards()):
        merge(folder, [entry.name for entry in group])


def groups_of(shards: Sequence[FileInfo]) -> list[list[FileInfo]]:
    """Group small shards to be merged into one, in the order in which they were written.

    Items are encoded in the order of a dataset and mostly read in that order, so rows read together stay adjacent.
    """
    small = [entry for entry in shards if entry.size < SMALL_BYTES]
    groups: list[list[FileInfo]] = [[]]
    for entry in sorted(small, key=lambda entry: (entry.changed or 0, entry.name)):
        if sum(member.size for member in groups[-1]) + entry.size > LARGE_BYTES:
            groups.append([])
        groups[-1].append(entry)
    return [group for group in groups if len(group) > 1]


def merge(folder: CacheFolder, names: Sequence[str]) -> None:
    """Merge several shards into one and set damaged ones aside. Shards that cannot be merged now are kept."""
    readers = {name: reader for name in names if (reader := folder.reader(name)) is not None}
    if len(readers) < 2:
        return
    merged = folder.place.scratch()
    try:
        write_merged(merged, readers.values())
        name = f"{sha256(merged)}.parquet"
        folder.place.upload(merged, name)
    except (OSError, StoreError, pa.ArrowException) as error:
        for each in readers:
            folder.distrust(each)
        logger.info("%s: small shards are not merged now (%s)", folder.place, error)
        return
    finally:
        with suppress(OSError):
            merged.unlink(missing_ok=True)
    for old in readers.keys() - {name}:  # merging the same rows again gives the same shard
        folder.place.delete(old)


def write_merged(target: Path, shards: Iterable[ShardReader]) -> None:
    """Write the rows of several shards to a new one, of equal keys the first."""
    readers = list(shards)
    seen: set[bytes] = set()
    with closing(ShardWriter(target, readers[0].schema)) as writer:
        for reader in readers:
            for table in reader.read(np.arange(reader.rows)):
                for batch in table.to_batches():
                    writer.append(only_new(batch, seen))


def only_new(batch: pa.RecordBatch, seen: set[bytes]) -> pa.RecordBatch:
    """The rows of a batch whose keys are not in `seen`, to which they are added."""
    rows = []
    for row, key in enumerate(batch.column(0).to_pylist()):
        if key not in seen:
            seen.add(key)
            rows.append(row)
    return batch if len(rows) == batch.num_rows else batch.take(pa.array(rows, pa.int64()))
