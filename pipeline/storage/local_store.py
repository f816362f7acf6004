"""Stores on a local or mounted file system."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mmprep.pipeline.storage.store import FileInfo, Store, StoreError
from mmprep.pipeline.storage.temporary import temporary_name


class LocalStore(Store):
    """A folder of a local or mounted file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def child(self, name: str) -> "LocalStore":  # noqa: D102 - documented in Store; so below
        return LocalStore(self.folder / name)

    def entries(self) -> list[FileInfo]:  # noqa: D102
        files = []
        for item in self._scan():
            with suppress(FileNotFoundError):  # gone since the folder was listed
                if item.is_file(follow_symlinks=False):
                    state = item.stat(follow_symlinks=False)
                    files.append(FileInfo(item.name, state.st_size, state.st_mtime))
        return sorted(files, key=lambda entry: entry.name)

    def folders(self) -> list[str]:  # noqa: D102
        return sorted(item.name for item in self._scan() if item.is_dir(follow_symlinks=False))

    def _scan(self) -> list[os.DirEntry[str]]:
        try:
            with self._translate_errors("listed"), os.scandir(self.folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:  # noqa: D102
        with self._translate_errors("read"), (self.folder / name).open("rb") as file:
            file.seek(start)
            return file.read(-1 if end is None else max(0, end - start))

    def write(self, name: str, content: bytes) -> None:  # noqa: D102
        with self._translate_errors("written"):
            temporary = self._temporary(name)
            try:
                temporary.write_bytes(content)
                self._install(temporary, name)
            finally:
                temporary.unlink(missing_ok=True)

    def local_copy(self, name: str) -> Path:  # noqa: D102
        path = self.folder / name
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return path

    def discard_copy(self, name: str) -> bool:  # noqa: ARG002, D102 - a local file needs no copy
        return False

    def scratch(self) -> Path:  # noqa: D102
        with self._translate_errors("written"):
            return self._temporary("scratch")

    def _temporary(self, name: str) -> Path:
        # Leftovers are left to `CacheFolder.sweep`: listing a folder of many shards before each write is slow on NFS.
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / temporary_name(name)

    def upload(self, file: Path, name: str) -> None:  # noqa: D102
        with self._translate_errors("written"):
            self._install(file, name)

    def _install(self, file: Path, name: str) -> None:
        """Rename a file of this folder once its bytes are on the disk, then sync the folder too."""
        sync(file)
        file.replace(self.folder / name)
        sync(self.folder)

    def move(self, name: str, new: str) -> None:  # noqa: D102
        with self._translate_errors("changed"):
            target = self.folder / new
            target.parent.mkdir(exist_ok=True)
            (self.folder / name).replace(target)

    def delete(self, name: str) -> None:  # noqa: D102
        with self._translate_errors("changed"):
            (self.folder / name).unlink(missing_ok=True)

    def remove_if_empty(self) -> None:  # noqa: D102
        with suppress(OSError):  # not empty, or not there
            self.folder.rmdir()

    @contextmanager
    def _translate_errors(self, verb: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreError(f"{self}: cannot be {verb} ({error.strerror or error})") from error


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
