"""One folder of the row cache: the shards of one fingerprint, whether they can be trusted, and what else is there."""

import errno
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmprep.pipeline.cache.shards import NAME, ShardReader
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.storage.store import FileInfo, Store, StoreError
from mmprep.pipeline.storage.temporary import is_leftover

logger = logging.getLogger(__name__)

FINGERPRINT = "fingerprint.json"
USED = "used"
DAMAGED = "damaged"
MARK_SECONDS = 3600  # a folder's last use is noted this often, so that a shared place is not written all the time
Signature = tuple[int, int, int]


def canonical(fingerprint: Mapping[str, Any]) -> str:
    """A fingerprint as text, the same for equal ones."""
    return json.dumps(dict(fingerprint), sort_keys=True, separators=(",", ":"), allow_nan=False)


def folder_name(fingerprint: Mapping[str, Any]) -> str:
    """The name of a fingerprint's folder: the encoder's, made safe for a path, and a digest of the whole."""
    encoder = re.sub(r"[^A-Za-z0-9._-]+", "_", str(fingerprint.get("encoder", ""))).lstrip(".")[:80]
    return f"{encoder or 'encoder'}-{hashlib.sha256(canonical(fingerprint).encode()).hexdigest()[:16]}"


def our_folders(place: Store) -> list["CacheFolder"]:
    """The folders of a place that the row cache made: what their fingerprint.json says fits their name."""
    folders = (folder_of(place, name) for name in place.folders())
    return [folder for folder in folders if folder is not None]


def folder_of(place: Store, name: str) -> "CacheFolder | None":
    """A folder of a place if the row cache made it, else None."""
    try:
        fingerprint = json.loads(place.child(name).read(FINGERPRINT))
        is_ours = isinstance(fingerprint, dict) and folder_name(fingerprint) == name
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    except StoreError as error:
        logger.warning("passed over: %s", error)
        return None
    return CacheFolder(place, fingerprint) if is_ours else None


