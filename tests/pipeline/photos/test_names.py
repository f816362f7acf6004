"""Ids become file names that stay in their folder, and are read back from them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmprep.pipeline.photos.decode import FORMATS, SUFFIX_OF_FORMAT, SUFFIXES
from mmprep.pipeline.photos.names import item_of_photo, photo_name


@pytest.mark.parametrize(
    ("item_id", "name"),
    [
        ("B004ZRSSLS", "B004ZRSSLS.jpg"),
        ("a_b-c.d", "a_b-c.d.jpg"),
        (".", "%2E.jpg"),
        ("..", "%2E..jpg"),
        (".hidden", "%2Ehidden.jpg"),
        ("../../etc/passwd", "%2E.%2F..%2Fetc%2Fpasswd.jpg"),
        ("a/b\\c:d", "a%2Fb%5Cc%3Ad.jpg"),
        ("a b~c%d", "a%20b%7Ec%25d.jpg"),
        ("caf\u00e9", "caf%C3%A9.jpg"),
        ("B0.png", "B0.png.jpg"),
    ],
)
def test_names_of_photos(item_id: str, name: str) -> None:
    assert photo_name(item_id, ".jpg") == name
    assert item_of_photo(Path("images") / name) == item_id


@given(st.text(min_size=1))
def test_any_id_is_read_back_from_a_harmless_name(item_id: str) -> None:
    name = photo_name(item_id, ".webp")
    assert item_of_photo(Path(name)) == item_id
    assert Path(name).name == name
    assert name[0] != "."
    assert set(name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.%")


@pytest.mark.parametrize("name", ["B0.jpg", "B0.tar.gz", "50%.jpg", "100%off.png", "caf\u00e9.gif", "no suffix"])
def test_other_names_are_read_as_they_are(name: str) -> None:
    assert item_of_photo(Path("images") / name) == Path(name).stem


def test_every_format_has_a_suffix_that_ingest_looks_at() -> None:
    assert set(FORMATS) <= set(SUFFIX_OF_FORMAT)
    assert set(SUFFIX_OF_FORMAT.values()) <= SUFFIXES
