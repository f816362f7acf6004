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
        ("<style type='text/css'>.hdr {color:#000}</style>mug", "mug"),
        ("<script>if (a < b && c > d) { track('x'); }</script>mug", "mug"),
        ("mug<SCRIPT src='x'>\n1 > 0</Script >", "mug"),
        ("mug<style>.a {b: c}", "mug"),
        ("mug<!-- cut off", "mug"),
        ("<!-- .h {margin:0 > p} .a {b:c} -->mug", "mug"),
        ("<!--[if gte mso 9]><xml><w:a>b</w:a></xml><![endif]-->mug", "mug"),
        ("<script>a</script>Blue<script>b</script> mug", "Blue mug"),
        ("<scripture>mug", "mug"),
        ("<img alt=\"a > b\" src='x'>mug", "mug"),
        ('<a href="x>mug', "mug"),
        ("<b don't>mug", "mug"),
        ("Salt &amp;amp; pepper, 5&amp;quot; &amp;#39;x&amp;#39;", "Salt & pepper, 5\" 'x'"),
        ("&amp;lt;b&amp;gt;mug&amp;lt;/b&amp;gt;", "mug"),
        ("&amp;amp;amp;amp;", "&amp;"),
        ("&amp;copy is a name", "&copy is a name"),
        ("var aPageStart = (new Date()).getTime(); if (ue) { uet('bb'); }  Wooden Blocks", "Wooden Blocks"),
        ("var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();", ""),
        ("var aPageStart = (new Date()).getTime(); var ue", ""),
        ("var aPageStart = (new Date()).getTime(); return false", ""),
        ("\n(function(f) {var _np=(window.P._namespace('x'));", ""),
        ("window.ue_ihe = (window.ue_ihe || 0) + 1;", ""),
        ("P.when('A').execute(function(A) {});", ""),
        ("function cr(e) { return e; }", ""),
        (".aplus-v2 .apm-brand, .apm {padding: 0; margin: 0} h3 {a: b} Blocks; wooden", "Blocks; wooden"),
        ("@media screen {.a {b: c} .d {e: f}} #g{h:i}", ""),
        (".NET Core {C#: A Guide}", ".NET Core {C#: A Guide}"),
        ("var: the novel", "var: the novel"),
        ("Function (2019) {DVD}", "Function (2019) {DVD}"),
        ("function keys for pianists", "function keys for pianists"),
        ("let x = the unknown", "let x = the unknown"),
        ("#1 Dad {mug}", "#1 Dad {mug}"),
        (".22 Caliber {box: 50}", ".22 Caliber {box: 50}"),
        ("document.pdf reader", "document.pdf reader"),
        ("if (you) {like} mugs", "if (you) {like} mugs"),
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
@example("<script>" * 20_000)
@example("<script" * 20_000)
@example("<!--" * 20_000)
@example("<a='" * 20_000)
@example("<style></style " * 20_000)
@example('<b ="x"' + " " * 50_000)
@example("var a =" * 20_000)
@example(".a" * 20_000)
@example("function (" * 20_000)
@example("&amp;" * 20_000)
@example(".a{b:" + "x{" * 20_000)
@example(".a{b:" + "x" * 50_000)
@example(".a{b:c}" * 20_000)
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


# Text that was escaped four times is unescaped three times, so cleaning again may change it; plain text may not.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    value=st.text(st.characters(exclude_characters="&<", codec="utf-8"))
    | st.text(st.sampled_from("a >\t\n"), max_size=20)
)
def test_clean_text_stays_as_it_is(value: str) -> None:
    assert clean_text(clean_text(value)) == clean_text(value)