class CacheFolder:
    """A fingerprint's shards in a place.

    Attributes:
        place: the folder itself.
        fingerprint: what every row in it depends on beside its key.
        set_aside_now: the damaged shards that this process met.
    """

    def __init__(self, cache: Store, fingerprint: Mapping[str, Any]) -> None:
        self.fingerprint = dict(fingerprint)
        self.name = folder_name(fingerprint)
        self.place = cache.child(self.name)
        self.set_aside_now: list[str] = []
        self._described = False
        self._marked = 0.0
        self._trusted: dict[str, Signature] = {}
        self._readers: dict[str, ShardReader] = {}
        self._refused: set[str] = set()  # damaged, but this process may not move them

    def shards(self, *, note_use: bool = False) -> list[FileInfo]:
        """The shards, by name.

        Args:
            note_use: keep the folder from being pruned for a while.

        Raises:
            DataError: the folder is of another fingerprint.
        """
        entries = self.place.entries()
        self._described = self._check() if any(entry.name == FINGERPRINT for entry in entries) else False
        if self._described and note_use:
            self._marked = max(self._marked, last_mark(entries) or 0)
            self._mark()
        return [entry for entry in entries if is_shard(entry) and entry.name not in self._refused]

    def describe(self) -> None:
        """Write the fingerprint, if it is not there.

        Raises:
            DataError: there is another one.
        """
        if not self._described and not self._check():
            self.place.write(FINGERPRINT, (json.dumps(self.fingerprint, indent=2, sort_keys=True) + "\n").encode())
        self._described = True

    def _check(self) -> bool:
        """Whether the fingerprint is there; raises DataError if it is another."""
        try:
            found = json.loads(self.place.read(FINGERPRINT))
        except FileNotFoundError:
            return False
        except (ValueError, RecursionError):
            found = None
        if found != json.loads(canonical(self.fingerprint)):
            raise DataError(
                f"{self.place}/{FINGERPRINT}: does not say what the rows of this folder are made by; somebody has "
                "changed it, or two encoders share a name; remove the folder, or set MMPREP_CACHE to another place"
            )
        return True

    def _mark(self) -> None:
        """Note that the folder is used, where that is allowed: a cache that may only be read serves all the same."""
        if time.time() - self._marked < MARK_SECONDS:
            return
        try:
            self.place.write(USED, b"")
        except StoreError as error:
            logger.debug("the last use is not noted: %s", error)
        self._marked = time.time()

    def add(self, content: bytes) -> str:
        """Put a shard's bytes in the folder; returns its name."""
        self.describe()
        self._mark()
        name = f"{hashlib.sha256(content).hexdigest()}.parquet"
        self.place.write(name, content)
        self._refused.discard(name)
        return name

    def reader(self, name: str) -> ShardReader | None:
        """A shard's rows. Its bytes are compared with its name, once a process unless the file changes.

        Returns:
            None: it has gone, or it was damaged and is set aside.

        Raises:
            StoreError: this process may not read it, or the place cannot be reached.
        """
        try:
            path = self._checked(name)
            if path is None:
                self.set_aside(name, "its bytes are not those that its name says")
            elif name not in self._readers:
                self._readers[name] = ShardReader(path)
            return self._readers.get(name)
        except PermissionError as error:
            raise StoreError(f"{self.place}/{name}: cannot be read ({error.strerror}); ask its owner") from error
        except (OSError, pa.ArrowException) as error:
            if not has_gone(error):
                self.set_aside(name, f"it cannot be read ({error})")
        self.distrust(name)
        return None

    def _checked(self, name: str) -> Path | None:
        """A shard as a file of this machine if its digest is its name."""
        for _ in range(2):
            path = self.place.local_copy(name)
            found = signature(path)
            if self._trusted.get(name) == found:
                return path
            self.distrust(name)
            if f"{sha256(path)}.parquet" == name:
                self._trusted[name] = found
                return path
            # A copy may have been damaged on its way. If the second one is too, the file itself is.
            if not self.place.discard_copy(name):
                break
        return None

    def distrust(self, name: str) -> None:
        """Compare a shard's bytes anew before the next use."""
        self._trusted.pop(name, None)
        self._readers.pop(name, None)

    def set_aside(self, name: str, why: str) -> None:
        """Move a damaged shard out of the way, with a warning; its rows are to be encoded again."""
        self.distrust(name)
        self.set_aside_now.append(name)
        try:
            self.place.move(name, f"{DAMAGED}/{name}")
        except FileNotFoundError:
            return  # another process was faster
        except StoreError as error:
            self._refused.add(name)
            logger.warning("%s/%s: damaged, %s; not used, but it stays: %s", self.place, name, why, error)
            return
        logger.warning("%s/%s: damaged, %s; moved to %s/", self.place, name, why, DAMAGED)

    def sweep(self) -> int:
        """Remove what dead processes left; returns the bytes."""
        return self._delete(self.place, is_left)

    def damaged(self) -> list[FileInfo]:
        """The shards that were set aside, by any process."""
        return [entry for entry in self.place.child(DAMAGED).entries() if is_shard(entry)]

    def size(self) -> int:
        """The bytes of all that lies in the folder, with what was set aside."""
        return sum(entry.size for entry in [*self.place.entries(), *self.damaged()])

    def last_use(self) -> float | None:
        """When a process last opened the folder or added rows, to the hour, in seconds since 1970; None if unknown."""
        entries = self.place.entries()
        # A cache that some may only read has no mark of their uses; its newest shard is the next best.
        shards = [entry.changed for entry in entries if is_shard(entry) and entry.changed is not None]
        return last_mark(entries) or max(shards, default=None)

    def clear_damaged(self) -> int:
        """Remove what was set aside; returns the bytes."""
        damaged = self.place.child(DAMAGED)
        freed = self._delete(damaged, lambda entry: is_shard(entry) or is_left(entry))
        damaged.remove_if_empty()
        return freed

    def remove(self) -> int:
        """Remove everything of ours; returns the bytes. What others put there stays, and then the folder too."""
        freed = self.clear_damaged() + self.sweep()
        freed += self._delete(self.place, lambda entry: is_shard(entry) or entry.name == USED)
        # Last, so that a folder whose removal was cut short is still known as ours.
        freed += self._delete(self.place, lambda entry: entry.name == FINGERPRINT)
        self.place.remove_if_empty()
        return freed

    def _delete(self, place: Store, which: Callable[[FileInfo], bool]) -> int:
        entries = [entry for entry in place.entries() if which(entry)]
        for entry in entries:
            place.delete(entry.name)
        return sum(entry.size for entry in entries)


def last_mark(entries: list[FileInfo]) -> float | None:
    """When the use of a folder was noted last; None if it was not, or if the place does not tell."""
    return next((entry.changed for entry in entries if entry.name == USED), None)


def is_shard(entry: FileInfo) -> bool:
    """Whether a file is named like a shard."""
    return NAME.fullmatch(entry.name) is not None


def is_left(entry: FileInfo) -> bool:
    """Whether a file is what a writer left that runs no more."""
    return is_leftover(entry.name, entry.changed)


def has_gone(error: BaseException) -> bool:
    """Whether an error says that a file is there no more, as NFS says it or otherwise."""
    return isinstance(error, FileNotFoundError) or getattr(error, "errno", None) == errno.ESTALE


def signature(path: Path) -> Signature:
    """What changes when a file is written anew or in place."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
