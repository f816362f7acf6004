"""One folder of the row cache: the shards of one fingerprint, their digest checks, damaged shards and clean-up."""

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
MARK_SECONDS = 3600  # a folder's last use is recorded at most this often, so that a shared store sees few writes
Signature = tuple[int, int, int]


def canonical(fingerprint: Mapping[str, Any]) -> str:
    """A fingerprint as canonical JSON: equal fingerprints give equal text."""
    return json.dumps(dict(fingerprint), sort_keys=True, separators=(",", ":"), allow_nan=False)


def folder_name(fingerprint: Mapping[str, Any]) -> str:
    """Folder name of a fingerprint: the encoder's name, made safe for a path, and a digest of the fingerprint."""
    encoder = re.sub(r"[^A-Za-z0-9._-]+", "_", str(fingerprint.get("encoder", ""))).lstrip(".")[:80]
    return f"{encoder or 'encoder'}-{hashlib.sha256(canonical(fingerprint).encode()).hexdigest()[:16]}"


def our_folders(place: Store) -> list["CacheFolder"]:
    """The folders of a store that the row cache created: those whose fingerprint.json matches their name."""
    folders = (folder_of(place, name) for name in place.folders())
    return [folder for folder in folders if folder is not None]


def folder_of(place: Store, name: str) -> "CacheFolder | None":
    """A folder of a store if the row cache created it, else None."""
    try:
        fingerprint = json.loads(place.child(name).read(FINGERPRINT))
        is_ours = isinstance(fingerprint, dict) and folder_name(fingerprint) == name
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    except StoreError as error:
        logger.warning("skipped: %s", error)
        return None
    return CacheFolder(place, fingerprint) if is_ours else None


