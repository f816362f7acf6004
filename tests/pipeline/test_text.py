"""Published text becomes one clean line."""

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mmprep.pipeline.text import clean_text


@pytest.mark.parametrize(
    ("published", "clean"),
    [
        ("Blue mug", "Blue mug"),
        ("", ""),
        ("  Blue \t\r\n mug\u00a0\u3000 ", "Blue mug"),
        ("Salt &amp; pepper", "Salt & pepper"),
        ("5&quot; &#39;x&#39; &eacute; &#233; &nbsp;", "5\" 'x' é é"),
        ("<b>Bold</b> mug", "Bold mug"),
        ("one<br>two<br/>three", "one two three"),
        ('<a href="x" onclick="y">link</a>', "link"),
        ("<!-- a comment -->mug", "mug"),
        ("<!DOCTYPE html>mug", "mug"),
        ("&lt;b&gt;mug&lt;/b&gt;", "mug"),
        ("a < b", "a < b"),
        ("size < 5 and > 3", "size < 5 and > 3"),
        ("i <3 mugs", "i <3 mugs"),
        ("a <", "a <"),
        ("an <open tag", "an <open tag"),
        ("日本 café \U0001f600", "日本 café \U0001f600"),
        (["one", "two"], "one two"),
        ([" one ", "", "<br>", "two"], "one two"),
        ([], ""),
        ([1, None, "one", {"a": "b"}], "one"),
        (None, ""),
        (5, ""),
        (1.5, ""),
        (True, ""),
        ({"a": "b"}, ""),
        (b"bytes", ""),
    ],
)
def test_clean_text(published: object, clean: str) -> None:
    assert clean_text(published) == clean


def test_lists_are_joined_by_the_separator() -> None:
    assert clean_text(["Home &amp; Kitchen", "", "Mugs"], separator=", ") == "Home & Kitchen, Mugs"


def test_half_a_character_does_not_reach_the_tables() -> None:
    cut = clean_text("mug \ud83d")
    assert cut.encode("utf-8")
    assert cut.startswith("mug")
    assert clean_text("mug \ud83d\ude00").encode("utf-8")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=8,
)
MARKUP = st.lists(st.sampled_from([*"ab&;#x1<>/! \n\"'", "&amp;", "&lt;", "<b>", "&#"]), max_size=20).map("".join)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=VALUES | MARKUP)
@example("&#" + "1" * 5000 + ";")
@example("&#x" + "f" * 5000 + ";")
@example("&#0; &#xD800; &#x110000;")
@example("<" * 20_000)
@example("<a" * 20_000)
def test_any_value_gives_one_line_that_can_be_written(value: object) -> None:
    clean = clean_text(value)
    assert isinstance(clean, str)
    assert clean.encode("utf-8").decode("utf-8") == clean
    assert clean == clean.strip()
    assert not re.search(r"\s\s|[\n\r\t]", clean)


def test_lists_may_be_nested_deeper_than_python_can_call() -> None:
    nested: object = "deep"
    for _ in range(5000):
        nested = [nested]
    assert clean_text(nested) == ""
    assert clean_text(["one", nested]) == "one"


# Text that was escaped twice is unescaped once, so cleaning again may change it; without '&' and '<' it may not.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=st.text(st.characters(exclude_characters="&<", codec="utf-8"))
    | st.text(st.sampled_from("a >\t\n"), max_size=20)
)
def test_clean_text_stays_as_it_is(value: str) -> None:
    assert clean_text(clean_text(value)) == clean_text(value)
