"""What is found in a tar is what tarfile finds, whoever packed it; what is odd or damaged is told."""

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.pipeline.photos.archives import Index, Member, read_at, read_member
from mmprep.pipeline.photos.tar_index import BLOCK, MAX_EXTENDED, index_tar
from mmprep.pipeline.reject_reasons import Reason

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
PHOTO = b"0123456789" * 70


def info_of(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def packed(infos: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in infos:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def of_files(files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    return packed(((info_of(name, len(content)), content) for name, content in files.items()), form)


def index(content: bytes) -> Index:
    return index_tar(io.BytesIO(content), len(content))


def contents(content: bytes) -> dict[str, bytes]:
    found = index(content)
    assert (found.fault, found.rejects) == (None, [])
    return {name: content[place.offset : place.offset + place.stored] for name, place in found.members.items()}


@pytest.mark.parametrize("form", FORMATS)
def test_every_form_of_tar_is_read(form: int) -> None:
    files = {"B0.jpg": b"", "sub/B1.jpg": b"x", "B2.jpg": PHOTO, "B3.jpg": b"y" * BLOCK, f"{'d' * 90}/B4.jpg": b"z"}
    if form != tarfile.USTAR_FORMAT:
        files |= {f"{'e' * 400}/B5.jpg": b"long", "caf\u00e9/" + "\u00e9" * 200 + ".jpg": b"text"}
    assert contents(of_files(files, form)) == files


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=150),
        st.binary(max_size=1100),
        max_size=5,
    ),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_photos_of_any_name_are_found_where_they_were_put(files: dict[str, bytes], form: int) -> None:
    expected = {f"x{name}.jpg": content for name, content in files.items()}
    assert contents(of_files(expected, form)) == expected


def test_a_photo_is_read_by_its_place(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    path.write_bytes(of_files({"B0.jpg": b"x", "B1.jpg": PHOTO}))
    member = index(path.read_bytes()).members["B1.jpg"]
    assert member == Member(3 * BLOCK, len(PHOTO))
    assert read_member(path, member) == PHOTO


def test_folders_and_what_is_no_photo_are_passed_over() -> None:
    folder = info_of("images", kind=tarfile.DIRTYPE)
    found = index(packed([(folder, b""), (info_of("B0.json", 2), b"{}"), (info_of("B0.jpg", 1), b"x")]))
    assert (list(found.members), found.rejects, found.others) == (["B0.jpg"], [], 1)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_devices_and_pipes_are_refused(kind: bytes) -> None:
    odd = info_of("B0.jpg", kind=kind, link="../../../etc/passwd")
    found = index(packed([(odd, b""), (info_of("B1.jpg", 1), b"x")]))
    assert found.rejects == [("B0.jpg", Reason.NOT_A_FILE)]
    assert list(found.members) == ["B1.jpg"]


def test_the_size_that_a_link_may_give_is_its_targets_and_is_not_skipped() -> None:
    link = info_of("B0.png", 700, tarfile.LNKTYPE, "B0.jpg").tobuf(tarfile.USTAR_FORMAT)
    found = index(link + GOOD)
    assert (list(found.members), found.fault) == (["B0.jpg", "B1.jpg"], None)


def test_names_that_lead_out_are_refused_and_whole_ones_are_taken_below_the_archive() -> None:
    names = ["../B0.jpg", "a/../../B1.jpg", "/etc/B2.jpg", "./B3.jpg"]
    found = index(of_files(dict.fromkeys(names, b"x")))
    assert found.rejects == [("../B0.jpg", Reason.BAD_NAME), ("a/../../B1.jpg", Reason.BAD_NAME)]
    assert list(found.members) == ["etc/B2.jpg", "B3.jpg"]


def test_of_two_photos_of_one_name_the_last_counts_as_when_unpacked() -> None:
    content = packed([(info_of("B0.jpg", 1), b"x"), (info_of("./B0.jpg", 2), b"yy")])
    found = index(content)
    assert found.rejects == [("B0.jpg", Reason.SECOND_PHOTO)]
    assert found.members["B0.jpg"].stored == 2


def test_a_sparse_photo_is_refused() -> None:
    sparse = info_of("B0.jpg", 1)
    sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    found = index(packed([(sparse, b"x"), (info_of("B1.jpg", 1), b"y")], tarfile.PAX_FORMAT))
    assert found.rejects == [("B0.jpg", Reason.UNKNOWN_PACKING)]
    assert list(found.members) == ["B1.jpg"]


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"])
def test_a_compressed_tar_that_is_called_plain_is_told(magic: bytes) -> None:
    assert index(magic + bytes(1000)).fault is Reason.COMPRESSED_ARCHIVE


GOOD = of_files({"B0.jpg": PHOTO, "B1.jpg": PHOTO})


@pytest.mark.parametrize("cut", [100, BLOCK, BLOCK + 700, 3 * BLOCK, 3 * BLOCK + 9, 4 * BLOCK, 5 * BLOCK, 6 * BLOCK])
def test_a_tar_that_is_cut_off_anywhere_is_damaged_and_its_whole_photos_are_kept(cut: int) -> None:
    found = index(GOOD[:cut])
    assert found.fault is Reason.BAD_ARCHIVE
    whole = [name for name, end in [("B0.jpg", BLOCK + 700), ("B1.jpg", 4 * BLOCK + 700)] if end <= cut]
    assert list(found.members) == whole


def test_a_tar_whose_second_header_is_damaged_keeps_the_first_photo() -> None:
    content = bytearray(GOOD)
    content[3 * BLOCK + 5] ^= 1
    found = index(bytes(content))
    assert (list(found.members), found.fault) == (["B0.jpg"], Reason.BAD_ARCHIVE)


def test_tars_that_were_joined_are_not_taken_for_one() -> None:
    found = index(GOOD + GOOD)
    assert (list(found.members), found.fault) == (["B0.jpg", "B1.jpg"], Reason.BAD_ARCHIVE)


@pytest.mark.parametrize("size", [-1, -BLOCK, -3 * BLOCK, 1 << 40, 1 << 70])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE, b"?"])
def test_a_size_that_cannot_be_ends_the_tar_at_once(size: int, kind: bytes) -> None:
    odd = info_of("B0.jpg", 0, kind)
    header = bytearray(odd.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (
        (b"\x80" + size.to_bytes(11, "big")) if size > 0 else b"\xff" * 7 + size.to_bytes(5, "big", signed=True)
    )
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    found = index(bytes(header) + GOOD)
    assert found.fault is Reason.BAD_ARCHIVE
    assert not found.members or size < 0


def test_a_long_name_that_fills_the_memory_is_not_read() -> None:
    header = info_of("B0.jpg", MAX_EXTENDED + 1, tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    assert index(header + bytes(2 * MAX_EXTENDED)).fault is Reason.BAD_ARCHIVE


@settings(max_examples=150)
@given(st.data())
def test_damaged_bytes_give_photos_or_a_fault(data: st.DataObject) -> None:
    files = {"B0.jpg": b"x" * 600, f"{'e' * 120}.jpg": b"y"}
    content = bytearray(of_files(files, data.draw(st.sampled_from(FORMATS[1:]))))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, 5000))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))]
    for place in index(bytes(content)).members.values():
        assert place.offset + place.stored <= len(content)


def declared(size: int, how: str) -> bytes:
    """A tar with one photo whose header or extended header declares this size."""
    if how == "base-256":
        header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.GNU_FORMAT))
        header[124:136] = (size % 256**12).to_bytes(12, "big")
        header[148:156] = b"        "
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header) + bytes(10_240)
    info = tarfile.TarInfo("a.jpg")
    info.pax_headers = {"size": str(size)}
    return info.tobuf(tarfile.PAX_FORMAT) + bytes(10_240)


@pytest.mark.parametrize("how", ["base-256", "pax"])
@pytest.mark.parametrize("size", [-1, -512, -99999])
def test_a_negative_size_is_one_fault_and_no_member(how: str, size: int) -> None:
    content = declared(size, how)
    index = index_tar(io.BytesIO(content), len(content))
    assert (index.fault, index.members, index.rejects) == (Reason.BAD_ARCHIVE, {}, [])


def test_bytes_of_a_negative_number_are_never_read() -> None:
    with pytest.raises(ValueError, match="negative size"):
        read_at(io.BytesIO(b"rest of the archive"), 0, -1)
