"""What `mmprep tsne` draws: which items, which features, by what colours, and what it refuses."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from trainable import PARAMS, params_of, write_trainable
from worlds import write_items, write_vectors

from mmprep.models.recommenders.catalogue import describe
from mmprep.pipeline.errors import DataError, ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.stages.explore import tsne
from mmprep.stages.explore.tsne_figure import NONE, OTHER, Picture, colours_of, label
from mmprep.stages.training import train


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A toy dataset of 60 items on which CAmgr and BPR are trained."""
    layout = Layout(tmp_path_factory.mktemp("tsne") / "data", "toy")
    write_trainable(layout, ["camgr", "bpr"])
    short = PARAMS.model_copy(update={"max_epochs": 1})
    for name in ("camgr", "bpr"):
        train.run(name, short, params_of(name), layout)
    return layout


@pytest.fixture(autouse=True)
def _known_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy features do not tell their encoder."""
    told = {"vgg16": ["vgg16 has random weights"], "minilm": []}
    monkeypatch.setattr(tsne, "warnings_for", lambda folder: told[folder.name])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """The pictures that are drawn, instead of drawing them."""
    pictures: list[Picture] = []
    monkeypatch.setattr(tsne, "draw", lambda picture, _: pictures.append(picture))
    return pictures


def test_picture_is_a_png_and_the_same_again(layout: Layout) -> None:
    found = tsne.run(layout, "camgr", items=20)
    path = layout.root / "plots" / "toy" / "tsne_camgr.png"
    assert found == {"picture": str(path), "items": 20}
    with Image.open(path) as image:
        assert image.format == "PNG"
    before = path.read_bytes()
    tsne.run(layout, "camgr", items=20)
    assert path.read_bytes() == before


def test_panels_are_raw_and_refined_features_of_the_same_items(layout: Layout, drawn: list[Picture]) -> None:
    tsne.run(layout, "camgr")
    tsne.run(layout, "camgr", items=20)
    whole, some = drawn
    assert [panel.title for panel in whole.panels] == [
        "image: features of vgg16 (random weights)",
        "image: refined by camgr",
        "text: features of minilm",
        "text: refined by camgr",
    ]
    assert {panel.points.shape for panel in whole.panels} == {(60, 2)}
    assert {panel.points.shape for panel in some.panels} == {(20, 2)}
    assert (len(whole.categories), len(some.categories)) == (60, 20)
    assert whole.title == "toy: 60 items by t-SNE, before and after camgr"
    assert some.title == "toy: 20 of 60 items by t-SNE, before and after camgr"


def test_refined_features_are_those_of_the_recommender(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[np.ndarray[Any, Any]] = []
    monkeypatch.setattr(tsne, "embedded", lambda vectors, _: mapped.append(vectors) or vectors[:, :2])
    tsne.run(layout, "camgr")
    loaded = tsne.load_run(layout, "camgr")
    views = {m: view.detach().numpy() for m, view in loaded.recommender.item_views().items()}
    expected = [loaded.data.features["image"], views["image"], loaded.data.features["text"], views["text"]]
    assert all(np.array_equal(found, wanted) for found, wanted in zip(mapped, expected, strict=True))


def test_groups_of_vectors_stay_apart_on_the_map() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(np.eye(2, 5), 15, axis=0).astype(np.float32) * 9 + rng.normal(size=(30, 5)).astype("f4")
    points = tsne.embedded(vectors, seed=0)
    nearest = np.argsort(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)[:, 1]
    assert np.array_equal(nearest // 15, np.arange(30) // 15)
    assert np.array_equal(points, tsne.embedded(vectors, seed=0))


def test_sample_is_by_seed_and_has_no_item_twice() -> None:
    having = np.arange(100, 200)
    first, again, other = (tsne.sample(having, 30, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first)) == 30
    assert np.isin(first, having).all()
    assert np.array_equal(tsne.sample(having, 500, 0), having)


def items_of(folder: Path, categories: list[str]) -> Layout:
    layout = Layout(folder / "data", "toy")
    write_items(layout, [{"categories": each} for each in categories])
    return layout


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["Baby > Toys | Sale", "Baby > Beds", "Baby"], ["Toys", "Beds", "Baby"]),
        (["Shoes > Boots", "Home > Mugs", ""], ["Shoes", "Home", NONE]),
        (["Baby > Beds", "Baby > Beds"], ["Beds", "Beds"]),
        (["", ""], [NONE, NONE]),
    ],
)
def test_items_are_coloured_by_the_first_step_in_which_they_differ(
    tmp_path: Path, paths: list[str], expected: list[str]
) -> None:
    assert tsne.categories(items_of(tmp_path, paths)).tolist() == expected


def test_rare_categories_are_one(tmp_path: Path) -> None:
    frequent = [f"Category {n}" for n in range(tsne.COLOURS) for _ in range(2)]
    found = tsne.categories(items_of(tmp_path, [*frequent, "rare", "rarer"]))
    assert found.tolist() == [*frequent, OTHER, OTHER]


def test_items_without_a_vector_of_their_own_are_left_out(tmp_path: Path) -> None:
    layout = items_of(tmp_path, ["A"] * 14)
    write_vectors(layout, "vgg16", np.ones((12, 3), dtype=np.float32), items=range(12))
    write_vectors(layout, "minilm", np.ones((12, 3), dtype=np.float32), items=range(2, 14))
    both = {"image": "vgg16", "text": "minilm"}
    assert tsne.with_features(layout, both).tolist() == list(range(2, 12))
    write_vectors(layout, "minilm", np.ones((2, 3), dtype=np.float32), items=range(2))
    with pytest.raises(DataError, match="2 items have all features, expected 10 or more for a picture"):
        tsne.with_features(layout, both)


def test_random_weights_are_told_in_the_picture(layout: Layout, drawn: list[Picture]) -> None:
    tsne.run(layout, "camgr", items=10)
    assert drawn[0].panels[0].title.endswith("(random weights)")
    assert drawn[0].notes == ("vgg16 has random weights",)


def test_recommender_that_refines_nothing_is_refused(layout: Layout) -> None:
    with pytest.raises(ParamsError) as caught:
        tsne.run(layout, "bpr")
    told = str(caught.value).removeprefix("recommender: bpr refines no features; these do: ").split(", ")
    assert {"mgcn", "camgr"} <= set(told)
    assert all(describe(name).multimodal for name in told)


def test_without_matplotlib_the_command_to_install_it_is_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ParamsError, match=r"pip install -c constraints.txt 'mmprep\[plots\]'"):
        tsne.run(layout, "camgr")


def test_legend_has_the_frequent_first_and_the_grey_ones_last() -> None:
    colours = colours_of([OTHER, "b", NONE, "a", "b", OTHER, OTHER])
    assert list(colours) == ["b", "a", OTHER, NONE]
    assert len(set(colours.values())) == 4


def test_names_of_others_fit_the_legend() -> None:
    assert [label(name) for name in ("_hidden", "__", "Beds", "word " * 20)] == [
        "hidden",
        "(no name)",
        "Beds",
        "word word word word word word...",
    ]


def test_dollars_in_a_category_are_no_formula(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = np.array([r"$\frac{$ under 5", "_x", "<b>"] * 20)
    monkeypatch.setattr(tsne, "categories", lambda _: odd)
    tsne.run(layout, "camgr", items=12)
