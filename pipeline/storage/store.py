"""Interface to a folder shared by users and machines: on a local disk, over NFS, or behind any URL of fsspec."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import DataError


class StoreError(DataError):
    """A store cannot be read or written."""


@dataclass(frozen=True)
class FileInfo:
    """A file in a store.

    Attributes:
        name: file name within the store.
        size: in bytes.
        changed: time of the last change, in seconds since 1970; None if the store does not report it.
    """

    name: str
    size: int
    changed: float | None


class Store(ABC):
    """A folder with atomic writes. A missing folder counts as empty and is created by the first file.

    Every method raises StoreError, one line, when the store cannot be read or written.
    """

    @abstractmethod
    def child(self, name: str) -> "Store":
        """A subfolder."""

    @abstractmethod
    def entries(self) -> list[FileInfo]:
        """The files, by name."""

    @abstractmethod
    def folders(self) -> list[str]:
        """The names of the subfolders, sorted."""

    @abstractmethod
    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """A file's bytes from `start` up to `end`, exclusive. Raises FileNotFoundError if the file does not exist."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file, replacing any of that name. Durable when the call returns."""

    @abstractmethod
    def local_copy(self, name: str) -> Path:
        """Local path of a file: itself, or a copy kept until `close`. Raises FileNotFoundError if it does not exist."""

    @abstractmethod
    def discard_copy(self, name: str) -> bool:
        """Discard a copy made by `local_copy`, so that it copies again; False if this store makes no copies."""

    @abstractmethod
    def scratch(self) -> Path:
        """Path for a new local file to pass to `upload`."""

    @abstractmethod
    def upload(self, file: Path, name: str) -> None:
        """Like `write`, with the content of a local file at a path from `scratch`; the local file is removed."""

    @abstractmethod
    def move(self, name: str, new: str) -> None:
        """Rename a file, possibly into a subfolder. Raises FileNotFoundError if it does not exist."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file if it exists."""

    @abstractmethod
    def remove_if_empty(self) -> None:
        """Remove the folder itself if it is empty."""

    def close(self) -> None:
        """Remove the copies made by `local_copy`."""
        return
