"""Stage `ingest`: what is taken, and how each thing that is not is named and explained."""

import gzip
import io
import json
import logging
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image
from polars.testing import assert_frame_equal

from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.reject_reasons import SURPLUS, Reason
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import INTERACTIONS, ITEMS, RAW_ITEMS, REJECTS, SPLIT_INTERACTIONS, USERS
from mmprep.stages.ingest import ingest, matching
from mmprep.stages.ingest import line_reader as lines
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.prepare import filter as filter_stage
from mmprep.stages.prepare import split as split_stage
from mmprep.stages.prepare.filter import FilterParams
from mmprep.stages.prepare.split import SplitParams

LENIENT = IngestParams(max_reject_fraction=1, max_unmatched_fraction=1)
PARTLY = IngestParams(max_unmatched_fraction=1)  # as `small_dataset` describes two of three items
GOOD = 12  # reviews of `small_dataset`
Row = dict[str, Any]


def review(user: str = "A1", item: str = "B0", rating: float = 5.0, time: int = 1_400_000_000) -> Row:
    return {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": time}


def as_lines(rows: Iterable[Row | bytes]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


def jpeg(colour: str = "red", side: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def huge_png() -> bytes:
    """A PNG of a few bytes that says to be 60,000 pixels wide and high."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def dataset(folder: Path, files: dict[str, bytes]) -> Layout:
    """A dataset `toys` with these files in its raw folder."""
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    for name, content in files.items():
        path = layout.raw / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return layout


def small_dataset(folder: Path, **more: bytes) -> Layout:
    """Four users who have each reviewed B0, B1 and B2; B0 and B1 described, B0 with a photo."""
    reviews = [review(f"A{user}", f"B{item}", user, 1_400_000_000 + user) for user in range(4) for item in range(3)]
    items = [{"asin": "B0", "title": "Blue mug", "category": ["Home", "Mugs"]}, {"asin": "B1", "brand": "Potter"}]
    files = {"reviews.json": as_lines(reviews), "meta.json": as_lines(items), "images/B0.jpg": jpeg()}
    return dataset(folder, files | more)


def rejects_of(layout: Layout) -> list[tuple[str, int | None, str, str]]:
    return REJECTS.read(layout.rejects).rows()


def test_reviews_items_and_photos_become_tables(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    metrics = run(PARTLY, layout)

    interactions = INTERACTIONS.read(layout.raw_interactions)
    assert len(interactions) == GOOD
    assert interactions.row(5) == ("A1", "B2", 1.0, 1_400_000_001, None)
    assert RAW_ITEMS.read(layout.raw_items).rows() == [
        ("B0", "Blue mug", "", "Home > Mugs", "", "images/B0.jpg", None),
        ("B1", "", "", "", "Potter", None, None),
        ("B2", "", "", "", "", None, None),
    ]
    assert rejects_of(layout) == []
    assert metrics == {
        "users": 4,
        "reviewed_items": 3,
        "interactions": 12,
        "items": 3,
        "reviewed_items_with_text": 2,
        "reviewed_items_with_photo": 1,
        "descriptions_without_review": 0,
        "photos_without_review": 0,
        "cut_off_files": 0,
        "rejects": 0,
        "rejects_by_reason": {},
    }
    assert json.loads(layout.metrics("ingest").read_text()) == metrics


def test_the_tables_tell_what_they_were_made_from(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    run(PARTLY, layout)
    for path in (layout.raw_interactions, layout.raw_items, layout.rejects):
        provenance = read_provenance(path)
        assert provenance["stage"] == "ingest"
        assert provenance["params"] == {
            "files": [],
            "max_reject_fraction": 0.05,
            "max_unmatched_fraction": 1.0,
            "columns": {"user": None, "item": None, "rating": None, "time": None, "unit": None},
        }
        assert provenance["inputs"] == {
            "raw/toys/meta.json": sha256(layout.raw / "meta.json"),
            "raw/toys/reviews.json": sha256(layout.raw / "reviews.json"),
        }


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    outputs = []
    for folder in ("here", "there"):
        layout = small_dataset(tmp_path / folder)
        (layout.raw / "reviews.json").write_bytes((layout.raw / "reviews.json").read_bytes() + b"broken\n")
        run(LENIENT, layout)
        written = (layout.raw_interactions, layout.raw_items, layout.rejects, layout.metrics("ingest"))
        outputs.append([path.read_bytes() for path in written])
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("name", ["r.json", "r.json.gz", "r.jsonl", "r.jsonl.gz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_files_are_read_by_their_content_plain_or_compressed(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    layout = dataset(tmp_path, {name: pack(as_lines([review("A1"), review("A2")]))})
    assert run(PARTLY, layout)["interactions"] == 2


def test_several_files_of_a_kind_are_read_in_the_order_of_names(tmp_path: Path) -> None:
    files = {
        "b.json": as_lines([review("A2")]),
        "a.json.gz": gzip.compress(as_lines([review("A1")])),
        "m1.json": as_lines([{"asin": "B0", "title": "first"}]),
        "m2.json": as_lines([{"asin": "B0", "title": "second"}]),
        "README.txt": b"not rows",
    }
    layout = dataset(tmp_path, files)
    run(PARTLY, layout)
    assert INTERACTIONS.read(layout.raw_interactions)["user_id"].to_list() == ["A1", "A2"]
    assert RAW_ITEMS.read(layout.raw_items)["title"].to_list() == ["first"]


def test_a_byte_order_mark_does_not_cost_the_first_row(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"r.json": b"\xef\xbb\xbf" + as_lines([review("A1"), review("A2")])})
    assert run(PARTLY, layout)["interactions"] == 2
    assert rejects_of(layout) == []


def test_broken_lines_at_the_head_do_not_hide_what_a_file_is(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"r.json": b"# exported by hand\n\n[]\n" + as_lines([review("A1")] * 3)})
    assert run(LENIENT, layout)["interactions"] == 3
    assert [row[1:3] for row in rejects_of(layout)] == [(1, Reason.BAD_JSON), (3, Reason.NOT_AN_OBJECT)]


def test_pieces_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = small_dataset(tmp_path)
    line_of(layout.raw, "reviews.json", b"broken")
    line_of(layout.raw, "reviews.json", review("A 9"))
    run(LENIENT, layout)
    whole = layout.raw_interactions.read_bytes(), layout.rejects.read_bytes()
    for piece in (1, 100, 999):
        monkeypatch.setattr(lines, "PIECE_BYTES", piece)
        for rows, small in ((1, 1), (5, 200), (GOOD, 9999)):
            monkeypatch.setattr(ingest, "FRAME_ROWS", rows)
            monkeypatch.setattr(ingest, "SMALL_PIECE", small)
            run(LENIENT, layout)
            assert (layout.raw_interactions.read_bytes(), layout.rejects.read_bytes()) == whole


def line_of(raw: Path, name: str, line: Row | bytes) -> None:
    """Append a line to a file."""
    path = raw / name
    path.write_bytes(path.read_bytes() + as_lines([line]))


def photo_of(raw: Path, name: str, content: bytes) -> None:
    (raw / "images" / name).write_bytes(content)


def without(row: Row, key: str) -> Row:
    return {name: value for name, value in row.items() if name != key}


LITERAL = b"{'asin': 'B0', 'title': 'mug'}"
RATING = b"A1,B0,5.0,1400000000"

OF_MATRICES = {Reason.ZERO_ENTRY, Reason.SAME_SPLIT}  # see test_matrices
OF_PHOTOS = {  # and of archives of them: tests/pipeline has these
    Reason.IMAGE_TOO_SMALL,
    Reason.IMAGE_TOO_THIN,
    Reason.NOT_A_PHOTO,
    Reason.FILE_TOO_LARGE,
    Reason.MISSING_FILE,
    Reason.UNREADABLE,
    Reason.LINK_OUT,
    Reason.LINKED_FOLDER,
    Reason.BAD_NAME,
    Reason.BAD_ARCHIVE,
    Reason.COMPRESSED_ARCHIVE,
    Reason.UNKNOWN_PACKING,
    Reason.ENCRYPTED,
    Reason.NO_PHOTOS,
}


def mmrec_without_item(raw: Path) -> None:
    (raw / "x.inter").write_bytes(b"userID\titemID\tx_label\n7\t8\t0\n")
    (raw / "i_id_mapping.csv").write_bytes(b"asin\titemID\nB0\t0\n")


def packed(path: Path, *names: str) -> None:
    """A zip of files of reviews."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, as_lines([review("A9")]))


CUT = gzip.compress(as_lines([review("A9")] * 3))[:-9]
CASES: list[tuple[Callable[[Path], object], str, int | None, Reason, str]] = [
    (
        lambda raw: line_of(raw, "reviews.json", b'{"a": "\xff"}'),
        "reviews.json",
        13,
        Reason.BAD_ENCODING,
        r'{"a": "\xff"}',
    ),
    (lambda raw: line_of(raw, "reviews.json", b'{"a\x00": '), "reviews.json", 13, Reason.BAD_JSON, r'{"a\x00":'),
    (lambda raw: line_of(raw, "meta.json", b"{" + b"x" * 999), "meta.json", 3, Reason.BAD_JSON, "{" + "x" * 199),
    (lambda raw: line_of(raw, "reviews.json", b"\n[1, 2]"), "reviews.json", 14, Reason.NOT_AN_OBJECT, "[1, 2]"),
    (
        lambda raw: line_of(raw, "reviews.json", without(review(), "reviewerID")),
        "reviews.json",
        13,
        Reason.MISSING_USER,
        'no reviewerID; {"asin": "B0", "overall": 5.0, "unixReviewTime": 1400000000}',
    ),
    (
        lambda raw: line_of(raw, "reviews.json", review("A\0")),
        "reviews.json",
        13,
        Reason.MISSING_USER,
        r"reviewerID is 'A\x00'; "
        r'{"reviewerID": "A\u0000", "asin": "B0", "overall": 5.0, "unixReviewTime": 1400000000}',
    ),
    (
        lambda raw: line_of(raw, "reviews.json", without(review(), "asin")),
        "reviews.json",
        13,
        Reason.MISSING_ITEM,
        'no asin; {"reviewerID": "A1", "overall": 5.0, "unixReviewTime": 1400000000}',
    ),
    (lambda raw: line_of(raw, "meta.json", {"title": "mug"}), "meta.json", 3, Reason.MISSING_ITEM, '{"title": "mug"}'),
    (
        lambda raw: line_of(raw, "reviews.json", review(rating=float("nan"))),
        "reviews.json",
        13,
        Reason.BAD_RATING,
        'overall is nan; {"reviewerID": "A1", "asin": "B0", "overall": NaN, "unixReviewTime": 1400000000}',
    ),
    (
        lambda raw: line_of(raw, "reviews.json", review(time=0)),
        "reviews.json",
        13,
        Reason.BAD_TIMESTAMP,
        'unixReviewTime is 0; {"reviewerID": "A1", "asin": "B0", "overall": 5.0, "unixReviewTime": 0}',
    ),
    (
        lambda raw: line_of(raw, "meta.json", {"asin": "B0", "title": "again"}),
        "meta.json",
        3,
        Reason.DUPLICATE_ITEM,
        '{"asin": "B0", "title": "again"}',
    ),
    (
        lambda raw: (raw / "cut.json.gz").write_bytes(CUT),
        "cut.json.gz",
        4,
        Reason.CUT_OFF_FILE,
        "Compressed file ended before the end-of-stream marker was reached",
    ),
    (
        lambda raw: (raw / "cut.json").write_bytes(json.dumps([review("A9")] * 4).encode()[:-25]),
        "cut.json",
        4,
        Reason.BROKEN_DOCUMENT,
        "Unterminated string starting at: line 1 column 299 (char 298)",
    ),
    (lambda raw: packed(raw / "p.zip", "a.json", "b.json"), "p.zip", None, Reason.SEVERAL_FILES, ""),
    (
        lambda raw: (raw / "n.json").write_bytes(LITERAL.replace(b"B0", b"B9") + b"\n{'asin': print()}\n"),
        "n.json",
        2,
        Reason.BAD_LITERAL,
        "{'asin': print()}",
    ),
    (
        lambda raw: (raw / "z.csv").write_bytes(RATING + b"\nA1,B0,5.0\n" + RATING),
        "z.csv",
        2,
        Reason.BAD_COLUMNS,
        "3 columns, expected 4; A1,B0,5.0",
    ),
    (
        lambda raw: line_of(raw, "reviews.json", b" " * (17 << 20)),
        "reviews.json",
        13,
        Reason.LINE_TOO_LONG,
        " " * 200,
    ),
    (
        lambda raw: (raw / "other.json").write_bytes(b'{"a": 1}\n'),
        "other.json",
        None,
        Reason.UNKNOWN_FORMAT,
        "JSON objects with a, which are of no known kind",
    ),
    (lambda raw: (raw / "empty.jsonl.gz").touch(), "empty.jsonl.gz", None, Reason.EMPTY_FILE, ""),
    (lambda raw: (raw / "photos.tgz").write_bytes(b"x"), "photos.tgz", None, Reason.OTHER_NAME, ""),
    (lambda raw: (raw / "reviews").symlink_to("not mounted"), "reviews", None, Reason.DANGLING_LINK, ""),
    (lambda raw: os.mkfifo(raw / "pipe.json"), "pipe.json", None, Reason.NOT_A_FILE, ""),
    (mmrec_without_item, "x.inter", 2, Reason.UNKNOWN_NUMBER, r"7\t8\t0"),
    (lambda raw: photo_of(raw, "B1.jpg", b""), "images/B1.jpg", None, Reason.EMPTY_FILE, ""),
    (lambda raw: photo_of(raw, "B1.jpg", b"<html>404</html>"), "images/B1.jpg", None, Reason.NOT_AN_IMAGE, ""),
    (lambda raw: photo_of(raw, "B1.jpg", jpeg()[:-40]), "images/B1.jpg", None, Reason.BAD_IMAGE, ""),
    (lambda raw: photo_of(raw, "B1.png", huge_png()), "images/B1.png", None, Reason.IMAGE_TOO_LARGE, ""),
    (lambda raw: photo_of(raw, "B0.png", jpeg("blue")), "images/B0.png", None, Reason.SECOND_PHOTO, ""),
    (lambda raw: photo_of(raw, "C7.jpg", jpeg()), "images/C7.jpg", None, Reason.UNKNOWN_ITEM, ""),
]


@pytest.mark.parametrize(
    ("spoil", "source", "line", "reason", "excerpt"), CASES, ids=[f"{case[3].name}-{case[1]}" for case in CASES]
)
def test_what_is_not_taken_is_named_and_explained_and_the_rest_is_taken(
    tmp_path: Path, spoil: Callable[[Path], object], source: str, line: int | None, reason: Reason, excerpt: str
) -> None:
    layout = small_dataset(tmp_path)
    spoil(layout.raw)
    metrics = run(LENIENT, layout)
    assert rejects_of(layout) == [(source, line, reason.value, excerpt)]
    assert (metrics["rejects"], metrics["rejects_by_reason"]) == (1, {reason.value: 1})
    assert metrics["interactions"] == GOOD + {"cut.json.gz": 3, "cut.json": 3, "z.csv": 2}.get(source, 0)
    assert metrics["reviewed_items_with_photo"] == 1
    assert RAW_ITEMS.read(layout.raw_items)["title"].to_list()[:3] == ["Blue mug", "", ""]


def test_every_reason_has_an_input_that_gives_it() -> None:
    of_others = {Reason.OVERLAPPING_ARCHIVE, Reason.EXPANDS_TOO_MUCH}  # tests/pipeline/photos, test_line_reader.py
    assert {case[3] for case in CASES} == set(Reason) - OF_PHOTOS - OF_MATRICES - of_others


def test_many_faults_at_once_are_listed_by_file_and_line(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    for spoil, *_ in CASES[:15]:
        spoil(layout.raw)
    metrics = run(LENIENT, layout)
    found = [(source, line) for source, line, *_ in rejects_of(layout)]
    assert found == sorted(found)
    assert metrics["rejects"] == len(found) == 15
    assert sum(metrics["rejects_by_reason"].values()) == 15


def test_half_characters_and_endless_references_in_texts_are_no_accident(tmp_path: Path) -> None:
    items = [
        b'{"asin": "B0", "title": "mug \\ud83d", "imageURL": ["\\udc00"]}',
        b'{"asin": "B1", "title": "&#' + b"1" * 5000 + b';", "description": ' + b"[" * 400 + b"]" * 400 + b"}",
    ]
    layout = dataset(tmp_path, {"r.json": as_lines([review(item="B0"), review(item="B1")]), "m.json": as_lines(items)})
    assert run(PARTLY, layout)["items"] == 2
    assert RAW_ITEMS.read(layout.raw_items)["title"].to_list()[0] == "mug"


def test_a_cut_off_file_keeps_the_rows_before_the_cut(tmp_path: Path) -> None:
    rows = [review(f"A{number}", f"B{number * 7919 % 10007}") for number in range(500)]
    packed = gzip.compress(as_lines(rows))
    layout = dataset(tmp_path, {"r.json.gz": packed[: len(packed) // 2]})
    kept = zlib.decompressobj(wbits=31).decompress(packed[: len(packed) // 2]).count(b"\n")
    assert 0 < kept < 500
    assert run(PARTLY, layout)["interactions"] == kept
    assert INTERACTIONS.read(layout.raw_interactions)["user_id"].to_list() == [row["reviewerID"] for row in rows[:kept]]
    assert [row[:3] for row in rejects_of(layout)] == [("r.json.gz", kept + 1, Reason.CUT_OFF_FILE.value)]


def test_without_a_raw_folder_the_message_says_what_to_put_there(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such dataset folder; put the reviews, the metadata and images/"):
        run(PARTLY, Layout(tmp_path, "toys"))


def test_without_reviews_the_message_says_what_was_expected(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"m.json": as_lines([{"asin": "B0", "title": "mug"}]), "x.json": b"rubbish"})
    with pytest.raises(MissingInputError) as caught:
        run(PARTLY, layout)
    assert str(caught.value) == (
        f"{layout.raw}: no reviews found among 2 files; x.json: not a known format; m.json: metadata of the Amazon "
        "2018 edition, or of 2014 as JSON; expected reviews or metadata of an Amazon edition, or another format of "
        "docs/formats.md; see ingest.columns for tables"
    )


def test_files_that_are_named_are_read_and_no_others(tmp_path: Path) -> None:
    layout = small_dataset(
        tmp_path, **{"old.txt": as_lines([review("A7")]), "part/more.json": as_lines([review("A8")])}
    )
    params = IngestParams(files=("part/more.json", "old.txt", "old.txt"), max_unmatched_fraction=1)
    assert run(params, layout)["items"] == 1
    assert INTERACTIONS.read(layout.raw_interactions)["user_id"].to_list() == ["A8", "A7"]
    assert set(read_provenance(layout.raw_interactions)["inputs"]) == {"raw/toys/old.txt", "raw/toys/part/more.json"}


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    with pytest.raises(MissingInputError) as caught:
        run(IngestParams(files=("reviews.json", "more.json")), layout)
    assert str(caught.value) == f"{layout.raw}/more.json: no such file; see ingest.files"


@pytest.mark.parametrize("name", ["/etc/passwd", "../toys/reviews.json"])
def test_a_named_file_outside_the_raw_folder_is_refused(tmp_path: Path, name: str) -> None:
    layout = small_dataset(tmp_path)
    with pytest.raises(ParamsError) as caught:
        run(IngestParams(files=(name,)), layout)
    assert str(caught.value) == f"ingest.files: found '{name}', expected files below {layout.raw}"


def test_a_folder_named_like_a_file_of_rows_is_left_alone(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    (layout.raw / "old.json").mkdir()
    assert run(PARTLY, layout)["interactions"] == GOOD
    assert rejects_of(layout) == [("old.json", None, Reason.OTHER_NAME.value, "")]


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    (layout.raw / "more.json").symlink_to("not mounted")
    with pytest.raises(MissingInputError) as caught:
        run(PARTLY, layout)
    assert str(caught.value) == f"{layout.raw}/more.json: a link to a file that is not there"


@pytest.mark.parametrize("name", [b"\xff.json", b"images/\xff.jpg"])
def test_a_file_whose_name_is_no_text_is_rejected_like_any_other(
    tmp_path: Path, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # pytest-xdist cannot pass on a warning that is no text
    layout = small_dataset(tmp_path)
    try:
        Path(os.fsdecode(bytes(layout.raw) + b"/" + name)).write_bytes(b"rubbish")
    except OSError:
        pytest.skip("this file system takes no such names")
    run(LENIENT, layout)
    assert [row[0] for row in rejects_of(layout)] == [
        name.decode(errors="backslashreplace").replace("\\xff", "\\udcff")
    ]


def test_too_many_bad_reviews_fail_with_counts_by_reason_and_a_table_of_them(tmp_path: Path) -> None:
    bad = [b"{", b"{", without(review(), "asin")]
    layout = dataset(tmp_path, {"r.json": as_lines([*bad, *[review()] * 27])})
    with pytest.raises(DataError) as caught:
        run(IngestParams(max_reject_fraction=0.05), layout)
    assert str(caught.value) == (
        "3 of 30 reviews rejected (2 broken JSON, 1 no item id), more than ingest.max_reject_fraction allows (0.05); "
        f"see {layout.rejects}, fix the input or raise the limit; the first is line 1 of r.json: {{"
    )
    assert [row[1] for row in rejects_of(layout)] == [1, 2, 3]
    assert not layout.raw_interactions.exists()
    assert not layout.raw_items.exists()


def test_too_many_bad_items_fail(tmp_path: Path) -> None:
    items = [{"asin": "B0", "title": "mug"}, {"title": "no id"}]
    layout = dataset(tmp_path, {"r.json": as_lines([review()]), "m.json": as_lines(items)})
    with pytest.raises(DataError, match=r"^1 of 2 items rejected \(1 no item id\), more than"):
        run(IngestParams(max_reject_fraction=0.4), layout)


def test_too_many_bad_photos_fail(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    photo_of(layout.raw, "B1.jpg", b"")
    photo_of(layout.raw, "B2.jpg", b"x")
    with pytest.raises(DataError, match=r"^2 of 3 photos rejected \(1 empty file, 1 not an image\), more than"):
        run(IngestParams(max_reject_fraction=0.5), layout)
    assert len(rejects_of(layout)) == 2


@pytest.mark.parametrize(("bad", "limit"), [(1, 0.01), (5, 0.05), (7, 0.07), (29, 0.29), (58, 0.58), (0, 0.0)])
def test_as_many_bad_rows_as_the_limit_allows_pass_and_one_more_fails(tmp_path: Path, bad: int, limit: float) -> None:
    at_limit = dataset(tmp_path / "at", {"r.json": as_lines([*[review()] * (100 - bad), *[b"{"] * bad])})
    assert run(IngestParams(max_reject_fraction=limit), at_limit)["interactions"] == 100 - bad
    beyond = dataset(tmp_path / "beyond", {"r.json": as_lines([*[review()] * (99 - bad), *[b"{"] * (bad + 1)])})
    with pytest.raises(DataError, match=f"^{bad + 1} of 100 reviews rejected"):
        run(IngestParams(max_reject_fraction=limit), beyond)


def test_what_is_sound_but_one_too_many_does_not_count_against_the_limit(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    surplus = [case for case in CASES if case[3] in SURPLUS]
    assert len(surplus) == 3
    for spoil, *_ in surplus:
        spoil(layout.raw)
    metrics = run(IngestParams(max_reject_fraction=0, max_unmatched_fraction=1), layout)
    assert metrics["rejects"] == 3


def test_a_failed_ingest_leaves_the_tables_of_the_last_good_one(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    run(PARTLY, layout)
    before = layout.raw_interactions.read_bytes()
    (layout.raw / "reviews.json").write_bytes(as_lines([review(), b"{"]))
    with pytest.raises(DataError):
        run(PARTLY, layout)
    assert layout.raw_interactions.read_bytes() == before


def test_of_two_photos_of_an_item_the_first_by_name_that_is_sound_is_used(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    photo_of(layout.raw, "B1.jpeg", jpeg()[:-40])
    photo_of(layout.raw, "B1.jpg", jpeg())
    photo_of(layout.raw, "B1.png", jpeg())
    run(LENIENT, layout)
    assert RAW_ITEMS.read(layout.raw_items)["image"].to_list() == ["images/B0.jpg", "images/B1.jpg", None]
    assert [(row[0], row[2]) for row in rejects_of(layout)] == [
        ("images/B1.jpeg", Reason.BAD_IMAGE.value),
        ("images/B1.png", Reason.SECOND_PHOTO.value),
    ]


def test_a_photo_is_found_by_the_whole_id_also_with_dots_and_capitals(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"r.json": as_lines([review(item="B.v1"), review(item="B.v1.jpg"), review(item="b")])})
    (layout.raw / "images").mkdir()
    for name in ("B.v1.JPG", "B.v1.jpg.png", "b.JpEg"):
        photo_of(layout.raw, name, jpeg())
    run(PARTLY, layout)
    assert RAW_ITEMS.read(layout.raw_items).select("item_id", "image").rows() == [
        ("B.v1", "images/B.v1.JPG"),
        ("B.v1.jpg", "images/B.v1.jpg.png"),
        ("b", "images/b.JpEg"),
    ]


def test_an_id_that_is_a_path_reaches_no_file(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"r.json": as_lines([review(item="../../secret"), review(item="/etc/passwd")])})
    (layout.raw / "images").mkdir()
    (layout.root / "raw" / "secret.jpg").write_bytes(jpeg())
    run(PARTLY, layout)
    assert RAW_ITEMS.read(layout.raw_items)["image"].to_list() == [None, None]


def test_files_in_images_that_are_no_photos_by_name_are_named(tmp_path: Path) -> None:
    layout = small_dataset(tmp_path)
    photo_of(layout.raw, "notes.txt", b"text")
    assert run(LENIENT, layout)["reviewed_items_with_photo"] == 1
    assert [row[0] for row in rejects_of(layout)] == ["images/notes.txt"]


def test_a_cut_off_file_is_warned_of_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = small_dataset(tmp_path, **{"cut.json.gz": CUT})
    assert run(LENIENT, layout)["cut_off_files"] == 1
    assert [record.message for record in caplog.records if record.name != matching.__name__] == [
        f"{layout.raw}/cut.json.gz: breaks off in line 4 (Compressed file ended before the end-of-stream marker was "
        "reached); the lines before it are kept, and the number of lost lines is not known; fetch the file again"
    ]


def test_what_is_not_read_is_warned_of_with_what_was_expected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = small_dataset(tmp_path, **{"photos.tgz": b"x", "other.json": b"rubbish", "README.md": b"ours"})
    run(PARTLY, layout)
    other, photos = (record.message for record in caplog.records if record.name != matching.__name__)
    assert other.startswith(
        f"{layout.raw}/other.json: not a known format; not read; expected reviews or metadata of an"
    )
    assert photos.startswith(f"{layout.raw}/photos.tgz: not read, by its name; expected files that end in .json,")
    assert [row[0] for row in rejects_of(layout)] == ["other.json", "photos.tgz"]


def test_the_order_of_lines_does_not_matter_to_the_later_stages(tmp_path: Path) -> None:
    chance = random.Random(0)  # noqa: S311 - no secret
    pairs = [(f"A{number % 7}", f"B{number % 5}") for number in range(60)]
    reviews = [review(user, item, number % 5, 1_400_000_000 + number // 3) for number, (user, item) in enumerate(pairs)]
    items = [{"asin": f"B{number}", "title": f"mug {number}"} for number in range(5)]
    frames = []
    for folder in ("one", "two"):
        files = {"r.json": as_lines(reviews), "m.json": as_lines(items), "images/B3.jpg": jpeg()}
        layout = dataset(tmp_path / folder, files)
        run(PARTLY, layout)
        filter_stage.run(FilterParams(k_core=3), layout)
        split_stage.run(SplitParams(), layout)
        frames.append(
            [USERS.read(layout.users), ITEMS.read(layout.items), SPLIT_INTERACTIONS.read(layout.interactions)]
        )
        chance.shuffle(reviews)
        chance.shuffle(items)
    assert len(frames[0][2]) == 35
    for first, second in zip(*frames, strict=True):
        assert_frame_equal(first, second)


def test_a_dataset_of_nothing_but_rejects_gives_empty_tables_if_that_is_allowed(tmp_path: Path) -> None:
    layout = dataset(tmp_path, {"r.json": as_lines([review(time=0)])})
    metrics = run(LENIENT, layout)
    assert (metrics["interactions"], metrics["items"], metrics["rejects"]) == (0, 0, 1)
    assert INTERACTIONS.read(layout.raw_interactions).is_empty()
    assert RAW_ITEMS.read(layout.raw_items).schema["image"] == pl.String
