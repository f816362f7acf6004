"""The 2014 edition: metadata as Python literals, of which nothing is evaluated, and ratings without a header."""

import ast
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.reject_reasons import Reason
from mmprep.stages.ingest import amazon_2018
from mmprep.stages.ingest.amazon_2014 import item_in, parse_literal, rating_in, to_seconds
from mmprep.stages.ingest.records import Fault, Item, Review

# As published, the lists shortened.
PUBLISHED = (
    rb"""{'asin': '0188399313', 'categories': [['Baby', 'Feeding'], ['Baby Products', 'Bibs & Burp Cloths']], """
    rb"""'description': "Lead free 4pc set; don't miss it", 'title': 'Lifefactory 4oz \'BPA Free\' "Glass" Bottles', """
    rb"""'salesRank': {'Baby': 5547}, """
    rb"""'imUrl': 'http://ecx.images-amazon.com/images/I/41SwthpdD9L.jpg', """
    rb"""'brand': 'Lifefactory', 'related': {'also_viewed': ['B002SG7K7A', 'B003CJSXW8'], 'also_bought': []}}"""
)


def test_an_item_as_published_is_taken() -> None:
    assert item_in(PUBLISHED) == Item(
        item_id="0188399313",
        title="""Lifefactory 4oz 'BPA Free' "Glass" Bottles""",
        description="Lead free 4pc set; don't miss it",
        categories="Baby > Feeding | Baby Products > Bibs & Burp Cloths",
        brand="Lifefactory",
        image_url="http://ecx.images-amazon.com/images/I/41SwthpdD9L.jpg",
    )


def test_an_item_of_which_only_the_id_is_known_has_empty_texts() -> None:
    assert item_in(b"{'asin': 'B0'}") == Item("B0", "", "", "", "", None)


