"""The photos of a raw folder: files below images/, and members of tar and zip archives."""

import logging
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from threading import Lock
from types import TracebackType
from typing import Self

from mmprep.pipeline.photos.archives import NOTE, Index, is_hidden, is_text, read_member
from mmprep.pipeline.photos.decode import MAX_BYTES, PhotoError
from mmprep.pipeline.photos.names import may_be_photo
from mmprep.pipeline.photos.tar_index import index_tar
from mmprep.pipeline.photos.zip_index import index_zip
from mmprep.pipeline.reject_reasons import Reason

logger = logging.getLogger(__name__)

IMAGES = "images"
ARCHIVES = (".tar", ".zip")
COMPRESSED = (
    *(f".tar.{kind}" for kind in ("gz", "bz2", "xz", "zst", "lz4", "lzma", "z")),
    *(".tgz", ".tbz2", ".txz", ".tzst", ".7z", ".rar"),
)
MAX_NOTE_BYTES = 1 << 20
DVC_CACHE = re.compile(r"(files/md5|cache)/[0-9a-f]{2}/[0-9a-f]{30}$")

Candidate = tuple[str, Reason | None]
"""A photo's name below the raw folder, and why it is rejected unread; None if it is not."""


class PhotoFiles:
    """The photos of a dataset's raw folder; thread-safe.

    A photo's name is its path below the raw folder (`images/B0.jpg`) or, in an archive, the archive's path and the
    member's name (`images/0001.tar/B0.jpg`). Archives are `images.tar`, `images.zip`, and those below images/.

    The folder's content is not trusted: a link below images/ must point into the raw folder or images/, or to a file
    of DVC's cache, recognised by its folder (`files/md5/`, in DVC 2 `cache/`) and by being named after its digest, so
    that checkouts by symbolic links work. If the raw folder, images/, images.tar or images.zip is itself a link, it is
    followed, as the user created it.
    """

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self._homes = (raw.resolve(), (raw / IMAGES).resolve())
        self._indexes: dict[str, Index] = {}
        self._indexing = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop the archives' indexes; no file stays open between reads."""
        self._indexes.clear()

    def names(self) -> Iterator[Candidate]:
        """All candidates, sorted by name, without hidden files and other members of archives."""
        yield from sorted(self._candidates(), key=lambda candidate: candidate[0])

    def read(self, name: str) -> bytes:
        """Read the bytes of a photo.

        Args:
            name: from `names`.

        Raises:
            PhotoError: the photo is gone, or cannot be read.
        """
        try:
            parts = PurePosixPath(name).parts
            if ".." in parts or name.startswith("/"):
                raise PhotoError(Reason.BAD_NAME)
            archive = self._archive_of(parts)
            if archive is None:
                return self._read_file(name)
            member = self._index(archive).members.get(name.removeprefix(f"{archive}/"))
            if member is None:
                raise PhotoError(Reason.MISSING_FILE)
            return read_member(self._raw / archive, member)
        except FileNotFoundError as error:
            raise PhotoError(Reason.MISSING_FILE) from error
        except OSError as error:
            logger.warning("%s: %s", self._raw / name, error)
            raise PhotoError(Reason.UNREADABLE) from error

    def note(self, name: str) -> bytes | None:
        """Read the .json beside a photo, which has the photo's name, as img2dataset writes it.

        Args:
            name: from `names`.

        Returns:
            Its bytes; None if there is none, or it is too large or cannot be read.
        """
        beside = str(PurePosixPath(name).with_suffix(NOTE))
        try:
            archive = self._archive_of(PurePosixPath(name).parts)
            if archive is None:
                return self._read_file(beside, MAX_NOTE_BYTES)
            member = self._index(archive).notes.get(beside.removeprefix(f"{archive}/"))
            if member is None or max(member.stored, member.zipped.size if member.zipped else 0) > MAX_NOTE_BYTES:
                return None
            return read_member(self._raw / archive, member)
        except (OSError, PhotoError):
            return None

    def _candidates(self) -> Iterator[Candidate]:
        for name, fault in [*self._beside(), *self._below(IMAGES)]:
            reason = fault or refuse_name(name)
            if reason is Reason.COMPRESSED_ARCHIVE:
                logger.warning("%s: %s; unpack it, or pack it again as plain tar", self._raw / name, reason.value)
            if reason is None and name.lower().endswith(ARCHIVES):
                yield from self._members(name)
            else:
                yield name, reason

    def _beside(self) -> Iterator[Candidate]:
        """The archives beside images/, such as images.tar."""
        for path in self._raw.iterdir():
            if path.name.startswith(f"{IMAGES}.") and path.name.lower().endswith((*ARCHIVES, *COMPRESSED)):
                yield path.name, None if path.exists() else Reason.DANGLING_LINK

    def _below(self, folder: str) -> Iterator[Candidate]:
        path = self._raw / folder
        if not path.is_dir():
            if path.is_symlink() or path.exists():
                yield folder, Reason.NOT_A_FILE if path.exists() else Reason.DANGLING_LINK
            return
        with os.scandir(path) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if is_hidden([entry.name]):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._below(name)
                elif entry.is_symlink():
                    yield name, self._refuse_link(Path(entry.path))
                else:
                    yield name, None if entry.is_file() else Reason.NOT_A_FILE

    def _refuse_link(self, path: Path) -> Reason | None:
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError for a link to itself, until Python 3.13
            return Reason.DANGLING_LINK
        if target.is_dir():
            return Reason.LINKED_FOLDER
        if not target.is_file():
            return Reason.NOT_A_FILE
        return None if self._allows(target) else Reason.LINK_OUT

    def _allows(self, target: Path) -> bool:
        """Whether photos may be read from this path, with all links resolved."""
        return any(target.is_relative_to(home) for home in self._homes) or bool(DVC_CACHE.search(target.as_posix()))

    def _members(self, archive: str) -> Iterator[Candidate]:
        path = self._raw / archive
        try:
            index = self._index(archive)
        except OSError as error:
            logger.warning("%s: %s", path, error)
            yield archive, Reason.UNREADABLE
            return
        yield from ((f"{archive}/{name}", reason) for name, reason in index.rejects)
        yield from ((f"{archive}/{name}", None) for name in index.members)
        count = len(index.members)
        logger.info("%s: %d photos, %d other files passed over", path, count, index.others)
        if index.fault is not None:
            logger.warning("%s: %s; the photos before that are used: %d", path, index.fault.value, count)
            yield archive, index.fault
        elif not count and not index.rejects:
            yield archive, Reason.NO_PHOTOS

    def _archive_of(self, parts: tuple[str, ...]) -> str | None:
        """The archive that contains a photo of this name; None for a plain file."""
        for end in range(1, len(parts)):
            name = "/".join(parts[:end])
            if name.lower().endswith(ARCHIVES) and (name in self._indexes or (self._raw / name).is_file()):
                return name
        return None

    def _index(self, archive: str) -> Index:
        with self._indexing:
            if archive not in self._indexes:
                if "/" in archive and not self._allows((self._raw / archive).resolve(strict=True)):
                    raise PhotoError(Reason.LINK_OUT)
                self._indexes[archive] = index_archive(self._raw / archive)
            return self._indexes[archive]

    def _read_file(self, name: str, limit: int | None = None) -> bytes:
        path = (self._raw / name).resolve(strict=True)
        if not self._allows(path):
            raise PhotoError(Reason.LINK_OUT)
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # opening a pipe would block for ever
            raise PhotoError(Reason.NOT_A_FILE)
        if state.st_size > (MAX_BYTES if limit is None else limit):
            raise PhotoError(Reason.FILE_TOO_LARGE)
        return path.read_bytes()


def refuse_name(name: str) -> Reason | None:
    """Why a file is not a photo or an archive of photos, judged by its name; None if it may be one."""
    if not is_text(name):
        return Reason.BAD_ENCODING
    if name.lower().endswith(COMPRESSED):
        return Reason.COMPRESSED_ARCHIVE
    return None if may_be_photo(name) or name.lower().endswith(ARCHIVES) else Reason.NOT_A_PHOTO


def index_archive(path: Path) -> Index:
    """Index the photos of an archive, a zip or tar by its suffix.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            return Index(fault=Reason.EMPTY_FILE)
        return index_zip(file, size) if path.suffix.lower() == ".zip" else index_tar(file, size)
