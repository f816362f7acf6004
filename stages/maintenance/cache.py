"""Looking after the row cache: what is in it, whether it is whole, and what may go."""

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
    """What the cache holds of one fingerprint.

    Attributes:
        folder: its name in the cache.
        fingerprint: what the rows were made by; `encoder`, `weights`, `pretrained` and `precision` are in it.
        shards: files with rows.
        rows: in all shards whose footer can be read.
        bytes: of all shards.
        damaged: files that were set aside.
        used: when it was last read or added to, in seconds since 1970, to the hour; None if nothing tells.
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
    """What reading all of the cache found.

    Attributes:
        shards: those that are whole.
        rows: in them.
        damaged: the shards that were set aside now, as FOLDER/NAME.
    """

    shards: int
    rows: int
    damaged: list[str]


@dataclass(frozen=True)
class Pruned:
    """What was taken out of the cache.

    Attributes:
        folders: those that were removed.
        bytes: freed in all.
    """

    folders: list[str]
    bytes: int


def stats(place: Store) -> list[FolderStats]:
    """What the cache holds, by folder; what others put there is passed over."""
    return [stats_of(folder) for folder in our_folders(place)]


def stats_of(folder: CacheFolder) -> FolderStats:
    """What one folder holds. Shards that are damaged count no rows."""
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
    """Compare every shard's bytes with its name; the damaged are set aside, and encoded again when they are needed."""
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
    """Remove folders that are not needed, and tidy up the others: damaged shards, leftovers, many small shards.

    Args:
        place: the cache.
        unused_days: remove what was not used for so many days.
        encoder: remove only what this encoder made. Of neither, no folder goes; of both, those that meet both.
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
    """Whether a folder meets what `prune` was asked to remove. One that does not tell its last use stays."""
    if unused_days is None and encoder is None:
        return False
    used = folder.last_use()
    is_old = unused_days is None or (used is not None and time.time() - used > unused_days * DAY)
    return is_old and encoder in (None, folder.fingerprint.get("encoder"))