@pytest.mark.parametrize(
    "odd", ["None", "True", "5", "['a', ['b']]", "{'a': 1}", "[[]]", "[None, [None, 7]]", "{'a'}", "('a', 'b')", "b'a'"]
)
def test_fields_of_other_kinds_than_expected_are_no_accident(odd: str) -> None:
    fields = ", ".join(f"'{name}': {odd}" for name in ("title", "description", "categories", "brand", "imUrl"))
    item = item_in(f"{{'asin': 'B0', {fields}}}".encode())
    assert isinstance(item, Item)
    assert (item.item_id, item.image_url) == ("B0", None)


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (r"'it\'s'", "it's"),
        (r"'say \"hi\"'", 'say "hi"'),
        ("'say \"hi\"'", 'say "hi"'),
        ('"it\'s"', "it's"),
        (r'''"it's \"so\""''', """it's "so\""""),
        (r"'\x41\xe9\x00'", "A\xe9\x00"),
        (r"'\u65e5\u672c \U0001f600'", "日本 \U0001f600"),
        (r"'\t\n\r\a\b\f\v\\'", "\t\n\r\a\b\f\v\\"),
        (r"'\101\7\08'", "A\x07\x008"),
        (r"'\d \/ \é'", r"\d \/ \é"),
        (r"'\N{BULLET}'", "•"),
        ("'é日本😀'", "é日本😀"),
        ("'\t'", "\t"),
        ("'a' 'b' \"c\"", "abc"),
        ("''", ""),
        ('""', ""),
        ("'''it's'''", "it's"),
        ("u'a'", "a"),
        (r"r'\n'", r"\n"),
        ("None", None),
        ("True", True),
        ("(1, 2)", (1, 2)),
        ("[1, 2,]", [1, 2]),
        ("-1.5e3", -1500.0),
        ("0x10", 16),
        ("1_000", 1000),
        ("{'': {1: [None]}}", {"": {1: [None]}}),
    ],
)
def test_values_mean_what_they_mean_in_python(literal: str, value: object) -> None:
    assert parse_literal(f"{{'a': {literal}, \"b\": 'x'}}".encode()) == {"a": value, "b": "x"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{'asin': 'B0'", Reason.BAD_LITERAL),
        (b"{'asin': 'B0}", Reason.BAD_LITERAL),
        (b"{'asin': \"B0}", Reason.BAD_LITERAL),
        (b"{'asin': 'B0'} {'asin': 'B1'}", Reason.BAD_LITERAL),
        (b"{'asin': 'B0', 'related': {'also_bought': ['B1', 'B2'}}", Reason.BAD_LITERAL),
        (b"{'asin': 'B0', 'related': oops}", Reason.BAD_LITERAL),
        (rb"{'asin': 'B\x4'}", Reason.BAD_LITERAL),
        (rb"{'asin': 'B\uZZZZ'}", Reason.BAD_LITERAL),
        (rb"{'asin': 'B\U00110000'}", Reason.BAD_LITERAL),
        (rb"{'asin': 'B\N{NO SUCH THING}'}", Reason.BAD_LITERAL),
        (b"{'asin': nan}", Reason.BAD_LITERAL),
        (b"{['a']: 1}", Reason.BAD_LITERAL),
        (b"{'asin': " + b"1" * 5000 + b"}", Reason.BAD_LITERAL),
        (b"{'asin': 'B\x00'}", Reason.BAD_LITERAL),
        (b"rubbish", Reason.BAD_LITERAL),
        (b"\x00\x00\x00", Reason.BAD_LITERAL),
        (b"{'asin': 'B\xff'}", Reason.BAD_ENCODING),
        (b"{'asin': '\xed\xa0\xbd'}", Reason.BAD_ENCODING),
        (b"['asin']", Reason.NOT_AN_OBJECT),
        (b"None", Reason.NOT_AN_OBJECT),
        (b"{}", Reason.MISSING_ITEM),
        (b"{'title': 'no id'}", Reason.MISSING_ITEM),
        (b"{'asin': None}", Reason.MISSING_ITEM),
        (b"{'asin': 5}", Reason.MISSING_ITEM),
        (rb"{'asin': 'B\x00'}", Reason.MISSING_ITEM),
        (rb"{'asin': 'B\ud83d'}", Reason.MISSING_ITEM),
        (b"{'asin': ' '}", Reason.MISSING_ITEM),
    ],
)
def test_a_line_that_gives_no_item_gives_its_reason(line: bytes, reason: Reason) -> None:
    assert item_in(line) is reason


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 5000, "(" * 100_000, "{1:" * 5000, "-" * 100_000 + "1", "1+" * 100_000 + "1", "~" * 5000 + "1"),
        *("a." * 100_000 + "a", "[" * 190 + "-" * 50_000 + "1", "not " * 50_000 + "1", "lambda:" * 50_000 + "1"),
        *('f"{' * 300, "\\'" * 200_000, "'\\" * 100_000, "'\"" * 200_000, '"' * 200_001, "{'" * 100_000),
    ],
    ids=lambda text: text[:6],
)
def test_a_line_made_to_bring_the_parser_down_is_only_broken(text: str) -> None:
    assert item_in(f"{{'asin': 'B0', 'title': {text}}}".encode()) is Reason.BAD_LITERAL


def test_brackets_in_a_text_are_text() -> None:
    item = item_in(f"{{'asin': 'B0', 'price': None, 'title': '{'(' * 30_000}'}}".encode())
    assert isinstance(item, Item)
    assert item.title == "(" * 30_000


