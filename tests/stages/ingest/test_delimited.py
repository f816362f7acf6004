"""CSV and TSV: the header names the columns in any order; quotes, blanks, index columns and records over lines."""

from pathlib import Path

import pytest

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import INTERACTIONS, REJECTS
from mmprep.stages.ingest import delimited
from mmprep.stages.ingest.columns import ColumnsParams
from mmprep.stages.ingest.ingest import IngestParams, run

TIME = 1_400_000_000
ROW = ("A1", "B1", 5.0, TIME, None)
LENIENT = IngestParams(max_reject_fraction=1)

# Each is a whole file with the one interaction ROW.
SAME: dict[str, bytes] = {
    "header in another order": b"item_id,timestamp,user_id,rating\nB1,1400000000,A1,5\n",
    "the 2018 edition's fields": b"overall,reviewerID,asin,unixReviewTime\n5.0,A1,B1,1400000000\n",
    "parent_asin beside asin": b"rating,asin,parent_asin,user_id,timestamp\n5.0,B9,B1,A1,1400000000123\n",
    "a comma at the end": b"UserId,ProductId,Rating,Timestamp,\nA1,B1,5,1400000000,\n",
    "a comma at the end of rows only": b"UserId,ProductId,Rating,Timestamp\nA1,B1,5,1400000000,\n",
    "quotes": b'"user","item","rating","time"\r\n"A1","B1","5.0","1400000000"\r\n',
    "blanks": b"user , item, rating,time\n A1 , B1, 5.0, 1400000000\n",
    "blanks before quotes": b'user, item, rating, time\n"A1", "B1", 5.0, 1400000000\n',
    "an index column": b",user,item,rating,time\n0,A1,B1,5.0,1400000000\n",
    "an index column that the header does not name": b'"user","item","rating","time"\n"1","A1","B1",5,1400000000\n',
    "an index column before tabs": b"\tuser\titem\trating\ttime\n0\tA1\tB1\t5.0\t1400000000\n",
    "semicolons": b"user;item;rating;time\nA1;B1;5.0;1400000000\n",
    "float times": b"user,item,rating,timestamp\nA1,B1,5.0,1400000000.0\n",
    "times with an exponent": b"user,item,rating,timestamp\nA1,B1,5.0,1.4e+09\n",
    "written times": b"user,item,rating,date\nA1,B1,5.0,2014-05-13T16:53:20Z\n",
    "written times without a zone": b"user,item,rating,date\nA1,B1,5.0,2014-05-13 16:53:20\n",
    "text over lines": b'rating,text,user_id,item_id,timestamp\n5,"so ""nice"",\n\nreally\n",A1,B1,1400000000\n',
    "a quote within a field": b'rating,text,user_id,item_id,timestamp\n5,a 5" pipe,A1,B1,1400000000\n',
    "no header, quotes": b'"A1","B1",5.0,1400000000\n',
    "no header, a comma at the end": b"A1,B1,5.0,1400000000,\n",
    "no header, blanks": b"A1, B1, 5.0, 1400000000\n",
    "no header, float times": b"A1,B1,5.0,1400000000.0\n",
    "the benchmark's header and quotes": b'user_id,parent_asin,rating,timestamp\n"A1","B1",5.0,1400000000123\n',
}


def dataset(folder: Path, content: bytes, name: str = "ratings.csv") -> Layout:
    layout = Layout(folder / "data", "toys")
    layout.raw.mkdir(parents=True)
    (layout.raw / name).write_bytes(content)
    return layout


def taken(layout: Layout, params: IngestParams = LENIENT) -> list[tuple[object, ...]]:
    run(params, layout)
    return INTERACTIONS.read(layout.raw_interactions).rows()


def rejects(layout: Layout) -> list[tuple[object, ...]]:
    return REJECTS.read(layout.rejects).select("line", "reason", "excerpt").rows()


@pytest.mark.parametrize("name", SAME)
def test_the_same_interaction_in_each_form(tmp_path: Path, name: str) -> None:
    layout = dataset(tmp_path, SAME[name])
    assert taken(layout) == [ROW]
    assert rejects(layout) == []


def test_a_header_decides_where_ids_are_numbers(tmp_path: Path) -> None:
    lines = [f"{item},{1000 + user},5.0,{TIME}" for user in range(3) for item in range(2)]
    layout = dataset(tmp_path, "\n".join(["item_id,user_id,rating,timestamp", *lines]).encode())
    assert {row[:2] for row in taken(layout)} == {(f"{1000 + user}", f"{item}") for user in range(3) for item in (0, 1)}


def test_a_table_without_header_keeps_its_order_of_columns(tmp_path: Path) -> None:
    assert taken(dataset(tmp_path, b"7,1011,5.0,1400000000\n")) == [("7", "1011", 5.0, TIME, None)]


