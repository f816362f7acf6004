"""Index of the photos in a tar or zip archive, and thread-safe random access to them."""

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from mmprep.pipeline.photos.decode import PhotoError
from mmprep.pipeline.photos.names import may_be_photo
from mmprep.pipeline.reject_reasons import Reason

NOTE = ".json"
ZIP_HEADER = 30  # bytes, before the name


class Zipped(NamedTuple):
    """A zip member's compression method, uncompressed size and CRC-32."""

    method: int
    size: int
    checksum: int


class Member(NamedTuple):
    """Location of a photo in an archive.

    Attributes:
        offset: of the photo's bytes in a tar; of the header before them in a zip.
        stored: number of bytes stored in the archive.
        zipped: how to decompress them; None in a tar.
    """

    offset: int
    stored: int
    zipped: Zipped | None = None


@dataclass
class Index:
    """The photos of an archive.

    Attributes:
        members: photos by name; of several with one name the last, as when the archive is unpacked.
        rejects: unusable photos with the reason.
        notes: the .json members, such as those that img2dataset writes beside photos.
        others: number of skipped members: hidden, or with another suffix than a photo's.
        fault: why the rest of the archive cannot be read; None if it can.
    """

    members: dict[str, Member] = field(default_factory=dict)
    rejects: list[tuple[str, Reason]] = field(default_factory=list)
    notes: dict[str, Member] = field(default_factory=dict)
    others: int = 0
    fault: Reason | None = None

    def add(self, path: str, member: Member | Reason) -> None:
        """Add a member; its name is only a key and is never used as a path on disk."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        name = "/".join(parts)
        if not may_be_photo(name) or is_hidden(parts):
            self.others += 1
            if name.endswith(NOTE) and isinstance(member, Member):
                self.notes[name] = member
        elif ".." in parts:
            self.rejects.append((name, Reason.BAD_NAME))
        elif not is_text(name):
            self.rejects.append((name, Reason.BAD_ENCODING))
        elif isinstance(member, Reason):
            self.rejects.append((name, member))
        else:
            if name in self.members:
                self.rejects.append((name, Reason.SECOND_PHOTO))
            self.members[name] = member


def is_hidden(parts: list[str]) -> bool:
    """Whether a component of a path begins with a dot, as in `.DS_Store` and other files left by systems."""
    return any(part.startswith(".") and part != ".." for part in parts)


def is_text(name: str) -> bool:
    """Whether a name is valid UTF-8, so that it can be written to a table."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_member(path: Path, member: Member) -> bytes:
    """Read the bytes of a photo in an archive.

    Raises:
        PhotoError: the archive is damaged at that location.
        OSError: the archive cannot be read.
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
    """Number of bytes from the start of a zip member's header to its data."""
    if len(header) < ZIP_HEADER or not header.startswith(b"PK\3\4"):
        raise PhotoError(Reason.BAD_ARCHIVE)
    name, extra = struct.unpack_from("<HH", header, 26)
    return ZIP_HEADER + int(name) + int(extra)


def unzip(content: bytes, zipped: Zipped) -> bytes:
    """Decompress a zip member, never to more bytes than the zip declares."""
    if zipped.method == zipfile.ZIP_DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, zipped.size + 1)
        except zlib.error as error:
            raise PhotoError(Reason.BAD_ARCHIVE) from error
    if len(content) != zipped.size or zlib.crc32(content) != zipped.checksum:
        raise PhotoError(Reason.BAD_ARCHIVE)
    return content


def read_at(file: IO[bytes], offset: int, size: int) -> bytes:
    """Read at most `size` bytes from an offset.

    Raises:
        ValueError: the size is negative, for which a file would be read to its end.
    """
    if size < 0:
        raise ValueError("negative size")
    file.seek(offset)
    return file.read(size)
