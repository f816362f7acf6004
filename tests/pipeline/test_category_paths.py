"""Paths of categories in one line, which can be taken apart again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmprep.pipeline.text import PATH_STEP, PATHS, clean_text, join_paths


@pytest.mark.parametrize(
    ("paths", "line"),
    [
        ([["Clothing, Shoes & Jewelry", "Men"], ["Boots; Shoes"]], "Clothing, Shoes & Jewelry > Men | Boots; Shoes"),
        ([["Home &amp; Kitchen", "", "<b>Mugs</b>"], []], "Home & Kitchen > Mugs"),
        ([["A > B", "C | D"], [">", "|"]], "A B > C D"),
        ([["size>5", "a||b"]], "size>5 > a||b"),
        ([["A", None, ["B"], 3]], "A"),
        (["Mugs", "Cups"], "Mugs | Cups"),
        ([], ""),
        (None, ""),
        ("Mugs", ""),
    ],
)
def test_paths_become_one_line(paths: object, line: str) -> None:
    assert join_paths(paths) == line


@given(paths=st.lists(st.lists(st.text(st.sampled_from("ab >|,;")), min_size=1, max_size=3), max_size=3))
def test_a_line_can_be_taken_apart_into_as_many_steps(paths: list[list[str]]) -> None:
    line = join_paths(paths)
    apart = [path.split(PATH_STEP) for path in line.split(PATHS)] if line else []
    words = [[[word for word in clean_text(step).split() if word not in (">", "|")] for step in path] for path in paths]
    kept = [[" ".join(step) for step in path if step] for path in words]
    assert apart == [path for path in kept if path]
