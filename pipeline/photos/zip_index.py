"""Index of the photos in a zip archive, read from its central directory."""

import stat
import struct
import zipfile
from typing import IO

from mmprep.pipeline.photos.archives import ZIP_HEADER, Index, Member, Zipped
from mmprep.pipeline.photos.decode import MAX_BYTES
from mmprep.pipeline.reject_reasons import Reason

ENCRYPTED = 0x1
UNIX = 3


def index_zip(file: IO[bytes], size: int) -> Index:
    """Index the photos of a zip of `size` bytes; a truncated one has lost its central directory, so it has none."""
    index = Index()
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, OverflowError, struct.error):
        return Index(fault=Reason.BAD_ARCHIVE)
    if overlap(members):
        return Index(fault=Reason.OVERLAPPING_ARCHIVE)
    for member in members:
        if not member.is_dir():
            index.add(member.filename.replace("\\", "/"), place(member, size))  # separator on some systems
    return index


def overlap(members: list[zipfile.ZipInfo]) -> bool:
    """Whether two members share bytes, as in archives that a few bytes make expand to petabytes.

    A member takes at least its header, its name and its stored bytes.
    """
    ordered = sorted(members, key=lambda member: member.header_offset)
    ends = (each.header_offset + ZIP_HEADER + len(each.orig_filename) + each.compress_size for each in ordered)
    return any(end > after.header_offset for end, after in zip(ends, ordered[1:], strict=False))


def place(member: zipfile.ZipInfo, archive_size: int) -> Member | Reason:
    """Location of a member, or why it cannot be used."""
    if member.flag_bits & ENCRYPTED:
        return Reason.ENCRYPTED
    if member.create_system == UNIX and stat.S_ISLNK(member.external_attr >> 16):
        return Reason.NOT_A_FILE
    if max(member.file_size, member.compress_size) > MAX_BYTES:
        return Reason.FILE_TOO_LARGE
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Reason.UNKNOWN_PACKING
    if not 0 <= member.header_offset < archive_size:
        return Reason.BAD_ARCHIVE
    zipped = Zipped(member.compress_type, member.file_size, member.CRC)
    return Member(member.header_offset, member.compress_size, zipped)
