"""Lines of plain and compressed files, also of damaged ones."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from mmprep.pipeline.reject_reasons import Reason, Reject
from mmprep.stages.ingest import line_reader as lines
from mmprep.stages.ingest.line_reader import MAX_LINE_BYTES, LineBlock, prefetch, read_blocks, read_lines

Pack = Callable[[bytes], bytes]
PACKINGS = [bytes, gzip.compress, zstandard.compress]


def lines_of(path: Path) -> tuple[list[tuple[int, bytes]], list[Reject]]:
    found = list(read_lines(path, "reviews.json"))
    rejects = [line for line in found if isinstance(line, Reject)]
    return [line for line in found if not isinstance(line, Reject)], rejects


def saved(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pack", PACKINGS)
def test_lines_are_numbered_from_1_and_blank_ones_left_out(tmp_path: Path, pack: Pack) -> None:
    path = saved(tmp_path, pack(b"one\n\n  \n two \r\nthree"))
    assert lines_of(path) == ([(1, b"one"), (4, b"two"), (5, b"three")], [])


@pytest.mark.parametrize("pack", PACKINGS)
def test_a_byte_order_mark_is_taken_off(tmp_path: Path, pack: Pack) -> None:
    assert lines_of(saved(tmp_path, pack(b"\xef\xbb\xbfone\ntwo\n"))) == ([(1, b"one"), (2, b"two")], [])


@pytest.mark.parametrize("content", [b"", gzip.compress(b""), zstandard.compress(b""), b"\n\n"])
def test_a_file_without_lines_gives_none(tmp_path: Path, content: bytes) -> None:
    assert lines_of(saved(tmp_path, content)) == ([], [])


def test_several_gzip_members_are_read_as_one(tmp_path: Path) -> None:
    path = saved(tmp_path, gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert lines_of(path) == ([(1, b"one"), (2, b"two")], [])


def test_several_zstd_frames_are_read_as_one(tmp_path: Path) -> None:
    frames = b"".join(zstandard.compress(b"line %d\n" % number) for number in range(300))
    found, rejects = lines_of(saved(tmp_path, frames + zstandard.compress(b"")))
    assert found == [(number + 1, b"line %d" % number) for number in range(300)]
    assert rejects == []


def test_cut_off_zstd_keeps_the_lines_of_the_blocks_before_the_cut(tmp_path: Path) -> None:
    texts = [f"line {n} {n * 7919 % 10007}".encode() for n in range(50_000)]
    packed = zstandard.compress(b"\n".join(texts[:100]) + b"\n") + zstandard.compress(b"\n".join(texts[100:]) + b"\n")
    kept = []
    for cut in (len(packed) // 2, len(packed) - 1):
        found, rejects = lines_of(saved(tmp_path, packed[:cut]))
        assert found == list(enumerate(texts[: len(found)], start=1))
        assert [(reject.line, reject.reason) for reject in rejects] == [(len(found) + 1, Reason.CUT_OFF_FILE)]
        kept.append(len(found))
    assert 100 <= kept[0] < kept[1]


def test_damage_inside_zstd_is_noted_once(tmp_path: Path) -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b"one\ntwo\n" * 999))
    packed[-2] ^= 0xFF
    assert [reject.reason for reject in lines_of(saved(tmp_path, bytes(packed)))[1]] == [Reason.CUT_OFF_FILE]


@pytest.mark.parametrize("pack", PACKINGS)
def test_a_line_of_50_mb_is_rejected_in_bounded_memory_and_the_next_is_read(tmp_path: Path, pack: Pack) -> None:
    path = saved(tmp_path, pack(b"one\n" + b"x" * 50_000_000 + b"\nthree\n"))
    tracemalloc.start()
    try:
        found, rejects = lines_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [(1, b"one"), (3, b"three")]
    assert [(reject.line, reject.reason, len(reject.excerpt)) for reject in rejects] == [(2, Reason.LINE_TOO_LONG, 200)]
    assert peak < (150 if pack is zstandard.compress else 80) * 1_000_000


def test_several_lines_too_long_also_the_last_and_the_cut_off_one(tmp_path: Path) -> None:
    long = b"x" * (MAX_LINE_BYTES + 5)
    found, rejects = lines_of(saved(tmp_path, long + b"\n" + long + b"\ntwo\n" + long))
    assert found == [(3, b"two")]
    assert [(reject.line, reject.reason) for reject in rejects] == [(n, Reason.LINE_TOO_LONG) for n in (1, 2, 4)]

    found, rejects = lines_of(saved(tmp_path, gzip.compress(b"one\n" + long + b"x" * (3 << 20))[:-9]))
    assert found == [(1, b"one")]
    assert [(reject.line, reject.reason) for reject in rejects] == [(2, Reason.LINE_TOO_LONG), (2, Reason.CUT_OFF_FILE)]


@pytest.mark.parametrize("before", [b"", b"one\n", b"y" * 700_000 + b"\n"])
def test_the_longest_line_does_not_depend_on_where_it_stands(tmp_path: Path, before: bytes) -> None:
    longest = b"x" * MAX_LINE_BYTES
    found, rejects = lines_of(saved(tmp_path, before + longest + b"\n" + longest + b"x\nend"))
    count = before.count(b"\n")
    assert [(number, len(line)) for number, line in found[count:]] == [(count + 1, MAX_LINE_BYTES), (count + 3, 3)]
    assert [(reject.line, reject.reason) for reject in rejects] == [(count + 2, Reason.LINE_TOO_LONG)]


@pytest.mark.parametrize("pack", PACKINGS)
def test_pieces_are_of_whole_lines_and_together_the_file(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"".join(b"line %d\n" % number for number in range(500)) + b"\n\nlast"
    path = saved(tmp_path, pack(content))
    for size in (1, 7, 100, 1 << 20):
        monkeypatch.setattr(lines, "PIECE_BYTES", size)
        pieces = [piece for piece in read_blocks(path, "file") if isinstance(piece, LineBlock)]
        assert b"".join(piece.content for piece in pieces) == content
        assert all(piece.content.endswith(b"\n") for piece in pieces[:-1])
        assert [number for piece in pieces for number, _ in piece.lines()] == [*range(1, 501), 503]
        assert list(prefetch(read_blocks(path, "file"))) == pieces


def test_halves_of_a_piece_keep_its_numbers() -> None:
    piece = LineBlock(7, b"one\ntwo\nthree three three three\n")
    halves = piece.halves()
    assert halves is not None
    assert [line for half in halves for line in half.lines()] == list(piece.lines())
    assert LineBlock(1, b"one").halves() is None
    assert LineBlock(1, b"one\n").halves() is None
    assert LineBlock(1, b"one\n" + b"x" * 99).halves() == (LineBlock(1, b"one\n"), LineBlock(2, b"x" * 99))


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
    lines = read_lines(saved(tmp_path, gzip.compress(b"one\ntwo\n")), "reviews.json")
    assert next(lines) == (1, b"one")
    lines.close()  # type: ignore[attr-defined]


def test_what_is_read_ahead_comes_in_order_and_its_error_too() -> None:
    def steps() -> Iterator[int]:
        yield from range(100)
        raise ValueError("the disk is gone")

    found: list[int] = []
    with pytest.raises(ValueError, match="the disk is gone"):
        found.extend(prefetch(steps()))
    assert found == list(range(100))


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_reading_ahead_stops_with_whoever_reads(taken: int) -> None:
    begun: list[int] = []

    def steps() -> Iterator[int]:
        for number in range(1000):
            begun.append(number)
            yield number

    reading = prefetch(steps())
    assert [next(reading) for _ in range(taken)] == list(range(taken))
    reading.close()  # type: ignore[attr-defined]
    assert len(begun) <= taken + 2 * (lines.STEPS_AHEAD + 2)


def test_a_longer_line_is_taken_where_that_is_allowed(tmp_path: Path) -> None:
    path = saved(tmp_path, b"one\n" + b"x" * (20 << 20) + b"\nthree")
    found = [line for line in read_lines(path, "file", longest=20 << 20) if not isinstance(line, Reject)]
    assert [(number, len(line)) for number, line in found] == [(1, 3), (2, 20 << 20), (3, 5)]
    assert len(list(read_lines(path, "file", longest=(20 << 20) - 1))) == 3
    assert [line.line for line in read_lines(path, "file", (20 << 20) - 1) if isinstance(line, Reject)] == [2]


@pytest.mark.parametrize("line", [b"\n", b"x\n", b" \n"])
@pytest.mark.parametrize("packed", [gzip.compress, zstandard.compress])
def test_a_file_that_expands_too_much_is_read_to_the_limit_and_rejected(
    tmp_path: Path, line: bytes, packed: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmprep.stages.ingest.line_reader.FREE_BYTES", 4 << 20)
    path = tmp_path / "reviews.json"
    path.write_bytes(packed(line * ((16 << 20) // len(line))))
    *blocks, last = read_blocks(path, path.name)
    assert isinstance(last, Reject)
    assert (last.reason, last.line) == (Reason.EXPANDS_TOO_MUCH, 1 + sum(len(block.ends) for block in blocks))
    assert 3 << 20 <= sum(len(block.content) for block in blocks) <= 4 << 20


def test_a_file_that_shrinks_well_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 100_000))
    assert sum(len(block.ends) for block in read_blocks(path, path.name)) == 100_000


def test_two_gigabytes_of_line_ends_take_seconds(tmp_path: Path) -> None:
    path = tmp_path / "reviews.json.gz"
    member = gzip.compress(b"\n" * (64 << 20))
    path.write_bytes(member * 32)
    start = time.monotonic()
    lines = list(read_lines(path, path.name))
    assert [type(line) for line in lines] == [Reject]
    assert time.monotonic() - start < 20
