"""JSON lines: what becomes of a row does not depend on the rows beside it, nor on the way by which it was read."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.reject_reasons import Reason
from mmprep.pipeline.tables.schemas import INTERACTIONS, REJECTS
from mmprep.stages.ingest.amazon_2018 import REVIEWS
from mmprep.stages.ingest.ingest import IngestParams, run
from mmprep.stages.ingest.json_lines import is_object_a_line, quick_reviews
from mmprep.stages.ingest.line_reader import LineBlock

Rows = list[tuple[str, str, float, int]]
Rejects = list[tuple[int, str]]

GOOD = b'{"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1400000000}'
TAKEN = ("A1", "B1", 5.0, 1_400_000_000)


def spoiled(old: bytes, new: bytes) -> bytes:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def beside(field: bytes) -> bytes:
    """The good line with one more field, which nothing needs."""
    return GOOD[:-1] + b', "reviewText": ' + field + b"}"


# Each line, and what it gives: a row or the reason why not.
ODD: list[tuple[bytes, tuple[str, str, float, int] | Reason]] = [
    (GOOD, TAKEN),
    (b"  " + GOOD + b"\t\r", TAKEN),
    (GOOD + b"\x0c", TAKEN),
    (spoiled(b'"A1"', b'"A\\u0041"'), ("AA", "B1", 5.0, 1_400_000_000)),
    (spoiled(b'"A1"', '"é 日本"'.encode()), ("é 日本", "B1", 5.0, 1_400_000_000)),
    (spoiled(b'"A1"', b'"a/../b.c"'), ("a/../b.c", "B1", 5.0, 1_400_000_000)),
    (spoiled(b'"A1"', b'"A\\/1"'), ("A/1", "B1", 5.0, 1_400_000_000)),
    (spoiled(b'"A1"', b'"A\\u00001"'), Reason.MISSING_USER),
    (spoiled(b'"A1"', b'"A\\n1"'), Reason.MISSING_USER),
    (spoiled(b'"A1"', b'"\\ud83d"'), Reason.MISSING_USER),
    (spoiled(b'"A1"', b'""'), Reason.MISSING_USER),
    (spoiled(b'"B1"', b"17"), ("A1", "17", 5.0, 1_400_000_000)),
    (spoiled(b'"B1"', b"1.7"), Reason.MISSING_ITEM),
    (spoiled(b'"B1"', b'" "'), Reason.MISSING_ITEM),
    (spoiled(b"5.0", b"4"), ("A1", "B1", 4.0, 1_400_000_000)),
    (spoiled(b"5.0", b"-1e-400"), ("A1", "B1", 0.0, 1_400_000_000)),
    (spoiled(b"5.0", b"1e400"), Reason.BAD_RATING),
    (spoiled(b"5.0", b"1" + b"0" * 400), Reason.BAD_RATING),
    (spoiled(b"5.0", b"1" + b"0" * 5000), Reason.BAD_JSON),
    (spoiled(b"5.0", b"NaN"), Reason.BAD_RATING),
    (spoiled(b"5.0", b"-Infinity"), Reason.BAD_RATING),
    (spoiled(b"5.0", b'"5.0"'), TAKEN),
    (spoiled(b"5.0", b'"five"'), Reason.BAD_RATING),
    (spoiled(b"5.0", b"true"), Reason.BAD_RATING),
    (spoiled(b"5.0", b"05.0"), Reason.BAD_JSON),
    (spoiled(b"1400000000", b"0"), Reason.BAD_TIMESTAMP),
    (spoiled(b"1400000000", b"1400000000.0"), TAKEN),
    (spoiled(b"1400000000", b"1" + b"0" * 30), Reason.BAD_TIMESTAMP),
    (spoiled(b"1400000000", b"-1"), Reason.BAD_TIMESTAMP),
    (spoiled(b"1400000000", b"1400000000000"), Reason.BAD_TIMESTAMP),
    (GOOD[:-1] + b', "asin": "B2"}', ("A1", "B2", 5.0, 1_400_000_000)),
    (b'{"asin": 5, ' + GOOD[1:], TAKEN),
    (GOOD[:-1] + b', "asin": 5}', ("A1", "5", 5.0, 1_400_000_000)),
    (GOOD[:-1] + b', "asin": [5]}', Reason.MISSING_ITEM),
    (beside(b"NaN"), TAKEN),
    (beside(b"1e99999"), TAKEN),
    (beside('"日本 \U0001f600"'.encode()), TAKEN),
    (beside(b'"\\ud83d"'), TAKEN),
    (beside(b'"\xff"'), Reason.BAD_ENCODING),
    (beside(b'"\xed\xa0\xbd"'), Reason.BAD_ENCODING),
    (beside(b'{"a": [{"b": "}\\n{"}]}'), TAKEN),
    (beside(b"01"), Reason.BAD_JSON),
    (beside(b"nope"), Reason.BAD_JSON),
    (GOOD + b" " + GOOD, Reason.BAD_JSON),
    (GOOD + GOOD, Reason.BAD_JSON),
    (GOOD + b",", Reason.BAD_JSON),
    (GOOD[:30], Reason.BAD_JSON),
    (GOOD[:-1], Reason.BAD_JSON),
    (b"}", Reason.BAD_JSON),
    (b"{}", Reason.MISSING_USER),
    (b"[" + GOOD + b"]", Reason.NOT_AN_OBJECT),
    (b"null", Reason.NOT_AN_OBJECT),
    (b"\xef\xbb\xbf" + GOOD, Reason.BAD_JSON),
    (b"\x00" + GOOD, Reason.BAD_JSON),
]
# Two lines that are one object together, which no line may be; each gives a reject.
HALVES = (b'{"reviewerID": "A1", "asin": "B1",', b'"overall": 5.0, "unixReviewTime": 1400000000}')
NESTED_HALVES = (GOOD[:-1] + b', "style":', b'{"Color:": " Blue"}}')
# Faults in a field that nothing needs: the two ways may judge them differently, but always in the same way.
DEBATABLE = [
    beside(b'"\x01"'),
    beside(b'"\\q"'),
    beside(b'"\t"'),
    beside(b"[" * 3000 + b"]" * 3000),
    beside(b"1" * 5000),
]


def ingested(content: bytes) -> tuple[Rows, Rejects]:
    """What a file gives behind a first line that says what it is, by line numbers of its own."""
    with TemporaryDirectory() as folder:
        layout = Layout(Path(folder), "toys")
        layout.raw.mkdir(parents=True)
        (layout.raw / "r.json").write_bytes(GOOD + b"\n" + content)
        run(IngestParams(max_reject_fraction=1), layout)
        rows = INTERACTIONS.read(layout.raw_interactions).drop("split").rows()
        rejects = REJECTS.read(layout.rejects).select("line", "reason").rows()
    assert rows[0] == TAKEN
    return rows[1:], [(number - 1, reason) for number, reason in rejects]


def expected(lines: list[bytes]) -> tuple[Rows, Rejects]:
    """What lines give, each ingested alone."""
    rows: Rows = []
    rejects: Rejects = []
    for number, line in enumerate(lines, start=1):
        taken, refused = ALONE[line]
        rows += taken
        rejects += [(number, reason) for _, reason in refused]
    return rows, rejects


LINES = [*(line for line, _ in ODD), *HALVES, *NESTED_HALVES, *DEBATABLE, b"", b" ", b"\r"]
ALONE: dict[bytes, tuple[Rows, Rejects]] = {}


@pytest.fixture(scope="module", autouse=True)
def alone() -> None:
    ALONE.update({line: ingested(line) for line in LINES})


@pytest.mark.parametrize(("line", "outcome"), ODD)
def test_an_odd_line_gives_its_row_or_its_reason(line: bytes, outcome: tuple[str, str, float, int] | Reason) -> None:
    rows, rejects = ALONE[line]
    assert [*rows, *rejects] == [(1, outcome.value) if isinstance(outcome, Reason) else outcome]


@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.sampled_from(LINES), max_size=25), end=st.sampled_from([b"\n", b"\r\n"]), last=st.booleans())
@example(lines=[GOOD] * 300 + [GOOD[:30]] + [GOOD] * 300, end=b"\n", last=True)
@example(lines=list(HALVES), end=b"\n", last=True)
@example(lines=[*HALVES, GOOD + GOOD], end=b"\n", last=True)
@example(lines=[*NESTED_HALVES, GOOD + b" " + GOOD], end=b"\n", last=False)
@example(lines=[GOOD + GOOD, *HALVES, GOOD], end=b"\r\n", last=False)
@example(lines=[b"", GOOD + GOOD], end=b"\n", last=False)
def test_a_file_gives_what_its_lines_give_each_alone(lines: list[bytes], end: bytes, last: bool) -> None:
    found = ingested(end.join(lines) + (end if last else b""))
    assert found == expected(lines)


@pytest.mark.parametrize("pair", [HALVES, NESTED_HALVES])
def test_an_object_over_two_lines_is_two_broken_lines(pair: tuple[bytes, bytes]) -> None:
    assert [len(ALONE[half][1]) for half in pair] == [1, 1]
    assert ingested(b"\n".join(pair))[1] == expected(list(pair))[1]


def test_the_number_of_a_bad_line_is_right_deep_in_a_file() -> None:
    lines = [GOOD] * 20_000
    bad = [1, 2, 4_567, 4_568, 9_999, 20_000]
    for number in bad:
        lines[number - 1] = b"{"
    rows, rejects = ingested(b"\n".join(lines))
    assert rejects == [(number, Reason.BAD_JSON.value) for number in bad]
    assert rows == [TAKEN] * (20_000 - len(bad))


def test_sound_lines_are_read_at_once() -> None:
    assert REVIEWS.parse_block is not None
    for end in (b"\n", b"\r\n"):
        for last in (b"", end):
            frame = REVIEWS.parse_block(LineBlock(1, end.join([GOOD] * 3) + last))
            assert frame is not None
            assert frame.drop("split").rows() == [TAKEN] * 3
            assert frame.schema["rating"] == pl.Float32


def test_times_are_divided_to_seconds() -> None:
    line = json.dumps({"u": "A", "i": "B", "r": 1, "t": 1_400_000_000_999}).encode()
    frame = quick_reviews("u", "i", "r", "t", divisor=1000)(LineBlock(1, line))
    assert frame is not None
    assert frame.row(0) == ("A", "B", 1.0, 1_400_000_000, None)


@pytest.mark.parametrize(
    ("chunk", "objects", "whole"),
    [
        (b"{}", 1, True),
        (b"{}\n", 1, True),
        (b"{}\n{}", 2, True),
        (b"{}\r\n{}\r\n", 2, True),
        (b"{}{}", 2, False),
        (b"\n{}{}", 2, False),
        (b"{}{}\n\n", 2, False),
        (b"{}\n{}{}\n{\n}\n", 4, False),
        (b"", 0, False),
        (b"\n", 0, False),
    ],
)
def test_objects_are_counted_by_lines(chunk: bytes, objects: int, whole: bool) -> None:
    assert is_object_a_line(LineBlock(1, chunk), objects) == whole
