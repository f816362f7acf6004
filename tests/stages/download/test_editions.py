"""The published addresses of the editions, as they are asked for."""

import re

import pytest

from mmprep.pipeline.errors import ParamsError
from mmprep.stages.download.editions import EDITIONS, Extent, check_category, find_edition

LAB = "https://mcauleylab.ucsd.edu/public_datasets/data"


@pytest.mark.parametrize(
    ("edition", "extent", "url", "name"),
    [
        ("2014", "small", f"{LAB}/amazon/categoryFiles/reviews_Books_5.json.gz", "reviews_Books_5.json.gz"),
        ("2014", "full", f"{LAB}/amazon/categoryFiles/reviews_Books.json.gz", "reviews_Books.json.gz"),
        ("2014", "ratings", f"{LAB}/amazon/categoryFiles/ratings_Books.csv", "ratings_Books.csv"),
        ("2018", "small", f"{LAB}/amazon_v2/categoryFilesSmall/Books_5.json.gz", "Books_5.json.gz"),
        ("2018", "full", f"{LAB}/amazon_v2/categoryFiles/Books.json.gz", "Books.json.gz"),
        ("2023", "small", f"{LAB}/amazon_2023/benchmark/5core/rating_only/Books.csv.gz", "Books.5core.csv.gz"),
        ("2023", "full", f"{LAB}/amazon_2023/raw/review_categories/Books.jsonl.gz", "Books.jsonl.gz"),
        ("2023", "ratings", f"{LAB}/amazon_2023/benchmark/0core/rating_only/Books.csv.gz", "Books.0core.csv.gz"),
    ],
)
def test_addresses_of_interactions(edition: str, extent: str, url: str, name: str) -> None:
    found = EDITIONS[edition]
    (file,) = found.interactions[Extent(extent)]
    assert f"{found.base_url}/{file.address.format(category='Books')}" == url
    assert file.local_name("Books") == name


@pytest.mark.parametrize(("extent", "folder"), [("last-out", "last_out_w_his"), ("timestamp", "timestamp_w_his")])
def test_addresses_of_the_splits(extent: str, folder: str) -> None:
    files = EDITIONS["2023"].interactions[Extent(extent)]
    assert [file.address.format(category="Books") for file in files] == [
        f"benchmark/5core/{folder}/Books.{part}.csv.gz" for part in ("train", "valid", "test")
    ]
    kind = extent.replace("-", "_")
    assert [file.local_name("Books") for file in files] == [
        f"Books.{kind}.{part}.csv.gz" for part in ("train", "valid", "test")
    ]


@pytest.mark.parametrize(
    ("edition", "url"),
    [
        ("2014", f"{LAB}/amazon/categoryFiles/meta_Books.json.gz"),
        ("2018", f"{LAB}/amazon_v2/metaFiles2/meta_Books.json.gz"),
        ("2023", f"{LAB}/amazon_2023/raw/meta_categories/meta_Books.jsonl.gz"),
    ],
)
def test_addresses_of_metadata(edition: str, url: str) -> None:
    found = EDITIONS[edition]
    assert f"{found.base_url}/{found.metadata.address.format(category='Books')}" == url


@pytest.mark.parametrize(("edition", "count"), [("2014", 24), ("2018", 29), ("2023", 34)])
def test_categories_are_those_of_the_edition_and_make_harmless_names(edition: str, count: int) -> None:
    categories = EDITIONS[edition].categories
    assert len(set(categories)) == len(categories) == count  # 2023: the 33 that its page counts, and Unknown
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", category) for category in categories)


@pytest.mark.parametrize("edition", EDITIONS)
def test_all_files_of_a_category_have_names_of_their_own(edition: str) -> None:
    found = EDITIONS[edition]
    files = [file for group in (*found.interactions.values(), (found.metadata,)) for file in group]
    names = [file.local_name("Books") for file in files]
    assert len(set(names)) == len(names)


def test_an_unknown_edition_or_category_is_named() -> None:
    with pytest.raises(ParamsError) as caught:
        find_edition("2019")
    assert str(caught.value) == (
        "--edition: found '2019', expected a year; did you mean 2018? (allowed: 2014, 2018, 2023)"
    )
    with pytest.raises(
        ParamsError, match=r"^--category: found 'GiftCards', expected one of the 2018 edition; did you "
    ):
        check_category("GiftCards", "2018")
    with pytest.raises(ParamsError, match="found 'Gift_Cards', expected one of the 2014 edition"):
        check_category("Gift_Cards", "2014")