class CacheFolder:
    """A fingerprint's shards in a store.

    Attributes:
        place: the folder itself.
        fingerprint: everything that its rows depend on besides their keys.
        set_aside_now: the damaged shards that this process detected.
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
            note_use: record the use, which keeps the folder from being pruned for a while.

        Raises:
            DataError: the folder belongs to another fingerprint.
        """
        entries = self.place.entries()
        self._described = self._check() if any(entry.name == FINGERPRINT for entry in entries) else False
        if self._described and note_use:
            self._marked = max(self._marked, last_mark(entries) or 0)
            self._mark()
        return [entry for entry in entries if is_shard(entry) and entry.name not in self._refused]

    def describe(self) -> None:
        """Write the fingerprint if it is missing.

        Raises:
            DataError: the folder belongs to another fingerprint.
        """
        if not self._described and not self._check():
            self.place.write(FINGERPRINT, (json.dumps(self.fingerprint, indent=2, sort_keys=True) + "\n").encode())
        self._described = True

    def _check(self) -> bool:
        """Whether the fingerprint file exists; raises DataError if it holds another fingerprint."""
        try:
            stored = json.loads(self.place.read(FINGERPRINT))
        except FileNotFoundError:
            return False
        except (ValueError, RecursionError):
            stored = None
        if stored != json.loads(canonical(self.fingerprint)):
            raise DataError(
                f"{self.place}/{FINGERPRINT}: does not match the fingerprint of this folder's rows; it was changed, or "
                "two encoders share a name; remove the folder, or set MMPREP_CACHE to another one"
            )
        return True

    def _mark(self) -> None:
        """Record that the folder is in use, if it is writable; a read-only cache works too."""
        if time.time() - self._marked < MARK_SECONDS:
            return
        try:
            self.place.write(USED, b"")
        except StoreError as error:
            logger.debug("the last use is not recorded: %s", error)
        self._marked = time.time()

    def add(self, content: bytes) -> str:
        """Write a shard's bytes to the folder and return its name."""
        self.describe()
        self._mark()
        name = f"{hashlib.sha256(content).hexdigest()}.parquet"
        self.place.write(name, content)
        self._refused.discard(name)
        return name

    def reader(self, name: str) -> ShardReader | None:
        """Open a shard. Its digest is checked against its name, once per process unless the file changes.

        Returns:
            A reader; None if the shard is gone, or damaged and now set aside.

        Raises:
            StoreError: this process may not read it, or the store cannot be reached.
        """
        try:
            path = self._checked(name)
            if path is None:
                self.set_aside(name, "its bytes do not match the digest in its name")
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
        """Local path of a shard if its digest matches its name, else None."""
        for _ in range(2):
            path = self.place.local_copy(name)
            current = signature(path)
            if self._trusted.get(name) == current:
                return path
            self.distrust(name)
            if f"{sha256(path)}.parquet" == name:
                self._trusted[name] = current
                return path
            # A copy may have been damaged in transfer. If the second one is damaged too, the file itself is.
            if not self.place.discard_copy(name):
                break
        return None

    def distrust(self, name: str) -> None:
        """Check a shard's digest again before its next use."""
        self._trusted.pop(name, None)
        self._readers.pop(name, None)

    def set_aside(self, name: str, why: str) -> None:
        """Move a damaged shard to DAMAGED/ with a warning; its rows must be encoded again."""
        self.distrust(name)
        self.set_aside_now.append(name)
        try:
            self.place.move(name, f"{DAMAGED}/{name}")
        except FileNotFoundError:
            return  # another process was faster
        except StoreError as error:
            self._refused.add(name)
            logger.warning("%s/%s: damaged, %s; ignored, but not moved: %s", self.place, name, why, error)
            return
        logger.warning("%s/%s: damaged, %s; moved to %s/", self.place, name, why, DAMAGED)

    def sweep(self) -> int:
        """Remove the leftovers of dead processes; returns the number of bytes freed."""
        return self._delete(self.place, is_left)

    def damaged(self) -> list[FileInfo]:
        """The shards set aside by any process."""
        return [entry for entry in self.place.child(DAMAGED).entries() if is_shard(entry)]

    def size(self) -> int:
        """Size of all files in the folder in bytes, including shards set aside."""
        return sum(entry.size for entry in [*self.place.entries(), *self.damaged()])

    def last_use(self) -> float | None:
        """Time of the last opening or writing, to the hour, in seconds since 1970; None if unknown."""
        entries = self.place.entries()
        # Users with read-only access leave no mark; the time of the newest shard is the next best estimate.
        shards = [entry.changed for entry in entries if is_shard(entry) and entry.changed is not None]
        return last_mark(entries) or max(shards, default=None)

    def clear_damaged(self) -> int:
        """Remove the shards set aside; returns the number of bytes freed."""
        damaged = self.place.child(DAMAGED)
        freed = self._delete(damaged, lambda entry: is_shard(entry) or is_left(entry))
        damaged.remove_if_empty()
        return freed

    def remove(self) -> int:
        """Remove all files of the row cache, and the folder if nothing else is left; returns the bytes freed."""
        freed = self.clear_damaged() + self.sweep()
        freed += self._delete(self.place, lambda entry: is_shard(entry) or entry.name == USED)
        # Last, so that a partly removed folder is still recognised as the row cache's.
        freed += self._delete(self.place, lambda entry: entry.name == FINGERPRINT)
        self.place.remove_if_empty()
        return freed

    def _delete(self, place: Store, which: Callable[[FileInfo], bool]) -> int:
        entries = [entry for entry in place.entries() if which(entry)]
        for entry in entries:
            place.delete(entry.name)
        return sum(entry.size for entry in entries)


def last_mark(entries: list[FileInfo]) -> float | None:
    """Time of a folder's last recorded use; None if there is none, or the store does not report it."""
    return next((entry.changed for entry in entries if entry.name == USED), None)


def is_shard(entry: FileInfo) -> bool:
    """Whether a file has the name of a shard."""
    return NAME.fullmatch(entry.name) is not None


def is_left(entry: FileInfo) -> bool:
    """Whether a file is the leftover of a dead writer."""
    return is_leftover(entry.name, entry.changed)


def has_gone(error: BaseException) -> bool:
    """Whether an error means that a file no longer exists, including NFS's ESTALE."""
    return isinstance(error, FileNotFoundError) or getattr(error, "errno", None) == errno.ESTALE


def signature(path: Path) -> Signature:
    """Inode, size and modification time, which change when a file is replaced or modified."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns
