import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from fakes import FakeEncoder, Seen
from PIL import Image
from safetensors.numpy import load_file
from worlds import write_items

from mmprep.models.encoders.params import (
    EncoderParams,
    ExtractParams,
    ImageEncoderParams,
    PatchEncoderParams,
    TextEncoderParams,
    TimmParams,
)
from mmprep.pipeline.errors import DataError, MissingInputError, WeightsError
from mmprep.pipeline.features.reader import FeatureSet, part_paths
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import VectorBatch
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.stages.extract.extract import run
from mmprep.stages.prepare.noise import NoiseParams

RANDOM = ImageEncoderParams(weights="random:3", batch_size=2)
TEXTS = TextEncoderParams(weights="random:0")
WITH_PHOTO = [0, 1, 3, 4, 5, 6, 8, 9]


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    fake = FakeEncoder()
    monkeypatch.setattr("mmprep.stages.extract.encode.load_encoder", fake.load)
    return fake


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Ten items; items 2 and 7 have no photo, the others are grey at ten times their number."""
    layout = Layout(tmp_path / "data", "toy")
    items: list[dict[str, str | None]] = [{} for _ in range(10)]
    for item in (0, 1, 3, 4, 5, 6, 8, 9):
        photo = layout.raw / "images" / f"{item}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (10 * item,) * 3).save(photo)
        items[item]["image"] = f"images/{item}.png"
    write_items(layout, items)
    return layout


def extract(
    layout: Layout, name: str = "vgg16", params: EncoderParams = RANDOM, missing: str = "mean"
) -> dict[str, object]:
    return run(name, ExtractParams.model_validate({"missing": missing}), params, layout)


def numbers(layout: Layout, name: str = "vgg16") -> dict[int, float]:
    features = FeatureSet.open(layout.features(name)).vectors()
    assert (features.vectors == features.vectors[:, :1]).all()
    return dict(zip(features.items.tolist(), features.vectors[:, 0].tolist(), strict=True))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def test_each_photo_becomes_its_items_vector_in_the_order_of_items(layout: Layout) -> None:
    metrics = extract(layout)
    features = FeatureSet.open(layout.features("vgg16")).vectors()
    assert features.items.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert features.vectors.shape == (8, 4096)
    assert numbers(layout) == {item: 10 * item for item in (0, 1, 3, 4, 5, 6, 8, 9)}
    written = {
        "items": 10,
        "encoded": 8,
        "missing": 2,
        "unreadable": 0,
        "replaced_by_noise": 0,
        "dimension": 4096,
        "pretrained": False,
    }
    assert metrics == written | {"run_through_network": 8, "out_of_cache": 0}
    # What was in the cache by chance is no property of the features.
    assert json.loads(layout.metrics("extract-vgg16").read_text()) == written


@pytest.mark.parametrize(("size", "batches"), [(1, [1] * 8), (3, [3, 3, 2]), (100, [8])])
def test_batches_have_the_size_that_was_asked_for(
    layout: Layout, fake: FakeEncoder, size: int, batches: list[int]
) -> None:
    extract(layout, params=RANDOM.model_copy(update={"batch_size": size}))
    assert [len(batch) for batch in fake.batches] == batches
    assert numbers(layout) == {item: 10 * item for item in (0, 1, 3, 4, 5, 6, 8, 9)}


def test_photo_that_vanished_or_broke_is_counted_and_named(
    layout: Layout, fake: FakeEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    gone, broken, empty = (layout.raw / "images" / f"{item}.png" for item in (0, 4, 9))
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:50])
    empty.write_bytes(b"")
    metrics = extract(layout)
    assert (metrics["encoded"], metrics["missing"], metrics["unreadable"]) == (5, 5, 3)
    assert numbers(layout) == {item: 10 * item for item in (1, 3, 5, 6, 8)}
    # The broken ones leave no hole in a batch.
    assert fake.batches == [[10, 30], [50, 60], [80]]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[1:] == [
        "images/0.png: file is gone; item 0 gets no vector",
        "images/4.png: image cut off or damaged; item 4 gets no vector",
        "images/9.png: empty file; item 9 gets no vector",
        "vgg16: 5 of 10 items have no usable photo, such as 'i0'; training gives them the mean of the others "
        "(extract.missing: mean)",
    ]


def test_a_photo_that_two_items_have_and_that_breaks_is_counted_for_both(layout: Layout) -> None:
    (layout.raw / "images" / "1.png").write_bytes(b"<html>")
    (layout.raw / "images" / "8.png").write_bytes(b"<html>")
    metrics = extract(layout)
    assert (metrics["encoded"], metrics["missing"], metrics["unreadable"]) == (6, 4, 2)


@pytest.mark.parametrize("way", ["bad", "gone"])
def test_photos_that_are_all_unreadable_are_refused_and_nothing_is_written(
    layout: Layout, fake: FakeEncoder, way: str
) -> None:
    for photo in layout.raw.glob("images/*.png"):
        photo.write_bytes(b"no photo") if way == "bad" else photo.unlink()
    with pytest.raises(DataError) as caught:
        extract(layout)
    assert str(caught.value) == f"{layout.raw}: none of 8 photos could be read; nothing was written"
    assert not layout.features("vgg16").exists()
    assert not layout.metrics("extract-vgg16").exists()
    assert fake.loaded == 0


def test_items_without_a_photo_at_all_give_features_of_none(layout: Layout, fake: FakeEncoder) -> None:
    write_items(layout, [{}, {}])
    metrics = extract(layout)
    assert (metrics["items"], metrics["encoded"], metrics["missing"]) == (2, 0, 2)
    assert FeatureSet.open(layout.features("vgg16")).vectors().vectors.shape == (0, 4096)
    assert fake.loaded == 0


@pytest.mark.parametrize("reduce", [None, "pca:7"])
def test_no_items_at_all_give_features_of_none(layout: Layout, reduce: str | None) -> None:
    write_items(layout, [])
    metrics = extract(layout, "minilm", TextEncoderParams(weights="random:0", reduce=reduce))
    assert (metrics["items"], metrics["encoded"], metrics["dimension"]) == (0, 0, 7 if reduce else 384)
    assert FeatureSet.open(layout.features("minilm")).vectors().vectors.shape == (0, 7 if reduce else 384)


def test_an_encoder_whose_dimension_only_the_network_tells_needs_an_item(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmprep.models.encoders.weights.timm_models.transform_of", lambda model: f"of {model}")
    params = TimmParams(weights="random:0", library="timm", model="some")
    assert extract(layout, "mine", params)["dimension"] == 4
    write_items(layout, [{}, {}])
    with pytest.raises(DataError, match="mine: no item has anything to encode; nothing was written"):
        extract(layout, "mine", params)


def test_provenance_tells_encoder_weights_parameters_contents_and_input(layout: Layout, tmp_path: Path) -> None:
    extract(layout, missing="zeros")
    provenance = read_provenance(part_paths(layout.features("vgg16"))[0])
    assert provenance["stage"] == "extract"
    encoder = provenance["encoder"]
    assert (encoder["encoder"], encoder["pretrained"], encoder["seed"]) == ("vgg16", False, 3)
    assert encoder["weights"].startswith("random:3 of torch ")
    assert {"model", "output", "form", "transform", "precision", "stored_as", "dimension"} <= encoder.keys()
    assert provenance["missing"] == "zeros"
    assert provenance["params"]["weights"] == "random:3"
    assert provenance["inputs"] == {"processed/toy/items.parquet": sha256(layout.items)}
    assert {"torch", "torchvision", "pillow", "sentence-transformers"} <= provenance["libraries"].keys()
    assert str(tmp_path) not in json.dumps(provenance)
    extract(layout)
    again = read_provenance(part_paths(layout.features("vgg16"))[0])
    assert again["contents_sha256"] == provenance["contents_sha256"]
    Image.new("RGB", (8, 8), "red").save(layout.raw / "images" / "3.png")
    extract(layout)
    changed = read_provenance(part_paths(layout.features("vgg16"))[0])
    assert changed["contents_sha256"] != provenance["contents_sha256"]


def test_random_weights_are_warned_of_and_others_are_not(
    layout: Layout, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    extract(layout)
    assert "vgg16 has random weights (seed 3): its features carry no learned meaning" in caplog.messages
    caplog.clear()
    (tmp_path / "weights.pth").touch()
    metrics = extract(layout, params=ImageEncoderParams(weights=str(tmp_path / "weights.pth")))
    assert not any("random weights" in message for message in caplog.messages)
    assert metrics["pretrained"] is True
    provenance = read_provenance(part_paths(layout.features("vgg16"))[0])
    assert (provenance["encoder"]["pretrained"], provenance["encoder"]["seed"]) == (True, None)


@pytest.mark.parametrize("missing", ["mean", "zeros"])
def test_missing_says_what_items_without_a_photo_get_later(layout: Layout, missing: str) -> None:
    extract(layout, missing=missing)
    matrix = FeatureSet.open(layout.features("vgg16")).vectors().matrix(10)
    expected = 45.0 if missing == "mean" else 0.0  # the mean of 0, 10, 30, 40, 50, 60, 80 and 90
    np.testing.assert_allclose(matrix[[2, 7]], expected)


def test_missing_that_is_to_be_dropped_is_refused_later(layout: Layout) -> None:
    extract(layout, missing="error")
    features = FeatureSet.open(layout.features("vgg16")).vectors()
    with pytest.raises(DataError, match=r"2 of 10 items have no vector, and extract\.missing is error"):
        features.matrix(10)


def test_texts_follow_the_template_and_empty_ones_get_no_vector(layout: Layout, fake: FakeEncoder) -> None:
    items: list[dict[str, str | None]] = [
        {"title": "Shoe", "description": "Red.", "categories": "Men", "brand": "Acme"},
        {"title": "", "description": "Blue.", "categories": "", "brand": "Bolt"},
        {"title": "", "description": "", "categories": "Kids", "brand": ""},
        {"title": "Sock"},
    ]
    write_items(layout, items)
    params = TextEncoderParams(weights="random:0", template="{brand} {title} {description}")
    metrics = extract(layout, "minilm", params)
    assert fake.seen == ["Acme Shoe Red.", "Bolt Blue.", "Sock"]
    assert numbers(layout, "minilm") == {0: 14, 1: 10, 3: 4}
    assert (metrics["encoded"], metrics["missing"], metrics["unreadable"]) == (3, 1, 0)


def test_texts_of_like_length_make_a_batch_the_longest_first(layout: Layout, fake: FakeEncoder) -> None:
    write_items(layout, [{"title": "x" * length} for length in (5, 1, 4, 2, 3)])
    extract(layout, "minilm", TextEncoderParams(weights="random:0", batch_size=2))
    assert fake.batches == [["xxxxx", "xxxx"], ["xxx", "xx"], ["x"]]
    assert numbers(layout, "minilm") == {0: 5, 1: 1, 2: 4, 3: 2, 4: 3}


def test_tokens_keep_their_lengths_places_and_text(layout: Layout) -> None:
    write_items(layout, [{"title": "one three"}, {"title": "!!!"}, {"title": "  "}, {"title": "seven"}])
    metrics = extract(layout, "minilm_tokens", TEXTS)
    # An item in whose text the tokenizer finds nothing has no vector, like one without a text.
    assert (metrics["encoded"], metrics["missing"], metrics["unreadable"]) == (2, 2, 1)
    tokens = TokenFeatures(FeatureSet.open(layout.features("minilm_tokens")))
    assert tokens.items.tolist() == [0, 3]
    rows = tokens.gather([3, 0])
    assert rows.lengths is not None and rows.spans is not None
    assert rows.lengths.tolist() == [1, 2]
    assert rows.vectors[:, 0].tolist() == [5, 3, 5]
    assert rows.spans.tolist() == [[0, 5], [0, 3], [4, 9]]
    assert tokens.texts([3, 0]) == ["seven", "one three"]


def test_texts_without_any_token_are_refused_and_nothing_is_written(layout: Layout) -> None:
    write_items(layout, [{"title": "!!!"}, {"title": "..."}])
    with pytest.raises(DataError, match="minilm_tokens: none of 2 texts has a token; nothing was written"):
        extract(layout, "minilm_tokens", TEXTS)
    assert not layout.features("minilm_tokens").exists()


def test_same_input_gives_the_same_bytes(layout: Layout, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    extract(layout)
    before = digests(layout.features("vgg16"))
    extract(layout)
    assert digests(layout.features("vgg16")) == before
    monkeypatch.setenv("MMPREP_CACHE", str(tmp_path / "another"))
    extract(layout)
    assert digests(layout.features("vgg16")) == before


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_extraction_that_ends_in_the_middle_leaves_the_old_features(
    layout: Layout, fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    extract(layout)
    folder = layout.features("vgg16")
    before = digests(folder)
    encode = FakeEncoder.encode

    def failing(self: FakeEncoder, batch: list[Seen]) -> VectorBatch:
        if len(self.batches) == 6:  # four before, and two of the new weights
            raise error
        return encode(self, batch)

    monkeypatch.setattr(FakeEncoder, "encode", failing)
    other = RANDOM.model_copy(update={"weights": "random:4"})
    with pytest.raises(type(error)):
        extract(layout, params=other)
    assert digests(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["vgg16"]
    # What was encoded until then is kept.
    monkeypatch.setattr(FakeEncoder, "encode", encode)
    assert extract(layout, params=other)["run_through_network"] == 4
    assert fake.batches[6:] == [[50, 60], [80, 90]]


@pytest.mark.parametrize(
    ("value", "stored_as", "fault"),
    [
        (np.nan, "f32", "found NaN or infinite numbers for item 3; nothing was written"),
        (-np.inf, "f16", "found NaN or infinite numbers for item 3; nothing was written"),
        (70000, "f16", "found numbers too large for f16 for item 3; set stored_as to f32"),
    ],
)
def test_numbers_that_cannot_be_kept_are_refused_and_never_cached(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, fake: FakeEncoder, value: float, stored_as: str, fault: str
) -> None:
    encode = FakeEncoder.encode

    def broken(self: FakeEncoder, batch: list[Seen]) -> VectorBatch:
        return encode(self, [value if level == 30 else level for level in batch])

    monkeypatch.setattr(FakeEncoder, "encode", broken)
    params = RANDOM.model_copy(update={"stored_as": stored_as})
    with pytest.raises(DataError) as caught:
        extract(layout, params=params)
    assert str(caught.value) == fault
    assert list(layout.features("vgg16").parent.glob("*")) == []
    assert not layout.metrics("extract-vgg16").exists()
    monkeypatch.setattr(FakeEncoder, "encode", encode)
    fake.batches.clear()
    assert extract(layout, params=params)["encoded"] == 8
    assert 30 in fake.seen


def test_weights_that_cannot_be_had_leave_the_old_features(layout: Layout) -> None:
    extract(layout)
    before = numbers(layout)
    with pytest.raises(WeightsError, match="no file or folder here"):
        extract(layout, params=ImageEncoderParams(weights="no/such.pth"))
    assert numbers(layout) == before


def test_missing_items_are_reported(layout: Layout) -> None:
    layout.items.unlink()
    with pytest.raises(MissingInputError, match="run `mmprep filter` first"):
        extract(layout)


def test_progress_counts_what_is_read_and_what_is_encoded_to_the_end(layout: Layout) -> None:
    opened: list[tuple[str, int | None, str]] = []
    advanced: list[list[int]] = []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
        opened.append((task, total, unit))
        advanced.append([])
        yield lambda units, _: advanced[-1].append(units)

    (layout.raw / "images" / "6.png").write_bytes(b"no photo")
    run("vgg16", ExtractParams(), RANDOM, layout, progress)
    assert opened == [("vgg16: reading", 8, "photos"), ("vgg16: encoding", 8, "photos")]
    assert advanced == [[8], [2, 2, 1, 2, 1]]


def test_replaced_photos_reach_the_features_and_are_counted(layout: Layout) -> None:
    extract(layout)
    clean = FeatureSet.open(layout.features("vgg16")).vectors().vectors
    noise = NoiseParams(replaced=0.5, modality="image", seed=1)
    metrics = run("vgg16", ExtractParams(), RANDOM, layout, noise=noise)
    noisy = FeatureSet.open(layout.features("vgg16")).vectors()
    assert (metrics["replaced_by_noise"], metrics["run_through_network"]) == (4, 0)
    assert (noisy.vectors != clean).any(axis=1).sum() == 4
    assert noisy.provenance["replaced_by_noise"] == 4
    other = run("vgg16", ExtractParams(), RANDOM, layout, noise=NoiseParams(replaced=0.5, modality="text"))
    assert other["replaced_by_noise"] == 0


def test_reduced_patches_lie_in_their_basis_which_is_kept(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(_: FakeEncoder, batch: list[Seen]) -> VectorBatch:
        made = np.random.default_rng([int(level) for level in batch if isinstance(level, float)])
        return VectorBatch(made.normal(size=(3 * len(batch), 768)).astype(np.float32), np.full(len(batch), 3))

    monkeypatch.setattr(FakeEncoder, "encode", encode)
    params = PatchEncoderParams(weights="random:3", batch_size=3)
    extract(layout, "vit_b16_patches", params)
    whole = TokenFeatures(FeatureSet.open(layout.features("vit_b16_patches"))).gather(WITH_PHOTO)
    reduced_params = params.model_copy(update={"reduce": "pca:5", "stored_as": "f32"})
    metrics = extract(layout, "vit_b16_patches", reduced_params)
    assert (metrics["dimension"], metrics["run_through_network"]) == (5, 0)
    folder = layout.features("vit_b16_patches")
    rows = TokenFeatures(FeatureSet.open(folder)).gather(WITH_PHOTO)
    assert (rows.vectors.shape, rows.dimension) == ((24, 5), 5)
    basis = load_file(folder / "basis.safetensors")
    expected = (whole.vectors - basis["mean"]) @ basis["components"]
    np.testing.assert_allclose(rows.vectors, expected, atol=1e-5)
    reduced = read_provenance(part_paths(folder)[0])["reduced"]
    assert reduced["method"] == "pca"
    assert 5 / 24 < reduced["explained_variance"] < 1
    before = digests(folder)
    extract(layout, "vit_b16_patches", reduced_params)
    assert digests(folder) == before


def test_too_few_vectors_for_a_basis_are_refused(layout: Layout) -> None:
    params = PatchEncoderParams(weights="random:3", reduce="pca:24")
    with pytest.raises(DataError) as caught:
        extract(layout, "vit_b16_patches", params)
    assert str(caught.value) == (
        "encoders.vit_b16_patches.reduce: pca:24 needs more than 24 vectors of more than 24 numbers; found 24 of 768"
    )
    assert not layout.features("vit_b16_patches").exists()
