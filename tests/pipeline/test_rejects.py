"""Rejected input is told in a fixed vocabulary, and printed safely."""

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.rejects import EXCERPT_CHARACTERS, SURPLUS, Reason, Reject, count_reasons, excerpt, to_frame
from pipeline.tables import REJECTS


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
    assert count_reasons([]) == {}


def test_a_file_name_that_is_no_text_can_be_written() -> None:
    (source, *_), *_ = to_frame([Reject("images/\udcff.jpg", None, Reason.NOT_AN_IMAGE, "")]).rows()
    assert source.startswith("images/")
    assert source.endswith(".jpg")


def test_reasons_are_counted_most_frequent_first() -> None:
    reasons = [Reason.BAD_JSON, Reason.NOT_AN_IMAGE, Reason.NOT_AN_IMAGE, Reason.EMPTY_FILE, Reason.NOT_AN_IMAGE]
    counts = count_reasons(Reject("f", None, reason, "") for reason in reasons)
    assert list(counts.items()) == [("not an image", 3), ("broken JSON", 1), ("empty file", 1)]


def test_reasons_are_told_apart_by_their_text() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason)
    assert set(Reason) >= SURPLUS
