"""Rows of the Amazon 2018 edition: what is taken and what is not."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.reject_reasons import Reason
from mmprep.stages.ingest.amazon_2018 import Item, Review, is_item, is_review, parse_item, parse_object, parse_review
from mmprep.stages.ingest.records import Fault

GOOD_REVIEW = {"reviewerID": "A1", "asin": "B1", "overall": 5.0, "unixReviewTime": 1_400_000_000}
GOOD_ITEM = {
    "asin": "B1",
    "title": "Blue &amp; white <b>mug</b>",
    "description": ["First.", "Second.\n"],
    "category": ["Home &amp; Kitchen", "Mugs"],
    "brand": "Potter",
    "imageURL": ["http://images/small.jpg"],
    "imageURLHighRes": ["http://images/large.jpg", "http://images/other.jpg"],
}
MISSING = object()


def changed(row: dict[str, Any], **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """The row with other values; MISSING takes a key out."""
    return {key: value for key, value in {**row, **changes}.items() if value is not MISSING}


def test_a_review_is_taken() -> None:
    row = changed(GOOD_REVIEW, reviewText="Great", verified=True, style={"Color:": " Blue"})
    assert parse_review(row) == Review("A1", "B1", 5.0, 1_400_000_000)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("reviewerID", MISSING, Reason.MISSING_USER),
        ("reviewerID", None, Reason.MISSING_USER),
        ("reviewerID", "", Reason.MISSING_USER),
        ("reviewerID", "  ", Reason.MISSING_USER),
        ("reviewerID", 1.5, Reason.MISSING_USER),
        ("reviewerID", "A\x001", Reason.MISSING_USER),
        ("reviewerID", "A\n1", Reason.MISSING_USER),
        ("reviewerID", "A\ud83d", Reason.MISSING_USER),
        ("asin", MISSING, Reason.MISSING_ITEM),
        ("asin", "", Reason.MISSING_ITEM),
        ("asin", ["B1"], Reason.MISSING_ITEM),
        ("asin", "B\x7f", Reason.MISSING_ITEM),
        ("overall", MISSING, Reason.BAD_RATING),
        ("overall", None, Reason.BAD_RATING),
        ("overall", "good", Reason.BAD_RATING),
        ("overall", True, Reason.BAD_RATING),
        ("overall", float("nan"), Reason.BAD_RATING),
        ("overall", float("-inf"), Reason.BAD_RATING),
        ("overall", 1e39, Reason.BAD_RATING),
        ("overall", -1e300, Reason.BAD_RATING),
        ("overall", 10**400, Reason.BAD_RATING),
        ("unixReviewTime", MISSING, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", None, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", "14", Reason.BAD_TIMESTAMP),
        ("unixReviewTime", 1.4e10, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", True, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", 0, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", -1, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", 1_400_000_000_000, Reason.BAD_TIMESTAMP),
        ("unixReviewTime", 10**30, Reason.BAD_TIMESTAMP),
    ],
)
def test_a_review_that_cannot_be_used_gives_its_reason(key: str, value: object, reason: Reason) -> None:
    fault = parse_review(changed(GOOD_REVIEW, **{key: value}))
    assert isinstance(fault, Fault)
    assert (fault.reason, key in fault.detail) == (reason, True)


@pytest.mark.parametrize("rating", [0, 1, 5, 0.5, -1, 10, 3e38])
def test_any_finite_rating_is_taken(rating: float) -> None:
    review = parse_review(changed(GOOD_REVIEW, overall=rating))
    assert isinstance(review, Review)
    assert review.rating == rating
    assert np.isfinite(np.float32(review.rating))


@pytest.mark.parametrize("time", [631_152_000, 4_102_444_799])
def test_times_from_1990_to_2099_are_taken(time: int) -> None:
    assert parse_review(changed(GOOD_REVIEW, unixReviewTime=time)) == Review("A1", "B1", 5.0, time)


@pytest.mark.parametrize("name", ["B0001", "a.b-c_d", "../../etc", "é日本", "a b", "1"])
def test_ids_are_kept_as_published(name: str) -> None:
    assert parse_review(changed(GOOD_REVIEW, reviewerID=name, asin=name)) == Review(name, name, 5.0, 1_400_000_000)


def test_an_item_is_cleaned() -> None:
    assert parse_item(GOOD_ITEM) == Item(
        item_id="B1",
        title="Blue & white mug",
        description="First. Second.",
        categories="Home & Kitchen > Mugs",
        brand="Potter",
        image_url="http://images/large.jpg",
    )


def test_an_item_of_2014_that_somebody_made_json_of_keeps_its_categories_and_photo() -> None:
    row = {
        "asin": "B1",
        "title": "Mug",
        "categories": [["Home, Kitchen & Bath", "Mugs"], ["Gifts"]],
        "imUrl": "http://images/one.jpg",
        "brand": "Potter",
        "salesRank": {"Home": 1},
        "related": {},
    }
    expected = Item("B1", "Mug", "", "Home, Kitchen & Bath > Mugs | Gifts", "Potter", "http://images/one.jpg")
    assert parse_item(row) == expected
    assert all(is_item({"asin": "B1", key: row[key]}) for key in ("categories", "imUrl", "salesRank", "related"))


def test_an_item_of_which_only_the_id_is_known_has_empty_texts() -> None:
    assert parse_item({"asin": "B1"}) == Item("B1", "", "", "", "", None)


@pytest.mark.parametrize(
    ("large", "small", "url"),
    [
        (MISSING, ["a"], "a"),
        ([], ["a"], "a"),
        (["", None, 3, "b"], ["a"], "b"),
        ("not a list", ["a"], "a"),
        (None, None, None),
        ([], [], None),
        (["\ud83d"], ["a"], "a"),
        (["http://x/\x00.jpg"], ["a"], "a"),
    ],
)
def test_the_first_address_of_the_largest_photo_is_kept(large: object, small: object, url: str | None) -> None:
    item = parse_item(changed(GOOD_ITEM, imageURLHighRes=large, imageURL=small))
    assert isinstance(item, Item)
    assert item.image_url == url


@pytest.mark.parametrize("asin", [MISSING, None, "", 5, "B\x00"])
def test_an_item_without_an_id_is_refused(asin: object) -> None:
    assert parse_item(changed(GOOD_ITEM, asin=asin)) is Reason.MISSING_ITEM


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        ('{"a": "日本"}'.encode(), {"a": "日本"}),
        (b'{"a": "\\u65e5"}', {"a": "日"}),
        (b'{"a": 1', Reason.BAD_JSON),
        (b"{'a': 1}", Reason.BAD_JSON),
        (b"", Reason.BAD_JSON),
        (b"rubbish", Reason.BAD_JSON),
        (b'{"a": "\x01"}', Reason.BAD_JSON),
        (b"\x00\x00\x00\x00", Reason.BAD_JSON),
        (b"{" * 5000, Reason.BAD_JSON),
        (b"[" * 500_000, Reason.BAD_JSON),
        (b'{"a": ' + b"1" * 5000 + b"}", Reason.BAD_JSON),
        (b'{"a": "\xff"}', Reason.BAD_ENCODING),
        (b'{"a": "\xe9"}', Reason.BAD_ENCODING),
        (b'{"a": "\xed\xa0\xbd"}', Reason.BAD_ENCODING),
        (b"[1]", Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
    ],
)
def test_a_line_is_an_object_or_a_reason(line: bytes, expected: object) -> None:
    assert parse_object(line) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
KEYS = st.sampled_from([*GOOD_REVIEW, *GOOD_ITEM])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(KEYS, JSON, max_size=4))
@example({"overall": 10**400})
@example({"title": ["&#" + "1" * 5000]})
@example({"description": "\ud83d", "brand": "\udc00", "category": ["\ud800"]})
def test_any_json_gives_a_row_that_can_be_written_or_a_reason(changes: dict[str, Any]) -> None:
    row = parse_object(json.dumps({**GOOD_REVIEW, **GOOD_ITEM, **changes}).encode())
    assert isinstance(row, dict)
    review, item = parse_review(row), parse_item(row)
    for text in (*(review if isinstance(review, Review) else ()), *(item if isinstance(item, Item) else ())):
        assert str(text).encode("utf-8").decode("utf-8") == str(text)
    if isinstance(review, Review):
        assert np.isfinite(np.float32(review.rating))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(line=st.binary(max_size=60))
def test_any_bytes_give_an_object_or_a_reason(line: bytes) -> None:
    assert isinstance(parse_object(line), dict | Reason)


@pytest.mark.parametrize(
    ("row", "review", "item"),
    [
        (GOOD_REVIEW, True, False),
        ({"overall": 5.0, "reviewText": "x"}, True, False),
        ({"asin": "B1", "overall": 5.0, "unixReviewTime": 1}, True, False),
        (GOOD_ITEM, False, True),
        ({"asin": "B1", "title": "mug"}, False, True),
        ({"asin": "B1"}, False, False),
        ({"overall": 5.0}, False, False),
        ({"user": 1, "item": 2}, False, False),
        ({}, False, False),
    ],
)
def test_reviews_and_items_are_told_apart(row: dict[str, Any], review: bool, item: bool) -> None:
    assert is_review(row) == review
    if not review:
        assert is_item(row) == item
