"""Where the photos of a tar lie, told by its headers alone."""

import tarfile
from collections.abc import Iterator
from typing import IO

from mmprep.pipeline.photos.archives import Index, Member, read_at
from mmprep.pipeline.photos.decode import MAX_BYTES
from mmprep.pipeline.reject_reasons import Reason

BLOCK = 512  # a tar's unit
PADDING = 20 * BLOCK  # up to which tar fills a file with zeros
MAX_EXTENDED = 1 << 20  # of a header that holds a long name
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0")
LONG_NAMES = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME})
NOT_NEEDED = frozenset({tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK})
# Their headers may give a size, a link's that of its target, but no bytes follow.
WITHOUT_BYTES = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE}
)


def index_tar(file: IO[bytes], size: int) -> Index:
    """Find the photos of a tar of `size` bytes; those before a damage are found."""
    if read_at(file, 0, BLOCK).startswith(COMPRESSED):
        return Index(fault=Reason.COMPRESSED_ARCHIVE)
    index = Index()
    try:
        for name, header, offset in tar_members(file, size):
            if not header.isdir():
                index.add(name, place(header, offset, size))
    except (tarfile.HeaderError, ValueError):
        index.fault = Reason.BAD_ARCHIVE
    return index


def place(header: tarfile.TarInfo, offset: int, archive_size: int) -> Member | Reason:
    """Where a member lies, or why it cannot be used."""
    if header.type == tarfile.GNUTYPE_SPARSE:
        return Reason.UNKNOWN_PACKING
    if not header.isreg():
        return Reason.NOT_A_FILE
    if header.size > MAX_BYTES:
        return Reason.FILE_TOO_LARGE
    return Member(offset, header.size) if offset + header.size <= archive_size else Reason.BAD_ARCHIVE


def tar_members(file: IO[bytes], size: int) -> Iterator[tuple[str, tarfile.TarInfo, int]]:
    """The name, the header and the offset of the bytes of each member.

    Python's own walk over a tar takes a damaged header for the end, and reads whatever a header says is a long name.

    Raises:
        tarfile.HeaderError, ValueError: the tar is cut off, damaged, or goes on behind its end.
    """
    offset, known = 0, dict[str, str]()
    while any(block := read_at(file, offset, BLOCK)) or len(block) < BLOCK:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        offset += BLOCK
        if header.type in LONG_NAMES:
            known |= read_extended(file, header, offset)
        elif header.type not in NOT_NEEDED:
            header.size = int(known.get("size", header.size))
            if any(key.startswith("GNU.sparse.") for key in known):
                header.type = tarfile.GNUTYPE_SPARSE
            yield known.get("path", header.name), header, offset
            known = {}
        if header.type not in WITHOUT_BYTES:
            offset += -(-header.size // BLOCK) * BLOCK
        if header.size < 0 or offset > size:
            raise ValueError("a size that cannot be")
    if any(read_at(file, offset, PADDING)):
        raise ValueError("bytes behind the end, as of archives that were joined")


def read_extended(file: IO[bytes], header: tarfile.TarInfo, offset: int) -> dict[str, str]:
    """What a header of GNU or of POSIX says of the member behind it.

    Raises:
        ValueError: it is damaged or too long.
    """
    if not 0 <= header.size <= MAX_EXTENDED:
        raise ValueError("an extended header too long")
    content = read_at(file, offset, header.size)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    records, start = {}, 0
    while start < len(content) and content[start]:
        digits = content[start : content.index(b" ", start)]  # "LENGTH KEY=VALUE\n", the length of all of it
        record = content[start + len(digits) + 1 : start + int(digits) - 1]
        key, _, value = record.decode("utf-8", "surrogateescape").partition("=")
        records[key] = value
        start += max(int(digits), 1)
    return records
