"""Lines of plain and compressed files, also of damaged ones."""

import gzip
import zlib
from pathlib import Path

import pytest

from pipeline.rejects import Reason, Reject
from stages.formats.lines import read_lines


def lines_of(path: Path) -> tuple[list[tuple[int, bytes]], list[Reject]]:
    rejects: list[Reject] = []
    return list(read_lines(path, "reviews.json", rejects)), rejects


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_lines_are_numbered_from_1_and_blank_ones_left_out(tmp_path: Path, pack: type[bytes]) -> None:
    path = saved(tmp_path, pack(b"one\n\n  \n two \r\nthree"))
    assert lines_of(path) == ([(1, b"one"), (4, b"two"), (5, b"three")], [])


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_byte_order_mark_is_taken_off(tmp_path: Path, pack: type[bytes]) -> None:
    assert lines_of(saved(tmp_path, pack(b"\xef\xbb\xbfone\ntwo\n"))) == ([(1, b"one"), (2, b"two")], [])


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), b"\n\n"])
def test_a_file_without_lines_gives_none(tmp_path: Path, content: bytes) -> None:
    assert lines_of(saved(tmp_path, content)) == ([], [])


def test_several_gzip_members_are_read_as_one(tmp_path: Path) -> None:
    path = saved(tmp_path, gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert lines_of(path) == ([(1, b"one"), (2, b"two")], [])


def test_cut_off_gzip_keeps_every_line_before_the_cut(tmp_path: Path) -> None:
    lines = [f"line {n} {n * 7919 % 10007}".encode() for n in range(2000)]
    packed = gzip.compress(b"\n".join(lines) + b"\n")
    for cut in [*range(10, len(packed), 997), len(packed) - 8, len(packed) - 1]:
        readable = zlib.decompressobj(wbits=31).decompress(packed[:cut]).count(b"\n")
        found, rejects = lines_of(saved(tmp_path, packed[:cut]))
        assert found == list(enumerate(lines[:readable], start=1))
        assert [(reject.source, reject.line, reject.reason) for reject in rejects] == [
            ("reviews.json", readable + 1, Reason.CUT_OFF_FILE)
        ]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_damage_inside_gzip_is_noted_once(tmp_path: Path, share: float) -> None:
    lines = [f"line {n} {n * 7919 % 10007}".encode() for n in range(20_000)]
    packed = bytearray(gzip.compress(b"\n".join(lines) + b"\n"))
    packed[int(share * len(packed))] ^= 0xFF
    found, rejects = lines_of(saved(tmp_path, bytes(packed)))
    sound = int(share * len(lines) / 2)
    assert [line for _, line in found[:sound]] == lines[:sound]
    assert [reject.reason for reject in rejects] == [Reason.CUT_OFF_FILE]


def test_damage_that_no_longer_is_a_stream_is_noted(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"one\ntwo\n"))
    packed[10] = 0xFF  # the first block behind the header, of a kind that does not exist
    found, rejects = lines_of(saved(tmp_path, bytes(packed)))
    assert found == []
    assert [(reject.line, reject.reason) for reject in rejects] == [(1, Reason.CUT_OFF_FILE)]


def test_a_wrong_checksum_at_the_end_is_noted(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"one\ntwo\n"))
    packed[-6] ^= 0xFF
    found, rejects = lines_of(saved(tmp_path, bytes(packed)))
    assert found == [(1, b"one"), (2, b"two")]
    assert [(reject.line, reject.reason) for reject in rejects] == [(3, Reason.CUT_OFF_FILE)]


def test_rubbish_behind_the_end_of_gzip_is_noted(tmp_path: Path) -> None:
    found, rejects = lines_of(saved(tmp_path, gzip.compress(b"one\n") + b"rubbish"))
    assert found == [(1, b"one")]
    assert [reject.reason for reject in rejects] == [Reason.CUT_OFF_FILE]


def test_the_file_is_closed_when_reading_stops_early(tmp_path: Path) -> None:
    lines = read_lines(saved(tmp_path, gzip.compress(b"one\ntwo\n")), "reviews.json", [])
    assert next(lines) == (1, b"one")
    lines.close()  # type: ignore[attr-defined]
