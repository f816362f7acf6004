"""A folder that people and machines share: on a disk, over NFS, or behind any URL that fsspec knows."""

import errno
import hashlib
import os
import platform
import re
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import DataError

LEFTOVER_SECONDS = 24 * 3600
TEMPORARY = re.compile(r"\.(?P<host>[0-9a-f]{12})\.(?P<process>\d+)\.[0-9a-f]{16}\.partial")


class PlaceError(DataError):
    """A place cannot be read or written."""


@dataclass(frozen=True)
class Entry:
    """A file of a place.

    Attributes:
        name: within the place.
        size: in bytes.
        changed: seconds since 1970; None where the place does not tell.
    """

    name: str
    size: int
    changed: float | None


class Place(ABC):
    """A folder of files that appear whole or not at all. A missing one is empty, and made by the first file.

    Every method raises PlaceError, one line, when the place cannot be used as asked.
    """

    @staticmethod
    def of(where: str | Path) -> "Place":
        """The place of a path or a URL.

        Raises:
            ParamsError: no library here knows the URL.
        """
        scheme, mark, rest = str(where).partition("://")
        if mark and scheme not in ("file", "local"):
            from mmprep.pipeline.storage.remote_store import remote_place  # fsspec is needed for URLs only

            return remote_place(str(where))
        return LocalPlace(Path(rest if mark else where).expanduser())

    @abstractmethod
    def child(self, name: str) -> "Place":
        """A folder in this one."""

    @abstractmethod
    def entries(self) -> list[Entry]:
        """The files, by name."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The names of the folders in this one, sorted."""

    @abstractmethod
    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """A file's bytes from `start` to before `end`. Raises FileNotFoundError if there is none."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Put bytes in the place under a name, instead of what had it. Durable when the call returns."""

    @abstractmethod
    def fetch(self, name: str) -> Path:
        """A file as one of this machine, itself or a copy until `close`. Raises FileNotFoundError if there is none."""

    @abstractmethod
    def discard_copy(self, name: str) -> bool:
        """Forget what `fetch` copied, so that it copies again; False if it makes no copies."""

    @abstractmethod
    def scratch(self) -> Path:
        """A name for a new file of this machine that `put` can take."""

    @abstractmethod
    def put(self, file: Path, name: str) -> None:
        """Like `write`, with the content of a file that `scratch` named; the file is gone afterwards."""

    @abstractmethod
    def move(self, name: str, new: str) -> None:
        """Rename a file, maybe into a folder of the place. Raises FileNotFoundError if there is none."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def remove_if_empty(self) -> None:
        """Remove the folder itself unless something is in it."""

    def close(self) -> None:
        """Remove the copies that `fetch` made."""
        return


class LocalPlace(Place):
    """A folder of this machine's file system, or of one that it mounts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def child(self, name: str) -> "LocalPlace":  # noqa: D102 - as Place says; so below
        return LocalPlace(self.folder / name)

    def entries(self) -> list[Entry]:  # noqa: D102
        found = []
        for item in self._scan():
            with suppress(FileNotFoundError):  # gone since the folder was listed
                if item.is_file(follow_symlinks=False):
                    state = item.stat(follow_symlinks=False)
                    found.append(Entry(item.name, state.st_size, state.st_mtime))
        return sorted(found, key=lambda entry: entry.name)

    def folders(self) -> list[str]:  # noqa: D102
        return sorted(item.name for item in self._scan() if item.is_dir(follow_symlinks=False))

    def _scan(self) -> list[os.DirEntry[str]]:
        try:
            with self._told("listed"), os.scandir(self.folder) as found:
                return list(found)
        except FileNotFoundError:
            return []

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:  # noqa: D102
        with self._told("read"), (self.folder / name).open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else max(0, end - start))

    def write(self, name: str, content: bytes) -> None:  # noqa: D102
        with self._told("written"):
            temporary = self.scratch()
            try:
                temporary.write_bytes(content)
                self._install(temporary, name)
            finally:
                temporary.unlink(missing_ok=True)

    def fetch(self, name: str) -> Path:  # noqa: D102
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return path

    def discard_copy(self, name: str) -> bool:  # noqa: ARG002, D102 - a local file needs no copy
        return False

    def scratch(self) -> Path:  # noqa: D102
        with self._told("written"):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / temporary_name()

    def put(self, file: Path, name: str) -> None:  # noqa: D102
        with self._told("written"):
            self._install(file, name)

    def _install(self, file: Path, name: str) -> None:
        """Give a file of this folder its name once its bytes are on the disk, and then write the folder down too."""
        sync(file)
        file.replace(self.folder / name)
        sync(self.folder)

    def move(self, name: str, new: str) -> None:  # noqa: D102
        with self._told("changed"):
            target = self.folder / new
            target.parent.mkdir(exist_ok=True)
            (self.folder / name).replace(target)

    def delete(self, name: str) -> None:  # noqa: D102
        with self._told("changed"):
            (self.folder / name).unlink(missing_ok=True)

    def remove_if_empty(self) -> None:  # noqa: D102
        with suppress(OSError):  # not empty, or not there
            self.folder.rmdir()

    @contextmanager
    def _told(self, verb: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PlaceError(f"{self}: cannot be {verb} ({error.strerror or error})") from error


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def temporary_name() -> str:
    """A name that no other process of any machine chooses, and that tells whether its process still runs."""
    return f".{this_host()}.{os.getpid()}.{secrets.token_hex(8)}.partial"


def this_host() -> str:
    """What tells this machine from others, where process numbers mean others: since its boot, and per container."""
    parts = [platform.node()]
    with suppress(OSError):  # only Linux has these
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def is_leftover(entry: Entry) -> bool:
    """Whether a file is what a writer left that runs no more: a dead process of this machine, or a day has passed."""
    found = TEMPORARY.fullmatch(entry.name)
    if found is None:
        return False
    if found["host"] == this_host() and not is_alive(int(found["process"])):
        return True
    return entry.changed is not None and time.time() - entry.changed > LEFTOVER_SECONDS


def is_alive(process: int) -> bool:
    """Whether a process of this number, maybe this one, runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
