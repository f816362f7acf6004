"""Index of the photos in a tar archive, built by reading its headers only."""

import tarfile
from collections.abc import Iterator
from typing import IO

from mmprep.pipeline.photos.archives import Index, Member, read_at
from mmprep.pipeline.photos.decode import MAX_BYTES
from mmprep.pipeline.reject_reasons import Reason

BLOCK = 512  # bytes, the unit of the tar format
PADDING = 20 * BLOCK  # tar pads a file with zeros to a multiple of this
MAX_EXTENDED = 1 << 20  # bytes of a header with a long name
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0")
LONG_NAMES = frozenset({tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME})
NOT_NEEDED = frozenset({tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK})
# Their headers may declare a size, for a link that of its target, but no bytes follow.
WITHOUT_BYTES = frozenset(
    {tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE}
)


def index_tar(file: IO[bytes], size: int) -> Index:
    """Index the photos of a tar of `size` bytes; those before any damage are included."""
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
    """Location of a member, or why it cannot be used."""
    if header.type == tarfile.GNUTYPE_SPARSE:
        return Reason.UNKNOWN_PACKING
    if not header.isreg():
        return Reason.NOT_A_FILE
    if header.size > MAX_BYTES:
        return Reason.FILE_TOO_LARGE
    return Member(offset, header.size) if offset + header.size <= archive_size else Reason.BAD_ARCHIVE


def tar_members(file: IO[bytes], size: int) -> Iterator[tuple[str, tarfile.TarInfo, int]]:
    """Iterate over the members: name, header, and offset of the bytes.

    Not with `tarfile`, which treats a damaged header as the end, and reads a long name of any declared size.

    Raises:
        tarfile.HeaderError, ValueError: the tar is truncated, damaged, or continues after its end marker.
    """
    offset, extended = 0, dict[str, str]()
    while any(block := read_at(file, offset, BLOCK)) or len(block) < BLOCK:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        offset += BLOCK
        require_size(header)
        if header.type in LONG_NAMES:
            extended |= read_extended(file, header, offset)
        elif header.type not in NOT_NEEDED:
            header.size = int(extended.get("size", header.size))
            require_size(header)
            if any(key.startswith("GNU.sparse.") for key in extended):
                header.type = tarfile.GNUTYPE_SPARSE
            yield extended.get("path", header.name), header, offset
            extended = {}
        if header.type not in WITHOUT_BYTES:
            offset += -(-header.size // BLOCK) * BLOCK
        if offset > size:
            raise ValueError("impossible size")
    if any(read_at(file, offset, PADDING)):
        raise ValueError("bytes after the end, as in concatenated archives")


def require_size(header: tarfile.TarInfo) -> None:
    """Check a declared size before any use: base-256 and extended headers can declare negative ones.

    Raises:
        ValueError: it is negative.
    """
    if header.size < 0:
        raise ValueError("negative size")


def read_extended(file: IO[bytes], header: tarfile.TarInfo, offset: int) -> dict[str, str]:
    """Read a GNU or POSIX extended header: attributes of the member that follows it.

    Raises:
        ValueError: the header is damaged or too long.
    """
    if not 0 <= header.size <= MAX_EXTENDED:
        raise ValueError("extended header too long")
    content = read_at(file, offset, header.size)
    if header.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    records, start = {}, 0
    while start < len(content) and content[start]:
        digits = content[start : content.index(b" ", start)]  # "LENGTH KEY=VALUE\n", LENGTH counting the whole record
        record = content[start + len(digits) + 1 : start + int(digits) - 1]
        key, _, value = record.decode("utf-8", "surrogateescape").partition("=")
        records[key] = value
        start += max(int(digits), 1)
    return records
