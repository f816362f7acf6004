"""An item is found by its id or its index, and an unknown one is told the ids that it may stand for."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import write_items

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.text import printable
from mmprep.stages.explore.item_lookup import Item, Items, closest

IDS = ["B004ZRSSLS", "B00AV45RXD", "#1", "b00gqgir8y"]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path, "toy")
    write_items(layout, [{"item_id": each, "title": f"Title {n}"} for n, each in enumerate(IDS)])
    return layout


def test_an_item_is_found_by_its_id_or_by_its_index(layout: Layout) -> None:
    items = Items(layout)
    assert [items.number_of(each) for each in IDS] == [0, 1, 2, 3]
    assert [items.number_of(f"#{n}") for n in (0, 3)] == [0, 3]


def test_an_id_that_looks_like_an_index_is_an_id(layout: Layout) -> None:
    assert Items(layout).number_of("#1") == 2


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("B004ZRSSLX", "B004ZRSSLS"),
        ("B04ZRSSLS", "B004ZRSSLS"),
        ("B004ZZRSSLS", "B004ZRSSLS"),
        ("B00AV54RXD", "B00AV45RXD"),
        ("B00GQGIR8Y", "b00gqgir8y"),
    ],
)
def test_an_unknown_id_names_the_closest(layout: Layout, wanted: str, meant: str) -> None:
    with pytest.raises(DataError) as caught:
        Items(layout).number_of(wanted)
    expected = f"item: found {wanted!r}, expected an id of {layout.items}, or # and an index; did you mean {meant}?"
    assert str(caught.value) == expected


@pytest.mark.parametrize("wanted", ["", "#", "#x", "#-1", "#٣", "quite another"])
def test_what_is_like_no_id_is_refused_without_a_guess(layout: Layout, wanted: str) -> None:
    with pytest.raises(DataError) as caught:
        Items(layout).number_of(wanted)
    assert str(caught.value).startswith(f"item: found {wanted!r}, expected an id of {layout.items}, or # and an index")
    assert "\n" not in str(caught.value)


def test_an_index_beyond_the_items_names_the_last(layout: Layout) -> None:
    with pytest.raises(DataError) as caught:
        Items(layout).number_of("#4")
    assert str(caught.value) == f"item: found #4, expected one of the 4 of {layout.items}, #0 to #3"


def test_items_are_given_by_index_less_those_that_there_are_not(layout: Layout) -> None:
    found = Items(layout).at([3, 0, 9])
    assert found == {0: Item(0, IDS[0], "Title 0", "", "", None), 3: Item(3, IDS[3], "Title 3", "", "", None)}


def test_without_items_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="run `mmprep filter` first"):
        Items(Layout(tmp_path, "toy"))


@given(st.text("AB01", min_size=4, max_size=10), st.data())
def test_an_id_with_one_slip_in_it_is_found(right: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(right) - 1))
    wrong = data.draw(
        st.sampled_from([right[:place] + "C" + right[place + 1 :], right[:place] + right[place + 1 :], f"{right}C"])
    )
    assert closest(pl.Series(["ZZZZ-ZZZZ", right]), wrong) == [right]


def test_what_could_steer_a_terminal_is_shown_as_escapes() -> None:
    assert printable("Schöne Tasse\x1b[2J\u202e\n") == r"Schöne Tasse\x1b[2J\u202e\n"
