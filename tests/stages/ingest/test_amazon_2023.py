"""The 2023 edition: reviews and items of JSON lines, and benchmark CSVs, also split ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from mmprep.pipeline.reject_reasons import Reason
from mmprep.stages.ingest.amazon_2023 import RATINGS, REVIEWS, item_in, rating_parser, review_in
from mmprep.stages.ingest.base import FileHead
from mmprep.stages.ingest.line_reader import LineBlock
from mmprep.stages.ingest.records import Fault, Item, Parse, Review

REVIEW = {
    "rating": 5.0,
    "title": "Such a lovely scent",
    "text": "This spray is really nice.",
    "images": [{"small_image_url": "https://m/I/1._SL256_.jpg", "attachment_type": "IMAGE"}],
    "asin": "B00YQ6X8EO",
    "parent_asin": "B00YQ6X8EP",
    "user_id": "AGKHLEW2SOWHNMFQIJGBECAF7INQ",
    "timestamp": 1588687728923,
    "helpful_vote": 0,
    "verified_purchase": True,
}
ITEM = {
    "main_category": "All Beauty",
    "title": "Howard LC0008 Leather Conditioner, 8-Ounce &amp; more",
    "average_rating": 4.8,
    "rating_number": 10,
    "features": ["One.", "Two."],
    "description": ["It is <b>good</b>.", "Really."],
    "price": None,
    "images": [
        {"thumb": "https://m/t1.jpg", "large": "https://m/l1.jpg", "variant": "MAIN", "hi_res": None},
        {"thumb": "https://m/t2.jpg", "large": "https://m/l2.jpg", "variant": "PT01", "hi_res": "https://m/h2.jpg"},
    ],
    "videos": [],
    "store": "Howard Products",
    "categories": ["Beauty", "Hair"],
    "details": {"Package Dimensions": "7.1 x 5.5 inches", "Brand": "Howard"},
    "parent_asin": "B01CUPMQZE",
    "bought_together": None,
}


def line(row: dict[str, Any], **changes: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return json.dumps(row | changes).encode()


def item(**changes: Any) -> Item:  # noqa: ANN401
    parsed = item_in(line(ITEM, **changes))
    assert isinstance(parsed, Item)
    return parsed


def parser(name: str) -> Parse:
    return rating_parser(FileHead(Path(name), (), ()))


def test_a_review_belongs_to_the_parent_and_its_time_is_in_seconds() -> None:
    expected = Review("AGKHLEW2SOWHNMFQIJGBECAF7INQ", "B00YQ6X8EP", 5.0, 1_588_687_728)
    assert review_in(line(REVIEW)) == expected
    assert REVIEWS.parse_block is not None
    frame = REVIEWS.parse_block(LineBlock(1, line(REVIEW) + b"\n" + line(REVIEW)))
    assert frame is not None
    assert frame.rows() == [expected, expected]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"user_id": None}, Reason.MISSING_USER),
        ({"parent_asin": ""}, Reason.MISSING_ITEM),
        ({"rating": None}, Reason.BAD_RATING),
        ({"rating": float("nan")}, Reason.BAD_RATING),
        ({"rating": float("inf")}, Reason.BAD_RATING),
        ({"timestamp": None}, Reason.BAD_TIMESTAMP),
        ({"timestamp": True}, Reason.BAD_TIMESTAMP),
        ({"timestamp": 1588687728}, Reason.BAD_TIMESTAMP),
        ({"timestamp": 1588687728.5}, Reason.BAD_TIMESTAMP),
        ({"timestamp": "1588687728"}, Reason.BAD_TIMESTAMP),
        ({"timestamp": 10**30}, Reason.BAD_TIMESTAMP),
    ],
)
def test_a_review_that_cannot_be_used_gives_its_reason(changes: dict[str, Any], reason: Reason) -> None:
    fault = review_in(line(REVIEW, **changes))
    assert isinstance(fault, Fault)
    assert (fault.reason, next(iter(changes)) in fault.detail) == (reason, True)
    assert REVIEWS.parse_block is not None
    assert REVIEWS.parse_block(LineBlock(1, line(REVIEW, **changes))) is None


def test_an_item_is_cleaned() -> None:
    assert item() == Item(
        item_id="B01CUPMQZE",
        title="Howard LC0008 Leather Conditioner, 8-Ounce & more",
        description="It is good . Really.",
        categories="Beauty > Hair",
        brand="Howard",
        image_url="https://m/l1.jpg",
        features=["One.", "Two."],
        details={"Package Dimensions": "7.1 x 5.5 inches", "Brand": "Howard"},
    )


def test_an_item_of_which_only_the_id_is_known_has_empty_texts() -> None:
    assert item_in(b'{"parent_asin": "B0"}') == Item("B0", "", "", "", "", None)


@pytest.mark.parametrize("empty", [None, [], "", ["", None]])
def test_features_stand_in_for_a_description(empty: object) -> None:
    assert item(description=empty).description == "One. Two."


@pytest.mark.parametrize("details", [None, {}, {"Brand": ""}, {"Brand": None}, '{"Size": "5"}', "{}", []])
def test_the_store_stands_in_for_a_brand(details: object) -> None:
    assert item(details=details).brand == "Howard Products"


@pytest.mark.parametrize(
    ("images", "url"),
    [
        ([{"hi_res": "h", "large": "l", "thumb": "t"}], "h"),
        ([{"hi_res": None, "large": "l", "thumb": "t"}], "l"),
        ([{"thumb": "t"}], "t"),
        ([{"variant": "MAIN"}, {"large": "l2"}], "l2"),
        ([None, 5, "x", {"large": ["l"]}], None),
        ([], None),
        (None, None),
        ({"hi_res": ["h"]}, "h"),
        ({"hi_res": [None, "h2"], "large": ["l1", "l2"], "variant": ["MAIN", "PT01"]}, "l1"),
        ({"hi_res": [None], "large": [None, "l2"]}, "l2"),
        ({"hi_res": "h", "thumb": []}, "h"),
        ('{"hi_res": ["h"], "large": ["l"]}', "h"),
        ("[{'hi_res': None, 'large': 'l'}]", "l"),
        (["https://m/1.jpg", "https://m/2.jpg"], "https://m/1.jpg"),
        ({"hi_res": [], "large": [], "thumb": []}, None),
        ({}, None),
        ([{"large": "a\x00b"}], None),
    ],
)
def test_the_first_image_in_its_largest_size_is_kept(images: object, url: str | None) -> None:
    assert item(images=images).image_url == url


@pytest.mark.parametrize("name", [None, "", 5, ["B0"], "B\x00"])
def test_an_item_without_an_id_is_refused(name: object) -> None:
    assert item_in(line(ITEM, parent_asin=name)) is Reason.MISSING_ITEM


@pytest.mark.parametrize("read", [review_in, item_in])
def test_a_line_that_is_no_object_gives_its_reason(read: Parse) -> None:
    assert read(b"{") is Reason.BAD_JSON
    assert read(b"[]") is Reason.NOT_AN_OBJECT
    assert read(b'{"parent_asin": "\xff"}') is Reason.BAD_ENCODING


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("All_Beauty.csv.gz", None),
        ("All_Beauty.5core.csv.gz", None),
        ("All_Beauty.train.csv.gz", "train"),
        ("All_Beauty.last-out.valid.csv", "val"),
        ("test.csv", "test"),
        ("Latest_training.csv", None),
    ],
)
def test_the_name_of_a_benchmark_file_says_its_split(name: str, split: str | None) -> None:
    assert parser(name)(b"A1,B0,5.0,1588687728923") == Review("A1", "B0", 5.0, 1_588_687_728, split)
    assert parser(name)(b"A1,B0,5.0,1588687728923,B1 B2 B3") == Review("A1", "B0", 5.0, 1_588_687_728, split)


def test_headers_are_no_rows() -> None:
    assert parser("x.csv")(b"user_id,parent_asin,rating,timestamp") == []
    assert parser("x.csv")(b"user_id,parent_asin,rating,timestamp,history") == []
    assert not RATINGS.matches(FileHead(Path("x.csv"), (), ()))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"A1,B0,5.0", Reason.BAD_COLUMNS),
        (b",B0,5.0,1588687728923", Reason.MISSING_USER),
        (b"A1,,5.0,1588687728923", Reason.MISSING_ITEM),
        (b"A1,B0,NaN,1588687728923", Reason.BAD_RATING),
        (b"A1,B0,5.0,1588687728", Reason.BAD_TIMESTAMP),
        (b"A1,B0,5.0,yesterday", Reason.BAD_TIMESTAMP),
        (b"A\xff,B0,5.0,1588687728923", Reason.BAD_ENCODING),
    ],
)
def test_a_rating_that_cannot_be_used_gives_its_reason(row: bytes, reason: Reason) -> None:
    parsed = parser("x.csv")(row)
    assert (parsed.reason if isinstance(parsed, Fault) else parsed) is reason
