"""The page of neighbours: one file that shows everything, runs nothing and loads nothing."""

import io
import os
import re
import tarfile
from base64 import b64decode
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.stages.explore.item_lookup import Item
from mmprep.stages.explore.neighbors import GraphNeighbours, ItemNeighbours, Neighbour
from mmprep.stages.explore.neighbors_page import HEAD_BYTES, MARK, POLICY, write_page
from mmprep.stages.graphs.item_graphs import EdgeWeightMeaning

COSINE = EdgeWeightMeaning("cosine", "weights are cosine similarities of the vectors", full=1)
COMMON = EdgeWeightMeaning("common users", "weights are users who have both items in train", digits=0)
HOSTILE = """<script src="https://evil.example/x.js">alert('1')</script>" onload="alert(2)&amp;"""


class Parsed(HTMLParser):
    """A page's tags, attributes and text, as a browser sees them.

    Attributes:
        attributes: of each tag, in their order, with the tag's name.
        texts: stripped, without empty ones.
        style: the style sheet.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.style = ""
        self._within: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in ("meta", "img"):
            self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._within.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._within[-1:] == ["style"]:
            self.style += data
        elif data.strip():
            self.texts.append(data.strip())

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.attributes]

    @property
    def pictures(self) -> list[Image.Image]:
        addresses = [attributes["src"] for tag, attributes in self.attributes if tag == "img"]
        contents = [address.removeprefix("data:image/jpeg;base64,") for address in addresses]
        return [Image.open(io.BytesIO(b64decode(content, validate=True))) for content in contents]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    (layout.raw / "images").mkdir(parents=True)
    for name, colour, size in (("red", "red", (400, 300)), ("blue", "blue", (60, 90))):
        Image.new("RGB", size, colour).save(layout.raw / "images" / f"{name}.png")
    return layout


def item(number: int, image: str | None = None, title: str | None = None) -> Item:
    return Item(number, f"i{number}", f"Shirt {number}" if title is None else title, "Acme", "Clothes > Shirts", image)


def graph(
    neighbours: list[tuple[Item, float]], name: str = "knn/minilm", weighing: EdgeWeightMeaning = COSINE
) -> GraphNeighbours:
    found = tuple(Neighbour(*each) for each in neighbours)
    lack = "" if found else "has no edge of this item"
    return GraphNeighbours(name, "the 10 most similar items by cosine", weighing, found, lack, ())


def page_of(layout: Layout, found: ItemNeighbours) -> Parsed:
    path = layout.root / "pages" / "neighbours.html"
    write_page(found, layout, path)
    return Parsed(path.read_text(encoding="utf-8"))


def test_the_item_and_each_graph_are_shown_in_their_order(layout: Layout) -> None:
    first = graph([(item(2, "images/red.png"), 0.75), (item(1), 0.5)])
    second = graph([(item(2, "images/red.png"), 12.0), (item(3, "images/blue.png"), 3.0)], "cooccurrence", COMMON)
    found = ItemNeighbours(item(0, "images/blue.png"), (first, second), ("minilm has random weights",))
    page = page_of(layout, found)
    what = "The 10 most similar items by cosine."
    expected = [
        *("Neighbours of Shirt 0", "Shirt 0", "i0", "· item #0 ·", "Acme", "·", "Clothes > Shirts"),
        "minilm has random weights",
        *("knn/minilm", f"{what} Weights are cosine similarities of the vectors."),
        *("Shirt 2", "i2", "in 2 of 2 graphs", "cosine", "0.7500", "no photo", "Shirt 1", "i1", "cosine", "0.5000"),
        *("cooccurrence", f"{what} Weights are users who have both items in train."),
        *("Shirt 2", "i2", "in 2 of 2 graphs", "common users", "12", "Shirt 3", "i3", "common users", "3"),
        "Nearest neighbours in 2 graphs of dataset toy.",
    ]
    assert page.texts == expected
    bars = [attributes["style"] for tag, attributes in page.attributes if tag == "i"]
    assert bars == ["width: 75.0%", "width: 50.0%", "width: 100.0%", "width: 25.0%"]


def test_photos_are_small_pictures_inside_the_page(layout: Layout) -> None:
    found = ItemNeighbours(item(0, "images/red.png"), (graph([(item(1, "images/blue.png"), 0.5)]),), ())
    pictures = page_of(layout, found).pictures
    assert [(picture.format, picture.size) for picture in pictures] == [("JPEG", (200, 150)), ("JPEG", (60, 90))]
    assert [max(range(3), key=picture.getpixel((5, 5)).__getitem__) for picture in pictures] == [0, 2]  # type: ignore[union-attr]


def test_titles_are_text_and_nothing_else(layout: Layout) -> None:
    hostile = Item(0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, None)
    plain = page_of(layout, ItemNeighbours(item(0), (graph([(item(1), 0.5)]),), ("note",)))
    strange = GraphNeighbours(HOSTILE, "what", COSINE, (Neighbour(hostile, 0.5),), "", (HOSTILE,))
    page = page_of(layout, ItemNeighbours(hostile, (strange,), ()))
    assert [tag for tag in page.tags if tag != "p"] == [tag for tag in plain.tags if tag != "p"]
    assert {key for _, attributes in page.attributes for key in attributes} == {
        key for _, attributes in plain.attributes for key in attributes
    }
    assert page.texts.count(HOSTILE) == 8
    assert page.texts[0] == f"Neighbours of {HOSTILE}"


def test_the_page_runs_nothing_and_names_no_outside_address(layout: Layout) -> None:
    found = ItemNeighbours(item(0, "images/red.png"), (graph([(item(1, "images/blue.png"), 0.5)]),), ())
    page = page_of(layout, found)
    assert not {"script", "link", "iframe", "object", "base", "form", "a"} & set(page.tags)
    addresses = [a[key] for _, a in page.attributes for key in ("src", "href", "srcset", "action") if key in a]
    assert [address[:23] for address in addresses] == ["data:image/jpeg;base64,"] * 2
    assert not [key for _, attributes in page.attributes for key in attributes if key.startswith("on")]
    assert not re.search(r"url\(|@import|//", page.style)
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": POLICY}) in page.attributes
    assert "default-src 'none'" in POLICY


def test_missing_and_broken_photos_are_boxes_that_say_why(layout: Layout) -> None:
    images = layout.raw / "images"
    (images / "empty.jpg").touch()
    (images / "page.jpg").write_text("<html>")
    (images / "cut.png").write_bytes((images / "red.png").read_bytes()[:100])
    names = ["images/empty.jpg", "images/page.jpg", "images/cut.png", "images/gone.jpg", "../../secret.jpg", None]
    found = ItemNeighbours(item(0), (graph([(item(n, name), 0.5) for n, name in enumerate(names, start=1)]),), ())
    page = page_of(layout, found)
    reasons = [
        *("empty file", "not an image", "image cut off or damaged", "file is gone"),
        *("name that leads out of its folder", "no photo"),
    ]
    assert [text for text in page.texts if text in reasons] == ["no photo", *reasons]
    assert "img" not in page.tags


def test_without_the_raw_folder_the_page_has_no_photos(tmp_path: Path) -> None:
    page = page_of(Layout(tmp_path, "toy"), ItemNeighbours(item(0, "images/red.png"), (graph([]),), ()))
    assert "file is gone" in page.texts


def test_photos_in_archives_are_shown(layout: Layout) -> None:
    with tarfile.open(layout.raw / "images" / "0001.tar", "w") as archive:
        archive.add(layout.raw / "images" / "blue.png", "sub/blue.png")
    (layout.raw / "images" / "blue.png").unlink()
    found = ItemNeighbours(item(0, "images/0001.tar/sub/blue.png"), (graph([]),), ())
    assert [picture.size for picture in page_of(layout, found).pictures] == [(60, 90)]


def test_a_photo_is_read_once_however_often_it_is_shown(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[str] = Counter()
    read = PhotoFiles.read

    def counted(self: PhotoFiles, name: str) -> bytes:
        reads[name] += 1
        return read(self, name)

    monkeypatch.setattr(PhotoFiles, "read", counted)
    shown = graph([(item(1, "images/red.png"), 0.5), (item(2, "images/gone.png"), 0.5)])
    page = page_of(layout, ItemNeighbours(item(0, "images/blue.png"), (shown, shown, shown), ()))
    assert len(page.pictures) == 4
    assert reads == {"images/blue.png": 1, "images/red.png": 1, "images/gone.png": 1}


def test_a_graph_without_neighbours_says_so(layout: Layout) -> None:
    page = page_of(layout, ItemNeighbours(item(0, title=""), (graph([]),), ()))
    assert "No neighbours: the graph has no edge of this item." in page.texts
    assert page.texts[:3] == ["Neighbours of (no title)", "no photo", "(no title)"]
    assert "ol" not in page.tags


@pytest.mark.parametrize(("weight", "width"), [(-0.5, "0.0%"), (0.0, "0.0%"), (1.0000001, "100.0%")])
def test_bars_stay_within_their_card(layout: Layout, weight: float, width: str) -> None:
    page = page_of(layout, ItemNeighbours(item(0), (graph([(item(1), weight)]),), ()))
    assert [attributes["style"] for tag, attributes in page.attributes if tag == "i"] == [f"width: {width}"]


def test_weights_that_are_all_zero_have_empty_bars(layout: Layout) -> None:
    page = page_of(layout, ItemNeighbours(item(0), (graph([(item(1), 0.0)], weighing=COMMON),), ()))
    assert [attributes["style"] for tag, attributes in page.attributes if tag == "i"] == ["width: 0.0%"]


def test_the_page_takes_the_place_of_an_older_one_and_of_no_folder(layout: Layout, tmp_path: Path) -> None:
    found = ItemNeighbours(item(0, "images/red.png"), (graph([]),), ())
    page = tmp_path / "page.html"
    write_page(found, layout, page)
    first = page.read_bytes()
    write_page(found, layout, page)
    assert page.read_bytes() == first
    with pytest.raises(DataError) as caught:
        write_page(found, layout, tmp_path)
    assert str(caught.value) == f"{tmp_path}: found a folder, expected a file, such as {tmp_path}/neighbors.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "page.html"]


def test_a_page_bears_its_mark(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for _ in range(2):
        write_page(ItemNeighbours(item(0), (), ()), layout, path)
    assert MARK in path.read_bytes()[:HEAD_BYTES]


@pytest.mark.parametrize("content", [b"", b"dataset: toys\n", b"<!DOCTYPE html><html>", bytes(HEAD_BYTES) + MARK])
def test_a_page_replaces_no_other_file(layout: Layout, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(DataError, match="exists and is no page of mmprep; name a new file"):
        write_page(ItemNeighbours(item(0), (), ()), layout, path)
    assert path.read_bytes() == content


def test_a_page_replaces_no_link_and_no_device(layout: Layout, tmp_path: Path) -> None:
    page = ItemNeighbours(item(0), (), ())
    write_page(page, layout, tmp_path / "page.html")
    for name, target in (("to_page", tmp_path / "page.html"), ("to_nothing", tmp_path / "nothing")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(DataError, match="found a link, expected a new file or an earlier page"):
            write_page(page, layout, tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    for device in (Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(DataError, match="found a device or a pipe, expected a new file"):
            write_page(page, layout, device)