def test_ratings_and_times_may_be_missing_as_columns(tmp_path: Path) -> None:
    assert taken(dataset(tmp_path, b"user_id,item_id\n1,2\n")) == [("1", "2", None, None, None)]


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ("A1,B1,good,1400000000", "rating missing or not a finite number", "rating is 'good'"),
        ("A1,B1,,1400000000", "rating missing or not a finite number", "no rating"),
        ("A1,B1,5,soon", "time missing or impossible", "timestamp is 'soon'"),
        ("A1,B1,5,12", "time missing or impossible", "timestamp is '12'"),
        (",B1,5,1400000000", "no user id", "no user_id"),
        ("A1,,5,1400000000", "no item id", "no item_id"),
        ("A1,B1,5", "other columns than expected", "3 columns, expected 4"),
        ("A1,B1,5,1400000000,x", "other columns than expected", "5 columns, expected 4"),
        ('A1,"B1,5,1400000000', "other columns than expected", "a quote that is not closed"),
    ],
)
def test_a_reject_names_column_and_value(tmp_path: Path, row: str, reason: str, detail: str) -> None:
    content = f"user_id,item_id,rating,timestamp\nA1,B1,5,{TIME}\n{row}\nA1,B2,5,{TIME}\n"
    layout = dataset(tmp_path, content.encode())
    assert [found[1] for found in taken(layout)] == ["B1", "B2"]
    assert rejects(layout) == [(3, reason, f"{detail}; {row}")]


def test_bytes_that_are_not_utf8_cost_their_line_only(tmp_path: Path) -> None:
    layout = dataset(tmp_path, b"user_id,item_id\nA1,B1\nA\xff,B2\nA1,B3\n")
    assert [found[1] for found in taken(layout)] == ["B1", "B3"]
    assert [found[:2] for found in rejects(layout)] == [(3, "not UTF-8")]


def test_an_open_quote_costs_its_line_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_RECORD", 100)
    lines = [f"A{at},B1,5.0,{TIME}" for at in range(50)]
    lines[2] = f'A2,"B1,5.0,{TIME}'
    layout = dataset(tmp_path, "\n".join(["user,item,rating,time", *lines]).encode())
    assert len(taken(layout)) == 49
    assert [found[0] for found in rejects(layout)] == [4]


def test_rejects_count_lines_of_the_file(tmp_path: Path) -> None:
    content = f'text,user,item,rating,time\n"a\nb\nc",A1,B1,5.0,{TIME}\n\n"d\ne",A1,B1,x,{TIME}\n'
    layout = dataset(tmp_path, content.encode())
    assert taken(layout) == [ROW]
    assert [found[0] for found in rejects(layout)] == [6]


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (
            "reviewerID,user_id,item_id",
            "columns reviewerID and user_id may each be the user; name one in ingest.columns",
        ),
        (
            "user_id,item_id,product_id",
            "columns item_id and product_id may each be the item; name one in ingest.columns",
        ),
        ("user_id,title,rating", "no column of items among user_id, title, rating; name them in ingest.columns"),
        ("A1,B1,5.0,x,1400000000", "5 columns, expected 4"),
    ],
)
def test_a_table_that_is_not_read_says_why(tmp_path: Path, header: str, cause: str) -> None:
    layout = dataset(tmp_path, f"{header}\n".encode() + b"A1,B1,5.0,x,1400000000\n")
    with pytest.raises(MissingInputError, match=r"no reviews found among 1 files; ratings\.csv: ") as caught:
        run(LENIENT, layout)
    assert cause in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "content"),
    [
        (
            ColumnsParams(user="who", item="what", rating="much", time="when"),
            b"when,what,who,much\n1400000000,B1,A1,5\n",
        ),
        (ColumnsParams(user="user_id", item="item_id"), b"uid,user_id,item_id,rating,time\nX,A1,B1,5,1400000000\n"),
        (ColumnsParams(user=2, item=1, rating=3, time=4), b"B1,A1,5.0,1400000000\n"),
        (ColumnsParams(user=1, item=3, rating=4, time=5), b"A1|x|B1|5.0|1400000000\n"),
        (ColumnsParams(time="t", unit="ms"), b"user,item,rating,t\nA1,B1,5,1400000000999\n"),
        (ColumnsParams(time="t", unit="iso"), b"user,item,rating,t\nA1,B1,5,2014-05-13T18:53:20+02:00\n"),
    ],
)
def test_columns_that_are_given_take_precedence(tmp_path: Path, columns: ColumnsParams, content: bytes) -> None:
    layout = dataset(tmp_path, content)
    assert taken(layout, IngestParams(columns=columns, max_reject_fraction=0)) == [ROW]


def test_another_unit_than_the_given_one_is_named(tmp_path: Path) -> None:
    layout = dataset(tmp_path, b"user,item,rating,t\nA1,B1,5,1400000000999\nA1,B2,5,1400000000\n")
    assert len(taken(layout, IngestParams(columns=ColumnsParams(time="t", unit="s"), max_reject_fraction=1))) == 1
    assert str(rejects(layout)[0][2]).startswith("t is '1400000000999', which looks like milliseconds; ")


def test_columns_that_no_file_has_stop_the_stage(tmp_path: Path) -> None:
    layout = dataset(tmp_path, b"A1,B1,5.0,1400000000\n")
    with pytest.raises(MissingInputError, match=r"no file has the columns of ingest.columns \(who, what\)"):
        run(IngestParams(columns=ColumnsParams(user="who", item="what")), layout)


def test_too_many_rejects_name_the_first(tmp_path: Path) -> None:
    layout = dataset(tmp_path, b"user,item,rating,time\nA1,B1,x,1400000000\n")
    with pytest.raises(DataError, match=r"the first is line 2 of ratings\.csv: rating is 'x'"):
        run(IngestParams(), layout)
