import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from worlds import write_items

from models.encoders.base import Identity
from models.encoders.catalogue import EncoderDescription
from models.encoders.params import EncoderParams, ExtractParams, ImageEncoderParams, TextEncoderParams
from models.encoders.weights import WeightsSource
from pipeline.errors import DataError, MissingInputError, ParamsError, WeightsError
from pipeline.features import part_paths, read_features
from pipeline.files import sha256
from pipeline.layout import Layout
from pipeline.photos import open_photo
from pipeline.provenance import read_provenance
from stages.extract import BATCHES_AHEAD, chunks, map_ahead, run
from stages.noise import NoiseParams

RANDOM = ImageEncoderParams(weights="random:3", batch_size=2)


class FakeEncoder:
    """Its vectors are all one number, which the subclass reads out of the item."""

    digest = "d" * 64
    batches: list[int]

    def __init__(self, description: EncoderDescription, source: WeightsSource) -> None:
        self.identity = Identity(description, source, self.digest, "fake")
        self.dimension = description.dimension
        FakeEncoder.batches = []

    def encode(self, batch: list[float]) -> npt.NDArray[np.float32]:
        FakeEncoder.batches.append(len(batch))
        return np.repeat(np.array(batch, dtype=np.float32)[:, None], self.dimension, axis=1)


class FakeImageEncoder(FakeEncoder):
    """The number is the photo's grey level; every third photo takes longer to read."""

    def prepare(self, source: Path) -> float:
        level = float(open_photo(source).getpixel((0, 0))[0])  # type: ignore[index]
        time.sleep(0.02 if level % 30 == 0 else 0)
        return level


