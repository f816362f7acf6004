"""Photos in plain archives: what is known of each, and reading it by its place, on any thread."""

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from mmprep.pipeline.photos.decode import SUFFIXES, PhotoError
from mmprep.pipeline.reject_reasons import Reason

ZIP_HEADER = 30  # bytes, before the name


class Zipped(NamedTuple):
    """What a zip says of a member's bytes: how they are packed, how many they are, and their CRC-32."""

    method: int
    size: int
    checksum: int


class Member(NamedTuple):
    """Where a photo lies in an archive.

    Attributes:
        offset: of the bytes in a tar, of the header before them in a zip.
        stored: how many bytes there are in the archive.
        zipped: how to unpack them; None in a tar.
    """

    offset: int
    stored: int
    zipped: Zipped | None = None


@dataclass
class Index:
    """The photos of an archive.

    Attributes:
        members: by name. Of several of one name the last, as when the archive is unpacked.
        rejects: the photos that cannot be used, and why.
        others: how many members are no photos by their names, or hidden; they are passed over.
        fault: why the archive's rest cannot be read, if so.
    """

    members: dict[str, Member] = field(default_factory=dict)
    rejects: list[tuple[str, Reason]] = field(default_factory=list)
    others: int = 0
    fault: Reason | None = None

    def add(self, path: str, found: Member | Reason) -> None:
        """Note a member; its name stays a name and is never made into a path on disk."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        name = "/".join(parts)
        if PurePosixPath(name).suffix.lower() not in SUFFIXES or is_hidden(parts):
            self.others += 1
        elif ".." in parts:
            self.rejects.append((name, Reason.BAD_NAME))
        elif not is_text(name):
            self.rejects.append((name, Reason.BAD_ENCODING))
        elif isinstance(found, Reason):
            self.rejects.append((name, found))
        else:
            if name in self.members:
                self.rejects.append((name, Reason.SECOND_PHOTO))
            self.members[name] = found


def is_hidden(parts: list[str]) -> bool:
    """Whether one of a path's names begins with a dot, as those do that systems leave beside photos."""
    return any(part.startswith(".") and part != ".." for part in parts)


def is_text(name: str) -> bool:
    """Whether a name can be written to a table."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_member(path: Path, member: Member) -> bytes:
    """The bytes of a photo in an archive.

    Raises:
        PhotoError: the archive is damaged there.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        offset = member.offset
        if member.zipped is not None:
            offset += zip_header_size(read_at(file, offset, ZIP_HEADER))
        content = read_at(file, offset, member.stored)
    if len(content) < member.stored:
        raise PhotoError(Reason.BAD_ARCHIVE)
    return content if member.zipped is None else unzip(content, member.zipped)


def zip_header_size(header: bytes) -> int:
    """The bytes from the start of a zip member's header to its data."""
    if len(header) < ZIP_HEADER or not header.startswith(b"PK\3\4"):
        raise PhotoError(Reason.BAD_ARCHIVE)
    name, extra = struct.unpack_from("<HH", header, 26)
    return ZIP_HEADER + int(name) + int(extra)


def unzip(content: bytes, zipped: Zipped) -> bytes:
    """Unpack a zip's member, never to more than the zip says that it has."""
    if zipped.method == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, zipped.size + 1)
        except zlib.error as error:
            raise PhotoError(Reason.BAD_ARCHIVE) from error
    if len(content) != zipped.size or zlib.crc32(content) != zipped.checksum:
        raise PhotoError(Reason.BAD_ARCHIVE)
    return content


def read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    """At most `size` bytes from a place on."""
    file.seek(offset)
    return file.read(size)
