"""A folder that people and machines share: on a disk, over NFS, or behind any URL that fsspec knows."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from mmprep.pipeline.errors import DataError


class StoreError(DataError):
    """A place cannot be read or written."""


@dataclass(frozen=True)
class FileInfo:
    """A file of a place.

    Attributes:
        name: within the place.
        size: in bytes.
        changed: seconds since 1970; None where the place does not tell.
    """

    name: str
    size: int
    changed: float | None


class Store(ABC):
    """A folder of files that appear whole or not at all. A missing one is empty, and made by the first file.

    Every method raises StoreError, one line, when the place cannot be used as asked.
    """

    @abstractmethod
    def child(self, name: str) -> "Store":
        """A folder in this one."""

    @abstractmethod
    def entries(self) -> list[FileInfo]:
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
    def local_copy(self, name: str) -> Path:
        """A file as one of this machine, itself or a copy until `close`. Raises FileNotFoundError if there is none."""

    @abstractmethod
    def discard_copy(self, name: str) -> bool:
        """Forget what `fetch` copied, so that it copies again; False if it makes no copies."""

    @abstractmethod
    def scratch(self) -> Path:
        """A name for a new file of this machine that `put` can take."""

    @abstractmethod
    def upload(self, file: Path, name: str) -> None:
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