class FakeTextEncoder(FakeEncoder):
    """The number is the text's length."""

    seen: list[str]

    def __init__(self, description: EncoderDescription, source: WeightsSource) -> None:
        super().__init__(description, source)
        FakeTextEncoder.seen = []

    def prepare(self, source: str) -> float:
        FakeTextEncoder.seen.append(source)
        return len(source)


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.encoders.image.ImageEncoder", FakeImageEncoder)
    monkeypatch.setattr("models.encoders.text.TextEncoder", FakeTextEncoder)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Ten items; items 2 and 7 have no photo, the others are grey at ten times their number."""
    layout = Layout(tmp_path / "data", "toy")
    items: list[dict[str, str | None]] = [{} for _ in range(10)]
    for item in (0, 1, 3, 4, 5, 6, 8, 9):
        photo = layout.raw / "images" / f"{item}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (10 * item,) * 3).save(photo)
        items[item]["image"] = f"images/{item}.png"
    write_items(layout, items)
    return layout


def extract(
    layout: Layout, name: str = "vgg16", params: EncoderParams = RANDOM, missing: str = "mean"
) -> dict[str, object]:
    return run(name, ExtractParams.model_validate({"missing": missing}), params, layout)


def numbers(layout: Layout, name: str = "vgg16") -> dict[int, float]:
    features = read_features(layout.features(name))
    assert (features.vectors == features.vectors[:, :1]).all()
    return dict(zip(features.items.tolist(), features.vectors[:, 0].tolist(), strict=True))


def test_each_photo_becomes_its_items_vector_in_the_order_of_items(layout: Layout) -> None:
    metrics = extract(layout)
    features = read_features(layout.features("vgg16"))
    assert features.items.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert features.vectors.shape == (8, 4096)
    assert numbers(layout) == {item: 10 * item for item in (0, 1, 3, 4, 5, 6, 8, 9)}
    assert metrics == {
        "items": 10,
        "encoded": 8,
        "missing": 2,
        "unreadable": 0,
        "dimension": 4096,
        "replaced_by_noise": 0,
        "pretrained": False,
    }


@pytest.mark.parametrize(("size", "batches"), [(1, [1] * 8), (3, [3, 3, 2]), (100, [8])])
def test_batches_have_the_size_that_was_asked_for(layout: Layout, size: int, batches: list[int]) -> None:
    extract(layout, params=RANDOM.model_copy(update={"batch_size": size}))
    assert FakeEncoder.batches == batches
    assert numbers(layout) == {item: 10 * item for item in (0, 1, 3, 4, 5, 6, 8, 9)}


def test_metrics_are_written_for_the_encoder(layout: Layout) -> None:
    extract(layout)
    assert '"encoded": 8' in layout.metrics("extract-vgg16").read_text()


def test_photo_that_vanished_or_broke_is_counted_and_named(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    gone, broken, empty = (layout.raw / "images" / f"{item}.png" for item in (0, 4, 9))
    gone.unlink()
    broken.write_bytes(broken.read_bytes()[:50])
    empty.write_bytes(b"")
    metrics = extract(layout)
    assert (metrics["encoded"], metrics["missing"], metrics["unreadable"]) == (5, 5, 3)
    assert numbers(layout) == {item: 10 * item for item in (1, 3, 5, 6, 8)}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{broken}: image cut off or damaged; item 4 gets no vector" in warnings
    assert f"{empty}: empty file; item 9 gets no vector" in warnings
    assert [line.startswith(f"{gone}: ") and line.endswith("; item 0 gets no vector") for line in warnings].count(
        True
    ) == 1


def test_photos_that_are_all_unreadable_are_refused_and_nothing_is_written(layout: Layout) -> None:
    for photo in layout.raw.glob("images/*.png"):
        photo.write_bytes(b"no photo")
    with pytest.raises(DataError, match="none of 8 photos could be read; nothing was written"):
        extract(layout)
    assert not layout.features("vgg16").exists()


def test_provenance_tells_encoder_weights_parameters_and_input(layout: Layout) -> None:
    extract(layout, missing="zeros")
    provenance = read_provenance(part_paths(layout.features("vgg16"))[0])
    assert provenance["stage"] == "extract"
    assert provenance["encoder"]["encoder"] == "vgg16"
    assert provenance["encoder"]["weights_sha256"] == FakeEncoder.digest
    assert (provenance["encoder"]["pretrained"], provenance["encoder"]["seed"]) == (False, 3)
    assert provenance["missing"] == "zeros"
    assert provenance["params"]["weights"] == "random:3"
    assert provenance["inputs"] == {"processed/toy/items.parquet": sha256(layout.items)}
    assert {"torch", "torchvision", "pillow", "sentence-transformers"} <= provenance["libraries"].keys()


def test_random_weights_are_warned_of_and_others_are_not(
    layout: Layout, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    extract(layout)
    assert "vgg16 has random weights (seed 3): its features carry no learned meaning" in caplog.messages
    caplog.clear()
    (tmp_path / "weights.pth").touch()
    metrics = extract(layout, params=ImageEncoderParams(weights=str(tmp_path / "weights.pth")))
    assert caplog.messages == []
    assert metrics["pretrained"] is True
    provenance = read_provenance(part_paths(layout.features("vgg16"))[0])
    assert (provenance["encoder"]["pretrained"], provenance["encoder"]["seed"]) == (True, None)


@pytest.mark.parametrize("missing", ["mean", "zeros"])
def test_missing_says_what_items_without_a_photo_get_later(layout: Layout, missing: str) -> None:
    extract(layout, missing=missing)
    matrix = read_features(layout.features("vgg16")).matrix(10)
    expected = 45.0 if missing == "mean" else 0.0  # the mean of 0, 10, 30, 40, 50, 60, 80 and 90
    np.testing.assert_allclose(matrix[[2, 7]], expected)


def test_texts_are_joined_in_the_order_of_fields_without_empty_ones(layout: Layout) -> None:
    items: list[dict[str, str | None]] = [
        {"title": "Shoe", "description": "Red.", "categories": "Men", "brand": "Acme"},
        {"title": "", "description": "Blue.", "categories": "", "brand": "Bolt"},
        {"title": "", "description": "", "categories": "Kids", "brand": ""},
        {"title": "Sock"},
    ]
    write_items(layout, items)
    params = TextEncoderParams(weights="random:0", fields=("brand", "title", "description"))
    metrics = extract(layout, "minilm", params)
    assert FakeTextEncoder.seen == ["Acme Shoe Red.", "Bolt Blue.", "Sock"]
    assert numbers(layout, "minilm") == {0: 14, 1: 10, 3: 4}
    assert (metrics["encoded"], metrics["missing"], metrics["unreadable"]) == (3, 1, 0)
    assert read_provenance(part_paths(layout.features("minilm"))[0])["params"]["fields"] == [
        "brand",
        "title",
        "description",
    ]


def test_all_fields_are_joined_by_default(layout: Layout) -> None:
    write_items(layout, [{"title": "a", "description": "b", "categories": "c", "brand": "d"}])
    extract(layout, "minilm", TextEncoderParams(weights="random:0"))
    assert FakeTextEncoder.seen == ["a b c d"]


def test_same_input_gives_the_same_bytes(layout: Layout) -> None:
    extract(layout)
    before = [sha256(path) for path in part_paths(layout.features("vgg16"))]
    extract(layout)
    assert [sha256(path) for path in part_paths(layout.features("vgg16"))] == before


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_extraction_that_ends_in_the_middle_leaves_the_old_features(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    extract(layout)
    folder = layout.features("vgg16")
    before = {path.name: sha256(path) for path in folder.iterdir()}

    class Failing(FakeImageEncoder):
        def encode(self, batch: list[float]) -> npt.NDArray[np.float32]:
            if len(self.batches) == 2:
                raise error
            return 1 + super().encode(batch)

    monkeypatch.setattr("models.encoders.image.ImageEncoder", Failing)
    with pytest.raises(type(error)):
        extract(layout)
    assert {path.name: sha256(path) for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["vgg16"]


def test_first_extraction_that_ends_in_the_middle_leaves_nothing(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(FakeImageEncoder):
        def encode(self, batch: list[float]) -> npt.NDArray[np.float32]:
            return np.full((len(batch), self.dimension), np.nan, dtype=np.float32)

    monkeypatch.setattr("models.encoders.image.ImageEncoder", Broken)
    with pytest.raises(DataError, match="the encoder gave NaN or infinite numbers for item 0"):
        extract(layout)
    assert list(layout.features("vgg16").parent.iterdir()) == []
    assert not layout.metrics("extract-vgg16").exists()


def test_weights_that_cannot_be_had_leave_the_old_features(layout: Layout) -> None:
    extract(layout)
    before = numbers(layout)
    with pytest.raises(WeightsError, match="no file or folder here"):
        extract(layout, params=ImageEncoderParams(weights="no/such.pth"))
    assert numbers(layout) == before


def test_unknown_encoder_and_missing_items_are_reported(layout: Layout) -> None:
    with pytest.raises(ParamsError, match="expected an encoder"):
        extract(layout, "vgg61")
    layout.items.unlink()
    with pytest.raises(MissingInputError, match="run `mmprep filter` first"):
        extract(layout)


def test_progress_counts_the_encoded_items(layout: Layout) -> None:
    opened: list[tuple[str, int | None, str]] = []
    advanced: list[int] = []

    @contextmanager
    def progress(task: str, total: int | None, unit: str) -> Iterator[Callable[[int, str], None]]:
        opened.append((task, total, unit))
        yield lambda units, _: advanced.append(units)

    run("vgg16", ExtractParams(), RANDOM, layout, progress)
    assert opened == [("vgg16: encoding", 8, "photos")]
    assert advanced == [2, 2, 2, 2]


def test_never_more_than_ahead_results_are_waiting() -> None:
    submitted: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            submitted.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for received, result in enumerate(map_ahead(pool, lambda number: 2 * number, source(), 6), start=1):
            assert result == 2 * (received - 1)
            waiting.append(len(submitted) - received)
    assert received == 50
    assert max(waiting) == 6  # it does read ahead
    assert len(submitted) == 50


def test_results_come_in_order_however_long_each_takes() -> None:
    def slow(number: int) -> int:
        time.sleep(0.01 if number % 4 == 0 else 0)
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(map_ahead(pool, slow, range(30), 8)) == list(range(30))


def test_reader_is_at_most_some_batches_ahead_of_the_encoder(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    items: list[dict[str, str | None]] = [{"title": f"{n}"} for n in range(60)]
    write_items(layout, items)
    lead: list[int] = []

    class Counting(FakeTextEncoder):
        def encode(self, batch: list[float]) -> npt.NDArray[np.float32]:
            vectors = super().encode(batch)
            lead.append(len(self.seen) - sum(self.batches))
            return vectors

    monkeypatch.setattr("models.encoders.text.TextEncoder", Counting)
    extract(layout, "minilm", TextEncoderParams(weights="random:0", batch_size=3))
    assert len(FakeTextEncoder.seen) == 60
    assert max(lead) <= 3 * BATCHES_AHEAD


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_chunks_are_full_but_the_last(count: int, sizes: list[int]) -> None:
    made = list(chunks(range(count), 3))
    assert [len(chunk) for chunk in made] == sizes
    assert [value for chunk in made for value in chunk] == list(range(count))


def test_replaced_photos_reach_the_features_and_are_counted(layout: Layout) -> None:
    extract(layout)
    clean = read_features(layout.features("vgg16")).vectors
    noise = NoiseParams(replaced=0.5, modality="image", seed=1)
    metrics = run("vgg16", ExtractParams(), RANDOM, layout, noise=noise)
    noisy = read_features(layout.features("vgg16"))
    assert metrics["replaced_by_noise"] == 4
    assert (noisy.vectors != clean).any(axis=1).sum() == 4
    assert noisy.provenance["replaced_by_noise"] == 4
    other = run("vgg16", ExtractParams(), RANDOM, layout, noise=NoiseParams(replaced=0.5, modality="text"))
    assert other["replaced_by_noise"] == 0
