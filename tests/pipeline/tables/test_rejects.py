"""Rejected input is told in a fixed vocabulary, and printed safely."""

import tracemalloc
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.reject_reasons import EXCERPT_CHARACTERS, SURPLUS, Reason, Reject, count_reasons, excerpt
from mmprep.pipeline.tables import rejects as module
from mmprep.pipeline.tables.rejects import Rejects, by_file_and_line, to_frame
from mmprep.pipeline.tables.schemas import REJECTS


def test_an_excerpt_is_the_beginning_of_the_row() -> None:
    assert excerpt(b'{"asin": "1"}') == '{"asin": "1"}'
    assert excerpt(b"x" * 1000) == "x" * EXCERPT_CHARACTERS
    assert excerpt("日本".encode() * 500) == ("日本" * 500)[:EXCERPT_CHARACTERS]


def test_an_excerpt_shows_what_is_no_text_as_escapes() -> None:
    assert excerpt(b"a\xffb\x00c\x1b[31m") == "a\\xffb\\x00c\\x1b[31m"
    assert excerpt("right\u202eto left".encode()) == "right\\u202eto left"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(raw=st.binary(max_size=2000))
def test_any_bytes_give_a_short_printable_excerpt(raw: bytes) -> None:
    found = excerpt(raw)
    assert found.isprintable()
    assert len(found) <= EXCERPT_CHARACTERS


def test_rejects_are_a_table_by_file_and_line() -> None:
    rejects = [
        Reject("b.json", 3, Reason.BAD_JSON, "x"),
        Reject("b.json", None, Reason.UNKNOWN_FORMAT, ""),
        Reject("a.json", 10, Reason.BAD_RATING, "y"),
        Reject("a.json", 9, Reason.BAD_RATING, "z"),
    ]
    frame = to_frame(rejects)
    assert frame.columns == REJECTS.schema.names
    assert frame.rows() == [
        ("a.json", 9, "rating missing or not a finite number", "z"),
        ("a.json", 10, "rating missing or not a finite number", "y"),
        ("b.json", None, "not a known format", ""),
        ("b.json", 3, "broken JSON", "x"),
    ]


def test_no_rejects_are_an_empty_table() -> None:
    frame = to_frame([])
    assert frame.columns == REJECTS.schema.names
    assert frame.schema["line"] == pl.Int64
    assert count_reasons({}) == {}


def test_a_file_name_that_is_no_text_can_be_written() -> None:
    (source, *_), *_ = to_frame([Reject("images/\udcff.jpg", None, Reason.NOT_AN_IMAGE, "")]).rows()
    assert source.startswith("images/")
    assert source.endswith(".jpg")


def test_reasons_are_counted_most_frequent_first() -> None:
    rejects = Rejects()
    for reason in (Reason.BAD_JSON, Reason.NOT_AN_IMAGE, Reason.NOT_AN_IMAGE, Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE):
        rejects.append(Reject("f", None, reason, ""))
    assert len(rejects) == 5
    assert list(count_reasons(rejects.counts).items()) == [("not an image", 3), ("broken JSON", 1), ("empty file", 1)]


def line(source: str, number: int | None) -> Reject:
    return Reject(source, number, Reason.BAD_JSON, f"{source} {number}")


@pytest.mark.parametrize("held", [1, 2, 3, 7, 1000])
def test_rejects_of_several_kinds_come_by_file_and_line_however_few_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(module, "ROWS_HELD", held)
    reviews, items, photos = (Rejects(tmp_path) for _ in range(3))
    for source, numbers in (("m.json", [*range(1, 30), 1000]), ("b.json", range(5)), ("q.json", [7])):
        for number in numbers:
            reviews.append(line(source, number))
    for kind, source, number in ((items, "c.json", 3), (items, "a.json", 2), (photos, "images/1", None)):
        kind.append(line(source, number))
    for source in ("z.json", "m.json", "0.json"):
        photos.append(line(source, None))
    found = pl.concat(by_file_and_line([reviews, items, photos]))
    assert found.equals(found.sort("source", "line", nulls_last=False))
    assert len(found) == 36 + 2 + 4 == len(reviews) + len(items) + len(photos)
    assert all(text == f"{source} {number}" for source, number, _, text in found.iter_rows())
    assert list(tmp_path.iterdir()) == []


def test_many_rejects_take_little_memory(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path)
    tracemalloc.start()
    try:
        for number in range(60_000):
            rejects.append(Reject("r.json", number, Reason.BAD_JSON, "x" * 100 + str(number)))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 6_000_000
    numbers = [number for frame in by_file_and_line([rejects]) for number in frame["line"]]
    assert numbers == list(range(60_000))


def test_reasons_are_told_apart_by_their_text() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason)
    assert set(Reason) >= SURPLUS
