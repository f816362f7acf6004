"""What an encoder reads: texts by template, photos by content, in the order of batches."""

from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from PIL import Image
from worlds import write_items

from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.decode import PhotoError
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.tables.schemas import ITEMS
from mmprep.stages.extract.inputs import Source, key_of, photo_inputs, photo_sources, text_inputs, text_sources


@pytest.fixture
def items(tmp_path: Path) -> pl.DataFrame:
    layout = Layout(tmp_path, "toy")
    write_items(
        layout,
        [
            {"title": "Shoe", "brand": "Acme", "image": "images/a.png"},
            {"title": "", "brand": ""},
            {"title": "", "brand": "Bolt", "image": "images/b.png"},
        ],
    )
    return ITEMS.read(layout.items)


def test_items_without_a_text_or_photo_are_no_sources(items: pl.DataFrame) -> None:
    assert text_sources(items, "{title} by {brand}") == [Source(0, "Shoe by Acme"), Source(2, "by Bolt")]
    assert text_sources(items, "all") == [Source(0, "Shoe Acme"), Source(2, "Bolt")]
    assert photo_sources(items) == [Source(0, "images/a.png"), Source(2, "images/b.png")]


def test_a_text_is_named_by_its_own_digest() -> None:
    keyed = text_inputs().keyed(Source(3, "Schöner Schuh"))
    assert keyed.key == sha256("Schöner Schuh".encode()).digest()
    inputs = text_inputs()
    assert inputs.open(inputs.read("Schöner Schuh")) == "Schöner Schuh"


def test_a_photo_is_named_by_the_bytes_of_its_file_wherever_it_lies(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "images" / name)
    inputs = photo_inputs(PhotoFiles(tmp_path))
    first, second = (inputs.keyed(Source(n, f"images/{name}.png")) for n, name in enumerate("ab"))
    assert first.key == second.key == key_of((tmp_path / "images" / "a.png").read_bytes())
    assert inputs.open(inputs.read("images/a.png")).getpixel((0, 0)) == (255, 0, 0)  # type: ignore[attr-defined]
    with pytest.raises(PhotoError, match="file is gone"):
        inputs.keyed(Source(2, "images/c.png"))


def test_texts_come_in_an_order_of_their_own_and_photos_in_that_of_items() -> None:
    texts = [text_inputs().keyed(Source(n, text)) for n, text in enumerate(["aa", "bbbb", "cc", "ddd"])]
    ranked = [keyed.source.content_ref for keyed in sorted(texts, key=text_inputs().rank)]
    assert sorted(ranked) == ["aa", "bbbb", "cc", "ddd"]
    assert ranked == [keyed.source.content_ref for keyed in sorted([*texts[2:], *texts[:2]], key=text_inputs().rank)]
    photos = sorted(texts, key=photo_inputs(PhotoFiles(Path())).rank)
    assert [keyed.source.item for keyed in photos] == [0, 1, 2, 3]
