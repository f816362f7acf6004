"""Nested fields of metadata in the shapes that exports give them."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmprep.stages.ingest.nested import (
    category_path,
    details_text,
    is_blank,
    largest_image,
    nested_text,
    paths_in,
    unpacked,
    url_in,
)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('["a", "b"]', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        (" ['it\\'s', \"5\\\" tall\"] ", ["it's", '5" tall']),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),
        ("['a' \"b's\"]", ["a", "b's"]),
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("[['a', 'b'], ['c']]", [["a", "b"], ["c"]]),
        ('{"Brand": "Acme"}', {"Brand": "Acme"}),
        ("{'Brand': 'Acme', 'Size': 5}", {"Brand": "Acme", "Size": 5}),
        ("[Import]", "[Import]"),
        ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
        ("('a', 'b')", "('a', 'b')"),
        ("a [b]", "a [b]"),
        ("[" * 5000 + "]" * 5000, "[" * 5000 + "]" * 5000),
        ("", ""),
        (None, None),
        (5, 5),
    ],
)
def test_a_string_that_holds_a_list_or_a_dictionary_is_taken_apart(written: object, value: object) -> None:
    assert unpacked(written) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("A nice toy", "A nice toy"),
        (["A nice", "toy"], "A nice toy"),
        ([["A nice"], ["toy", [None, 5]]], "A nice toy"),
        ("['A nice', 'toy']", "A nice toy"),
        ({"0": "A nice toy"}, ""),
        (5, ""),
    ],
)
def test_descriptions_are_strings_lists_or_lists_of_lists(value: object, text: str) -> None:
    assert nested_text(value) == text


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (["Toys", "Blocks"], "Toys > Blocks"),
        ([["Toys", "Blocks"], ["Gifts"]], "Toys > Blocks | Gifts"),
        ("['Toys', 'Blocks']", "Toys > Blocks"),
        ("[['Toys', 'Blocks'], ['Gifts']]", "Toys > Blocks | Gifts"),
        ([["Toys", ["Blocks"]], "Gifts"], "Toys > Blocks | Gifts"),
        ("Toys", "Toys"),
        ({"0": "Toys"}, ""),
        ([], ""),
    ],
)
def test_categories_are_a_path_or_several(value: object, line: str) -> None:
    assert category_path(value) == line


def test_categories_of_2014_are_paths_and_names_alone_are_one_each() -> None:
    assert paths_in(["Mugs", "Cups"]) == paths_in('["Mugs", "Cups"]') == "Mugs | Cups"
    assert paths_in("[['Home', 'Mugs']]") == "Home > Mugs"


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (["https://m/1.jpg", "https://m/2.jpg"], "https://m/1.jpg"),
        ("['https://m/1.jpg']", "https://m/1.jpg"),
        ([["https://m/1.jpg"]], "https://m/1.jpg"),
        (" https://m/1.jpg ", "https://m/1.jpg"),
        ("//m/1.jpg", "//m/1.jpg"),
        ("no photo", None),
        ("[]", None),
        ({"a": "https://m/1.jpg"}, None),
    ],
)
def test_the_first_url_is_used(value: object, url: str | None) -> None:
    assert url_in(value) == url


@pytest.mark.parametrize(
    "value", [None, "", "  ", "None", "NaN", float("nan"), [], {}, "[]", [None, ""], {"hi_res": [], "large": [None]}]
)
def test_a_field_without_a_value_is_blank(value: object) -> None:
    assert is_blank(value)


@pytest.mark.parametrize("value", ["x", 0, 5, False, [5], {"a": 1}, "[7]", [[[[[[[[[]]]]]]]]]])
def test_a_field_with_any_value_is_not_blank(value: object) -> None:
    assert not is_blank(value)


def test_details_become_pairs_of_names_and_values() -> None:
    details: dict[str, Any] = {"Brand": "Acme", "Weight": 1.5, "Colors": ["red", "blue"], "New": True, "Rank": {"A": 1}}
    assert details_text(details) == "Brand: Acme; Weight: 1.5; Colors: red blue"
    assert details_text(json.dumps(details)) == details_text(details)
    assert details_text("no details") == details_text(None) == ""


TEXTS = st.text(st.sampled_from("[]{}()'\"\\,: a1/n"), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.sampled_from("[]{}()'\"\\,: a1/n"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value=VALUES | st.dictionaries(st.sampled_from(["hi_res", "large"]), VALUES, max_size=2))
@example("array([")
@example("[" * 100_000)
@example("['\\x")
@example("['a'" * 20_000 + "]")
@example('{"a": ' * 50_000 + "}")
def test_any_value_gives_text_or_nothing(value: object) -> None:
    for made in (nested_text(value), category_path(value), paths_in(value), details_text(value)):
        assert made.encode("utf-8").decode("utf-8") == made
    for url in (url_in(value), largest_image(value)):
        assert url is None or url.isprintable()
    assert isinstance(is_blank(value), bool)
