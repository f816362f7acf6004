"""Each format is recognised by what is in the file, whatever its name."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mmprep.pipeline.reject_reasons import Reason
from mmprep.stages.ingest import (
    amazon_2014,
    amazon_2018,
    amazon_2023,
    atomic_items,
    delimited,
    given_splits,
    matrices,
    named_fields,
    user_lists,
)
from mmprep.stages.ingest.base import Format
from mmprep.stages.ingest.catalogue import FORMATS, detect_format

EXAMPLES: list[tuple[Format, bytes]] = [
    (
        amazon_2018.REVIEWS,
        b'{"reviewerID": "A1", "asin": "B0", "helpful": [0, 0], "overall": 5.0, "unixReviewTime": 1400000000}',
    ),
    (
        amazon_2018.REVIEWS,
        b'{"overall": 5.0, "verified": true, "reviewerID": "A1", "asin": "B0", "unixReviewTime": 1400000000}',
    ),
    (amazon_2018.ITEMS, b'{"category": [], "description": [], "title": "mug", "also_buy": [], "asin": "B0"}'),
    (amazon_2014.ITEMS, b"{'asin': 'B0', 'title': 'mug', 'imUrl': 'http://x/y.jpg'}"),
    (amazon_2014.ITEMS, b"{'salesRank': {'Baby': 1}, 'asin': 'B0'}"),
    (amazon_2014.RATINGS, b"A1YS9MDZP93857,0006428320,3.0,1394496000"),
    (amazon_2018.RATINGS, b"0006428320,A1YS9MDZP93857,3.0,1394496000"),
    (
        amazon_2023.REVIEWS,
        b'{"rating": 5.0, "asin": "B0", "parent_asin": "B1", "user_id": "AGK", "timestamp": 1588687728923}',
    ),
    (amazon_2023.ITEMS, b'{"main_category": "All Beauty", "title": "mug", "images": [], "parent_asin": "B1"}'),
    (amazon_2023.RATINGS, b"user_id,parent_asin,rating,timestamp\nAGK,B1,5.0,1588687728923"),
    (amazon_2023.RATINGS, b"user_id,parent_asin,rating,timestamp,history\nAGK,B1,5.0,1588687728923,B2 B3"),
    (given_splits.MMREC, b"userID\titemID\trating\ttimestamp\tx_label\n0\t0\t5.0\t1400000000\t0"),
    (given_splits.MMREC, b"userID\titemID\tx_label\tn\xff\n0\t0\t0\t1"),
    (amazon_2018.LITERAL_REVIEWS, b"{'reviewerID': 'A1', 'asin': 'B0', 'overall': 5.0, 'unixReviewTime': 1400000000}"),
    (delimited.TABLE, b"user_id,item_id\n1,2"),
    (delimited.TABLE, b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t5.0\t1400000000.0"),
    (atomic_items.ITEMS, b"item_id:token\ttitle:token_seq\nB0\tmug"),
    (delimited.TABLE, b'"item";"user";"time"\n1;2;2014-05-13'),
]
PARQUET: list[tuple[Format, dict[str, str]]] = [
    (amazon_2023.ITEMS_PARQUET, {"parent_asin": "B0", "title": "mug", "details": "{}"}),
    (amazon_2018.ITEMS_PARQUET, {"asin": "B0", "title": "mug", "brand": "Potter"}),
]
UNKNOWN = [
    b'{"a": 1}',
    b"{'a': 1}",
    b"[]",
    b"rubbish",
    b"a,b,c,d\ne,f,g,h",
    b'{"0": [1, 2]}',
    b'{"asin": "B0"}',
    b"\x89PNG\r\n\x1a\n",
    b"<html>\n<body>\n",
    b"\x00" * 100,
    b"\n\n",
    "A1,B0,5.0,1400000000".encode("utf-16-le"),
]


def recognised(folder: Path, content: bytes, name: str = "file.json") -> Format | Reason:
    path = folder / name
    path.write_bytes(content)
    found = detect_format(path)
    return found if isinstance(found, Reason) else found[0]


def test_there_is_an_example_of_each_format() -> None:
    by_name = {given_splits.LATTICE.name, matrices.MATRIX.name, user_lists.LISTS.name}
    by_name |= {delimited.CHOSEN.name, named_fields.OBJECTS.name, named_fields.PARQUET.name}
    by_name |= {known.name for known, _ in PARQUET}
    assert {known.name for known, _ in EXAMPLES} | by_name == {known.name for known in FORMATS}


@pytest.mark.parametrize(("known", "row"), PARQUET)
def test_parquet_is_recognised_by_its_columns(tmp_path: Path, known: Format, row: dict[str, str]) -> None:
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "rows")
    assert recognised(tmp_path, (tmp_path / "rows").read_bytes(), "meta.parquet") is known


def test_parquet_with_other_columns_is_not_a_known_format(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"a": 1}]), tmp_path / "rows")
    assert recognised(tmp_path, (tmp_path / "rows").read_bytes(), "rows.parquet") is Reason.UNKNOWN_FORMAT
    assert recognised(tmp_path, b"PAR1 and no footer", "rows.parquet") is Reason.UNKNOWN_FORMAT


@pytest.mark.parametrize(("known", "content"), EXAMPLES)
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("name", ["file.json", "reviews.csv.gz", "train.json", "x.inter", "meta"])
def test_a_format_is_recognised_whatever_the_name(
    tmp_path: Path, known: Format, content: bytes, pack: Callable[[bytes], bytes], name: str
) -> None:
    for variant in (content, b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n") + b"\r\n"):
        assert recognised(tmp_path, pack(variant), name) is known


@pytest.mark.parametrize("name", ["train.json", "val.json.gz", "test.jsonl"])
def test_lattice_is_known_by_names_and_lists(tmp_path: Path, name: str) -> None:
    assert recognised(tmp_path, b'{"0": [1, 2], "1": []}', name) is given_splits.LATTICE
    assert recognised(tmp_path, b'{"0": [1, 2], "1": 3}', name) is Reason.UNKNOWN_FORMAT


@pytest.mark.parametrize("content", UNKNOWN)
def test_a_file_of_another_kind_is_not_known(tmp_path: Path, content: bytes) -> None:
    assert recognised(tmp_path, content) is Reason.UNKNOWN_FORMAT


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert recognised(tmp_path, b"") is Reason.EMPTY_FILE
    assert recognised(tmp_path, gzip.compress(EXAMPLES[0][1] * 99)[:40]) is Reason.CUT_OFF_FILE
    assert recognised(tmp_path, zstandard.compress(EXAMPLES[0][1])[:40]) is Reason.CUT_OFF_FILE
    assert recognised(tmp_path, b'{"0": [' + b"1, " * 6_000_000, "other.json") is Reason.LINE_TOO_LONG


def test_a_split_of_lattice_may_be_one_line_of_many_megabytes(tmp_path: Path) -> None:
    content = b'{"0": [' + b"1, " * 6_000_000 + b"2]}"
    assert recognised(tmp_path, content, "train.json") is given_splits.LATTICE


def test_broken_lines_at_the_head_do_not_hide_a_format(tmp_path: Path) -> None:
    for known, content in EXAMPLES:
        if b"\n" not in content:
            assert recognised(tmp_path, b"\n".join([b"# by hand", content, content, content])) is known
