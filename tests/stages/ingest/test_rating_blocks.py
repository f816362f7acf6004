"""Blocks of ratings parsed at once give what their lines give."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmprep.stages.ingest import amazon_2014, amazon_2018
from mmprep.stages.ingest.line_reader import LineBlock
from mmprep.stages.ingest.rating_blocks import quick_ratings
from mmprep.stages.ingest.records import Review

GOOD = b"A1,B1,5.0,1400000000\n"
FIELDS = st.sampled_from(
    ["A1", "", "5", "-1e3", "inf", "nan", "1400000000", "0", "+1400000000", "1e9", " x", "é", '"q"', "1_0"]
)
LINES = st.lists(FIELDS, min_size=3, max_size=5).map(",".join)


def test_a_block_of_ratings_is_parsed_at_once() -> None:
    frame = quick_ratings()(LineBlock(1, GOOD * 3 + b"A2,B2,4,1500000000"))
    assert frame is not None
    assert frame.rows() == [("A1", "B1", 5.0, 1_400_000_000, None)] * 3 + [("A2", "B2", 4.0, 1_500_000_000, None)]


def test_order_unit_and_split() -> None:
    read = quick_ratings(("item_id", "user_id", "rating", "timestamp"), 1000, "val")
    frame = read(LineBlock(1, b"B1,A1,5.0,1400000000999\n"))
    assert frame is not None
    assert frame.rows() == [("A1", "B1", 5.0, 1_400_000_000, "val")]


@pytest.mark.parametrize(
    "line",
    [
        *(b"A1,B1,5.0\n", b"A1,B1,5.0,1400000000,\n", b"\n", b'"A1",B1,5.0,1400000000\n', b"A1, B1,5.0,1400000000\n"),
        *(
            b"A1,B1,5.0,1400000000\r\n",
            b"A1,B1,five,1400000000\n",
            b",B1,5.0,1400000000\n",
            b"A1,B1,5.0,1400000000000\n",
            b"A1,B1,5.0,12\n",
        ),
        *(b"A1,B1,1e400,1400000000\n", b"\xc3\xa9,B1,5.0,1400000000\n", b"A1,B1\x01,5.0,1400000000\n"),
    ],
)
def test_any_other_line_leaves_the_block_to_the_line_parser(line: bytes) -> None:
    assert quick_ratings()(LineBlock(1, GOOD + line + GOOD)) is None


@given(lines=st.lists(LINES | st.just(GOOD.decode().strip()), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_what_a_block_accepts_its_lines_give_too(lines: list[str]) -> None:
    for order, parse in (
        (("user_id", "item_id", "rating", "timestamp"), amazon_2014.rating_in),
        (("item_id", "user_id", "rating", "timestamp"), amazon_2018.rating_in),
    ):
        frame = quick_ratings(order)(LineBlock(1, "\n".join(lines).encode()))
        if frame is not None:
            assert [Review(*row) for row in frame.iter_rows()] == [parse(line.encode()) for line in lines]
