"""What is found in a zip is what zipfile finds; what is odd, locked, damaged or a bomb is told."""

import io
import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.pipeline.photos.archives import Index, Member, Zipped, read_member
from mmprep.pipeline.photos.decode import PhotoError
from mmprep.pipeline.photos.zip_index import index_zip, place
from mmprep.pipeline.reject_reasons import Reason

PHOTO = b"0123456789" * 70


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return buffer.getvalue()


def index(content: bytes) -> Index:
    return index_zip(io.BytesIO(content), len(content))


def fault_of(path: Path, member: Member) -> Reason:
    with pytest.raises(PhotoError) as caught:
        read_member(path, member)
    return caught.value.reason


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"a program that unpacks itself"])
def test_photos_are_read_by_their_place(tmp_path: Path, method: int, before: bytes) -> None:
    files = {"B0.jpg": b"", "sub/B1.jpg": PHOTO, "caf\u00e9.jpg": b"x"}
    path = tmp_path / "0.zip"
    path.write_bytes(before + packed(files, method))
    found = index(path.read_bytes())
    assert (found.rejects, found.fault) == ([], None)
    assert {name: read_member(path, member) for name, member in found.members.items()} == files


def test_a_zip_written_as_a_stream_is_read(tmp_path: Path) -> None:
    class Stream(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

        def tell(self) -> int:
            raise io.UnsupportedOperation

    stream = Stream()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("B0.jpg", PHOTO)
    path = tmp_path / "0.zip"
    path.write_bytes(stream.getvalue())
    assert read_member(path, index(path.read_bytes()).members["B0.jpg"]) == PHOTO


def test_folders_and_what_is_no_photo_are_passed_over_and_other_systems_names_are_read() -> None:
    found = index(
        packed({"images/": b"", "B0.json": b"{}", "images\\B0.jpg": b"x", "../B1.jpg": b"", "C:\\B2.jpg": b""})
    )
    assert (list(found.members), found.others) == (["images/B0.jpg", "C:/B2.jpg"], 1)
    assert found.rejects == [("../B1.jpg", Reason.BAD_NAME)]


def test_of_two_photos_of_one_name_the_last_counts() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("B0.jpg", b"x")
        zipped.writestr("./B0.jpg", b"yy")
    found = index(buffer.getvalue())
    assert found.rejects == [("B0.jpg", Reason.SECOND_PHOTO)]
    assert found.members["B0.jpg"].stored == 2


def test_what_is_locked_is_refused() -> None:
    content = bytearray(packed({"B0.jpg": PHOTO}))
    for magic, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(magic) + offset] |= 1
    assert index(bytes(content)).rejects == [("B0.jpg", Reason.ENCRYPTED)]


def test_a_link_is_refused() -> None:
    link = zipfile.ZipInfo("B0.jpg")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
    assert index(buffer.getvalue()).rejects == [("B0.jpg", Reason.NOT_A_FILE)]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_to_pack_are_refused(method: int) -> None:
    assert index(packed({"B0.jpg": PHOTO}, method)).rejects == [("B0.jpg", Reason.UNKNOWN_PACKING)]


def test_a_bomb_is_refused_by_what_it_says_and_never_unpacked_beyond_it(tmp_path: Path) -> None:
    content = packed({"B0.jpg": bytes(5_000_000)}, zipfile.ZIP_DEFLATED)
    assert len(content) < 10_000
    path = tmp_path / "0.zip"
    path.write_bytes(content)
    honest = index(content).members["B0.jpg"]
    assert honest.zipped is not None
    tracemalloc.start()
    assert fault_of(path, honest._replace(zipped=honest.zipped._replace(size=1000))) is Reason.BAD_ARCHIVE
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert fault_of(path, honest._replace(zipped=honest.zipped._replace(size=5_000_001))) is Reason.BAD_ARCHIVE
    huge = zipfile.ZipInfo("B0.jpg")
    huge.file_size = 10_000_000_000
    assert place(huge, 100) is Reason.FILE_TOO_LARGE


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_bytes_of_a_photo_are_told(tmp_path: Path, method: int) -> None:
    content = bytearray(packed({"B0.jpg": PHOTO, "B1.jpg": PHOTO}, method))
    content[36 + 5] ^= 0xFF
    path = tmp_path / "0.zip"
    path.write_bytes(content)
    members = index(bytes(content)).members
    assert fault_of(path, members["B0.jpg"]) is Reason.BAD_ARCHIVE
    assert read_member(path, members["B1.jpg"]) == PHOTO


@pytest.mark.parametrize(
    "member",
    [
        Member(0, 10_000, Zipped(zipfile.ZIP_STORED, 10_000, 0)),
        Member(5, 5, Zipped(zipfile.ZIP_STORED, 5, 0)),
        Member(10_000, 5, Zipped(zipfile.ZIP_STORED, 5, 0)),
        Member(10_000, 5),
    ],
)
def test_a_place_that_an_archive_does_not_have_is_damage(tmp_path: Path, member: Member) -> None:
    path = tmp_path / "0.zip"
    path.write_bytes(packed({"B0.jpg": PHOTO}))
    assert fault_of(path, member) is Reason.BAD_ARCHIVE


@pytest.mark.parametrize("content", [b"PK\3\4", b"x", b"PK\5\6" + bytes(18)[:-1], packed({"B0.jpg": PHOTO})[:-1]])
def test_what_is_no_whole_zip_is_damaged(content: bytes) -> None:
    assert index(content) == Index(fault=Reason.BAD_ARCHIVE)


def test_a_place_beyond_all_numbers_is_damage() -> None:
    far = zipfile.ZipInfo("B0.jpg")
    far.header_offset = 1 << 64
    assert place(far, 100) is Reason.BAD_ARCHIVE
    far.header_offset = -1
    assert place(far, 100) is Reason.BAD_ARCHIVE


@settings(max_examples=200)
@given(st.data())
def test_damaged_bytes_give_photos_or_a_fault(data: st.DataObject) -> None:
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    content = bytearray(packed({"B0.jpg": PHOTO, "caf\u00e9.jpg": b"x" * 90}, method))
    end = content.rindex(b"PK\5\6")
    (listed,) = struct.unpack_from("<L", content, end + 16)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(listed, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = index(bytes(content))
    assert found.fault in (None, Reason.BAD_ARCHIVE, Reason.OVERLAPPING_ARCHIVE)
    assert all(0 <= member.offset < len(content) for member in found.members.values())


def overlapping(copies: int) -> bytes:
    """A zip whose directory has one photo under several names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(copies):
            archive.writestr(f"{number}.jpg", bytes(1000))
        for info in archive.filelist:
            info.header_offset = 0
    return buffer.getvalue()


def test_members_that_overlap_are_one_reject() -> None:
    content = overlapping(50)
    index = index_zip(io.BytesIO(content), len(content))
    assert (index.fault, index.members, index.rejects) == (Reason.OVERLAPPING_ARCHIVE, {}, [])


def test_members_one_after_the_other_do_not_overlap() -> None:
    content = overlapping(1)
    assert list(index_zip(io.BytesIO(content), len(content)).members) == ["0.jpg"]
