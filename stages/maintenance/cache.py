"""Maintenance of the row cache: statistics, verification and pruning."""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mmprep.pipeline.cache.compaction import compact
from mmprep.pipeline.cache.folder import CacheFolder, our_folders
from mmprep.pipeline.cache.shards import NotAShardError, read_footer
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.storage.store import Store

DAY = 24 * 3600


@dataclass(frozen=True)
class FolderStats:
    """Statistics of the cache folder of one fingerprint.

    Attributes:
        folder: its name in the cache.
        fingerprint: identity of the rows' encoder; has `encoder`, `weights`, `pretrained` and `precision`.
        shards: the number of files with rows.
        rows: in all shards whose footer can be read.
        bytes: of all shards.
        damaged: the number of damaged files that were set aside.
        used: time of the last read or write, in seconds since 1970, to the hour; None if unknown.
    """

    folder: str
    fingerprint: dict[str, Any]
    shards: int
    rows: int
    bytes: int
    damaged: int
    used: float | None


@dataclass(frozen=True)
class Verified:
    """Result of verifying the whole cache.

    Attributes:
        shards: the number of intact shards.
        rows: in them.
        damaged: the shards set aside by this run, as FOLDER/NAME.
    """

    shards: int
    rows: int
    damaged: list[str]


@dataclass(frozen=True)
class Pruned:
    """Result of pruning the cache.

    Attributes:
        folders: that were removed.
        bytes: freed in total.
    """

    folders: list[str]
    bytes: int


def stats(place: Store) -> list[FolderStats]:
    """Statistics of each folder of the cache; folders of other programs are skipped."""
    return [stats_of(folder) for folder in our_folders(place)]


def stats_of(folder: CacheFolder) -> FolderStats:
    """Statistics of one folder; damaged shards count no rows."""
    shards = folder.shards()
    rows = 0
    for shard in shards:
        with suppress(FileNotFoundError, NotAShardError):
            rows += read_footer(folder.place, shard).num_rows
    return FolderStats(
        folder=folder.name,
        fingerprint=folder.fingerprint,
        shards=len(shards),
        rows=rows,
        bytes=sum(shard.size for shard in shards),
        damaged=len(folder.damaged()),
        used=folder.last_use(),
    )


def verify(place: Store, progress: Progress = silent) -> Verified:
    """Compare every shard's bytes with its name; set damaged ones aside, to be encoded again when they are needed."""
    shards = rows = 0
    damaged: list[str] = []
    for folder in our_folders(place):
        listed = folder.shards()
        with progress(f"checking {folder.name}", sum(shard.size for shard in listed), "bytes") as advance:
            for shard in listed:
                reader = folder.reader(shard.name)
                if reader is not None:
                    shards, rows = shards + 1, rows + reader.rows
                advance(shard.size, "")
                folder.place.discard_copy(shard.name)
        damaged += [f"{folder.name}/{name}" for name in folder.set_aside_now]
        folder.place.close()
    return Verified(shards, rows, damaged)


def prune(place: Store, unused_days: int | None = None, encoder: str | None = None) -> Pruned:
    """Remove folders that are not needed, and clean up the others: damaged shards, leftovers, many small shards.

    Args:
        place: the cache.
        unused_days: remove folders not used for this number of days.
        encoder: remove folders of this encoder. Without either, no folder is removed; with both, those that match both.
    """
    removed = []
    freed = 0
    for folder in our_folders(place):
        if is_unwanted(folder, unused_days, encoder):
            freed += folder.remove()
            removed.append(folder.name)
            continue
        before = folder.size()
        folder.clear_damaged()
        compact(folder)
        freed += before - folder.size()
        folder.place.close()
    return Pruned(removed, freed)


def is_unwanted(folder: CacheFolder, unused_days: int | None, encoder: str | None) -> bool:
    """Whether a folder matches the conditions of `prune`. A folder of unknown last use does not match `unused_days`."""
    if unused_days is None and encoder is None:
        return False
    used = folder.last_use()
    is_old = unused_days is None or (used is not None and time.time() - used > unused_days * DAY)
    return is_old and encoder in (None, folder.fingerprint.get("encoder"))
