"""Stores behind a URL: object stores and the other file systems of fsspec."""

import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from mmprep.pipeline.errors import MmprepError, ParamsError, first_line
from mmprep.pipeline.storage.store import FileInfo, Store, StoreError
from mmprep.pipeline.storage.temporary import scratch_folder, temporary_name

EXTRAS = {"s3": "mmprep[s3]", "s3a": "mmprep[s3]"}
# These have no folders to create; in some of them, creating one would create a bucket for a mistyped name.
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory"}
CHANGED = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")


def open_remote_store(url: str) -> "RemoteStore":
    """Open the store at a URL without contacting it.

    Raises:
        ParamsError: the URL's scheme is unknown, or its library is not installed.
    """
    scheme = url.partition("://")[0]
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        line = f"`pip install '{EXTRAS[scheme]}'`" if scheme in EXTRAS else first_line(error)
        raise ParamsError(f"{shown(url)}: a library for {scheme}:// is not installed; {line}") from error
    except Exception as error:
        raise ParamsError(
            f"{shown(url)}: not a place ({first_line(error)}); give a folder or a URL such as s3://bucket/folder"
        ) from error
    return RemoteStore(files, path.rstrip("/"), shown(url).rstrip("/"), scheme in OBJECT_STORES)


class RemoteStore(Store):
    """A folder of an fsspec file system. A file is written by a single upload, so it appears whole."""

    def __init__(self, files: Any, path: str, url: str, is_store: bool) -> None:  # noqa: ANN401 - fsspec has no types
        self.path = path
        self.url = url
        self._files = files
        self._is_store = is_store
        self._copies: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.url

    def child(self, name: str) -> "RemoteStore":  # noqa: D102 - documented in Store; so below
        return RemoteStore(self._files, self._at(name), f"{self.url}/{name}", self._is_store)

    def entries(self) -> list[FileInfo]:  # noqa: D102
        files = [info for info in self._list() if info["type"] == "file"]
        return sorted((FileInfo(name_of(info), info["size"], changed(info)) for info in files), key=lambda e: e.name)

    def folders(self) -> list[str]:  # noqa: D102
        return sorted(name_of(info) for info in self._list() if info["type"] == "directory")

    def _list(self) -> list[dict[str, Any]]:
        try:
            with self._translate_errors("listed"):
                self._files.invalidate_cache()
                # Some stores list the folder itself as an empty file.
                return [
                    i for i in self._files.ls(self.path, detail=True) if i["name"].strip("/") != self.path.strip("/")
                ]
        except FileNotFoundError:
            return []

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:  # noqa: D102
        with self._translate_errors("read"):
            return bytes(self._files.cat_file(self._at(name), start=start or None, end=end))

    def write(self, name: str, content: bytes) -> None:  # noqa: D102
        with self._written(name):
            self._files.pipe_file(self._at(name), content)

    def local_copy(self, name: str) -> Path:  # noqa: D102
        copy = self._folder() / name
        if not copy.exists():
            partial = self._folder() / temporary_name(name)
            with self._translate_errors("read"):
                self._files.get_file(self._at(name), str(partial))
            partial.replace(copy)
        return copy

    def discard_copy(self, name: str) -> bool:  # noqa: D102
        (self._folder() / name).unlink(missing_ok=True)
        return True

    def scratch(self) -> Path:  # noqa: D102
        return self._folder() / temporary_name("scratch")

    def upload(self, file: Path, name: str) -> None:  # noqa: D102
        with self._written(name):
            self._files.put_file(str(file), self._at(name))
        file.unlink()

    def move(self, name: str, new: str) -> None:  # noqa: D102
        with self._translate_errors("changed"):
            if not self._is_store:
                self._files.makedirs(self._at(new).rpartition("/")[0], exist_ok=True)
                self._files.mv(self._at(name), self._at(new))
                return
            # Not `mv`, which object stores only copy, and which treats brackets and stars in a path as a pattern.
            self._files.cp_file(self._at(name), self._at(new))
            self._files.rm_file(self._at(name))

    def delete(self, name: str) -> None:  # noqa: D102
        with suppress(FileNotFoundError), self._translate_errors("changed"):
            self._files.rm_file(self._at(name))

    def remove_if_empty(self) -> None:  # noqa: D102
        if not self._is_store and not self._list():
            with suppress(FileNotFoundError), self._translate_errors("changed"):
                self._files.rmdir(self.path)

    def close(self) -> None:  # noqa: D102
        if self._copies is not None:
            self._copies.cleanup()
            self._copies = None

    def _at(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _folder(self) -> Path:
        with self._lock:  # several threads copy files at once
            if self._copies is None:
                self._copies = scratch_folder()
            return Path(self._copies.name)

    @contextmanager
    def _written(self, name: str) -> Iterator[None]:
        try:
            with self._translate_errors("written"):
                if not self._is_store:
                    self._files.makedirs(self.path, exist_ok=True)
                yield
        except FileNotFoundError as error:
            raise StoreError(f"{self}: {name} cannot be written (no such bucket or folder)") from error

    @contextmanager
    def _translate_errors(self, verb: str) -> Iterator[None]:
        """Turn each library's own errors for a wrong key, a lost network or no permission into one-line StoreErrors."""
        try:
            yield
        except (FileNotFoundError, MmprepError):
            raise
        except Exception as error:
            raise StoreError(f"{self}: cannot be {verb} ({first_line(error)})") from error


def name_of(info: dict[str, Any]) -> str:
    """Last component of a listed path."""
    return str(info["name"]).rstrip("/").rpartition("/")[2]


def changed(info: dict[str, Any]) -> float | None:
    """When a listed file was last written, in seconds since 1970; None if the listing does not include it."""
    for key in CHANGED:
        when = info.get(key)
        if isinstance(when, str):
            with suppress(ValueError):
                when = datetime.fromisoformat(when)
        if isinstance(when, datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return None


def shown(url: str) -> str:
    """A URL without user name and password, for messages."""
    return re.sub(r"(?<=://)[^/@]*@", "", url)