@pytest.mark.parametrize(
    "code", ["__import__('os').system('touch {}')", "open('{}', 'w')", "[open('{}', 'w') for _ in 'a']", 'f"{{1}}"']
)
def test_code_is_never_run(tmp_path: Path, code: str) -> None:
    line = f"{{'asin': 'B0', 'title': {code.format(tmp_path / 'trace')}}}".encode()
    assert item_in(line) is Reason.BAD_LITERAL
    assert not (tmp_path / "trace").exists()


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
)
VALUES = st.recursive(
    SCALARS | st.text(st.sampled_from("'\"\\nxu0é\t\x00{}[],: #"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(row=st.dictionaries(st.text(max_size=6), VALUES, max_size=4))
@example({"a": "\"'\\"})
@example({"a": "it's", "b": 'say "x"', "c": "\\'"})
def test_what_python_writes_is_read_back(row: dict[str, Any]) -> None:
    assert parse_literal(repr(row).encode()) == row


PARTS = ["'", '"', "\\", "a", "{", "}", "[", "]", ":", ",", " ", "1", "\\x41", "\\'", "'a'", "'b': ", "None", "#", "é"]


@settings(max_examples=1000, deadline=None)
@given(line=st.lists(st.sampled_from(PARTS), max_size=12).map(lambda parts: "{'a': " + "".join(parts) + "}"))
def test_any_line_gives_what_pythons_own_parser_gives(line: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unknown escapes, which Python takes as they stand
            expected = ast.literal_eval(line)
    except (ValueError, SyntaxError, TypeError):
        assert parse_literal(line.encode()) is Reason.BAD_LITERAL
    else:
        found = parse_literal(line.encode())
        assert found == (expected if isinstance(expected, dict) else Reason.NOT_AN_OBJECT)


@settings(max_examples=300, deadline=None)
@given(line=st.binary(max_size=40))
def test_any_bytes_give_an_item_or_a_reason(line: bytes) -> None:
    assert isinstance(item_in(line), Item | Reason)
    assert isinstance(rating_in(line), Review | Reason | Fault)


def test_a_rating_is_taken() -> None:
    assert rating_in(b"A1,B0,5.0,1400000000") == Review("A1", "B0", 5.0, 1_400_000_000)
    assert amazon_2018.rating_in(b"B0,A1,5.0,1400000000") == Review("A1", "B0", 5.0, 1_400_000_000)


@pytest.mark.parametrize("name", ["a/b", "../..", "a.b", "é日本", "a b", "A\\u0041"])
def test_ids_are_kept_as_published(name: str) -> None:
    assert rating_in(f"{name},{name},1,1400000000".encode()) == Review(name, name, 1.0, 1_400_000_000)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"A1,B0,5.0", Reason.BAD_COLUMNS),
        (b"A1,B0,5.0,1400000000,x", Reason.BAD_COLUMNS),
        (b"user,item,rating,timestamp", Reason.BAD_RATING),
        (b",B0,5.0,1400000000", Reason.MISSING_USER),
        (b"A\x001,B0,5.0,1400000000", Reason.MISSING_USER),
        (b"A1, ,5.0,1400000000", Reason.MISSING_ITEM),
        (b"A1,B\x1b[2J,5.0,1400000000", Reason.MISSING_ITEM),
        (b"A1,B0,,1400000000", Reason.BAD_RATING),
        (b"A1,B0,nan,1400000000", Reason.BAD_RATING),
        (b"A1,B0,-inf,1400000000", Reason.BAD_RATING),
        (b"A1,B0,1e400,1400000000", Reason.BAD_RATING),
        (b"A1,B0,5.0,", Reason.BAD_TIMESTAMP),
        (b"A1,B0,5.0,0", Reason.BAD_TIMESTAMP),
        (b"A1,B0,5.0,-1400000000", Reason.BAD_TIMESTAMP),
        (b"A1,B0,5.0,1400000000000", Reason.BAD_TIMESTAMP),
        (b"A1,B0,5.0," + b"9" * 9999, Reason.BAD_TIMESTAMP),
        (b"A1,B0,5.0,2014-05-13", Reason.BAD_TIMESTAMP),
        (b"A\xff,B0,5.0,1400000000", Reason.BAD_ENCODING),
    ],
)
def test_a_rating_that_cannot_be_used_gives_its_reason(line: bytes, reason: Reason) -> None:
    parsed = rating_in(line)
    assert (parsed.reason if isinstance(parsed, Fault) else parsed) is reason


def test_seconds_are_whole() -> None:
    assert to_seconds("1400000000999", 1000) == 1_400_000_000
