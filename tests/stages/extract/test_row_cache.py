"""What a run costs that has the row cache, told by what goes through the network."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from fakes import FakeEncoder
from PIL import Image
from worlds import write_items

from mmprep.models.encoders.params import (
    EncoderParams,
    ExtractParams,
    ImageEncoderParams,
    PatchEncoderParams,
    TextEncoderParams,
)
from mmprep.pipeline.cache.row_cache import RowCache, cache_place
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.storage.local_store import LocalStore
from mmprep.pipeline.storage.store import StoreError
from mmprep.stages.extract.extract import run
from mmprep.stages.maintenance.cache import stats, verify

PHOTOS = ImageEncoderParams(weights="random:3", batch_size=4)
TEXTS = TextEncoderParams(weights="random:0", batch_size=8)


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    fake = FakeEncoder(tells_batch=True)
    monkeypatch.setattr("mmprep.stages.extract.encode.load_encoder", fake.load)
    return fake


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "data", "toy")


def write_texts(layout: Layout, count: int) -> None:
    write_items(layout, [{"title": f"Item {n}", "brand": "Acme"} for n in range(count)])


def write_photos(layout: Layout, levels: list[int], names: str = "{}.png") -> None:
    items: list[dict[str, str | None]] = []
    for place, level in enumerate(levels):
        photo = layout.raw / "images" / names.format(place)
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(photo)
        items.append({"image": f"images/{photo.name}"})
    write_items(layout, items)


def cost(layout: Layout, name: str, params: EncoderParams, **extract: str) -> int:
    """How many photos or texts went through the network."""
    metrics = run(name, ExtractParams.model_validate(extract), params, layout)
    assert metrics["encoded"] + metrics["missing"] == metrics["items"]
    return int(metrics["run_through_network"])


def digests(layout: Layout, name: str) -> dict[str, str]:
    return {path.name: sha256(path) for path in layout.features(name).iterdir()}


def shards() -> list[Path]:
    return sorted(Path(os.environ["MMPREP_CACHE"]).rglob("*.parquet"))


def test_a_second_run_encodes_nothing_and_loads_no_network(layout: Layout, fake: FakeEncoder) -> None:
    write_texts(layout, 100)
    assert cost(layout, "minilm", TEXTS) == 100
    before = digests(layout, "minilm")
    assert cost(layout, "minilm", TEXTS) == 0
    assert fake.loaded == 1
    assert digests(layout, "minilm") == before
    assert len(shards()) == 1  # of 13 batches


def test_ten_items_more_cost_ten(layout: Layout) -> None:
    write_texts(layout, 1000)
    assert cost(layout, "minilm", TEXTS) == 1000
    write_texts(layout, 1010)
    assert cost(layout, "minilm", TEXTS) == 10


def test_one_that_lacks_of_many_costs_one(layout: Layout, fake: FakeEncoder) -> None:
    write_texts(layout, 1000)
    cost(layout, "minilm", TEXTS)
    write_items(layout, [{"title": f"Item {n}" if n != 500 else "new", "brand": "Acme"} for n in range(1000)])
    assert cost(layout, "minilm", TEXTS) == 1
    assert fake.seen[1000:] == ["new Acme"]


def test_another_batch_size_encodes_nothing_and_changes_no_byte(layout: Layout) -> None:
    write_texts(layout, 20)
    cost(layout, "minilm", TEXTS)
    before = digests(layout, "minilm")
    assert cost(layout, "minilm", TEXTS.model_copy(update={"batch_size": 3})) == 0
    assert digests(layout, "minilm") == before


def test_another_k_core_encodes_nothing(layout: Layout) -> None:
    write_photos(layout, list(range(20)))
    assert cost(layout, "vgg16", PHOTOS) == 20
    # Fewer items, under other numbers.
    write_items(layout, [{"image": f"images/{n}.png"} for n in range(19, 0, -2)])
    assert cost(layout, "vgg16", PHOTOS) == 0


def test_another_dataset_with_the_same_photos_encodes_nothing(layout: Layout, tmp_path: Path) -> None:
    write_photos(layout, list(range(20)))
    assert cost(layout, "vgg16", PHOTOS) == 20
    other = Layout(tmp_path / "elsewhere", "other")
    write_photos(other, list(range(15, 25)), names="B00{}.png")
    assert cost(other, "vgg16", PHOTOS) == 5


def test_one_photo_of_several_items_is_encoded_once(layout: Layout, fake: FakeEncoder) -> None:
    write_photos(layout, [10, 20, 10, 30, 10])
    assert cost(layout, "vgg16", PHOTOS) == 3
    assert sorted(map(float, fake.seen)) == [10, 20, 30]
    write_texts(layout, 1)
    write_items(layout, [{"title": "same"}, {"title": "same"}])
    assert cost(layout, "minilm", TEXTS) == 1


@pytest.mark.parametrize(
    ("name", "params", "change"),
    [
        ("vgg16", PHOTOS, {"precision": "bf16"}),
        ("vgg16", PHOTOS, {"weights": "random:4"}),
        ("vgg16", PHOTOS, {"stored_as": "f16"}),
        ("minilm", TEXTS, {"max_tokens": 16}),
        ("vit_b16_patches", PatchEncoderParams(weights="random:0"), {"image_size": 256}),
    ],
)
def test_what_changes_the_numbers_encodes_everything(
    layout: Layout, name: str, params: EncoderParams, change: dict[str, object]
) -> None:
    write_photos(layout, list(range(12)))
    assert cost(layout, name, params) == 12
    changed = params.model_copy(update=change)
    assert cost(layout, name, changed) == 12
    # And back, for nothing.
    assert [cost(layout, name, each) for each in (params, changed)] == [0, 0]


def test_other_weights_in_the_same_file_encode_everything(layout: Layout, tmp_path: Path) -> None:
    write_photos(layout, list(range(12)))
    weights = tmp_path / "weights.pth"
    params = ImageEncoderParams(weights=str(weights))
    weights.write_bytes(b"one")
    assert cost(layout, "vgg16", params) == 12
    weights.write_bytes(b"two")
    assert cost(layout, "vgg16", params) == 12
    weights.write_bytes(b"one")
    weights.rename(tmp_path / "moved.pth")
    assert cost(layout, "vgg16", ImageEncoderParams(weights=str(tmp_path / "moved.pth"))) == 0


@pytest.mark.parametrize("change", [{"batch_size": 5}, {"reduce": "pca:2"}])
def test_what_changes_no_number_encodes_nothing(layout: Layout, change: dict[str, object]) -> None:
    write_photos(layout, list(range(12)))
    assert cost(layout, "vit_b16", PHOTOS) == 12
    before = digests(layout, "vit_b16")
    assert cost(layout, "vit_b16", PHOTOS.model_copy(update=change)) == 0
    assert cost(layout, "vit_b16", PHOTOS) == 0
    assert digests(layout, "vit_b16") == before


def test_what_lacking_items_get_encodes_nothing(layout: Layout) -> None:
    write_photos(layout, list(range(12)))
    assert cost(layout, "vgg16", PHOTOS) == 12
    assert [cost(layout, "vgg16", PHOTOS, missing=missing) for missing in ("zeros", "error", "mean")] == [0, 0, 0]


def test_another_template_encodes_the_texts_that_it_changes(layout: Layout) -> None:
    write_items(layout, [{"title": f"Item {n}", "brand": "Acme" if n < 5 else ""} for n in range(20)])
    assert cost(layout, "minilm", TEXTS) == 20
    titles = TEXTS.model_copy(update={"template": "{title}"})
    assert cost(layout, "minilm", titles) == 5
    assert [cost(layout, "minilm", params) for params in (TEXTS, titles)] == [0, 0]


def test_a_photo_that_breaks_is_looked_at_again_without_the_network(layout: Layout, fake: FakeEncoder) -> None:
    write_photos(layout, list(range(12)))
    (layout.raw / "images" / "0.png").write_bytes(b"no photo")
    assert cost(layout, "vgg16", PHOTOS) == 11
    assert cost(layout, "vgg16", PHOTOS) == 0
    assert fake.loaded == 1


def flip_byte(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("compacted", [True, False])
def test_a_flipped_byte_is_found_and_its_rows_are_encoded_again(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, share: float, compacted: bool
) -> None:
    if not compacted:
        monkeypatch.setattr("mmprep.pipeline.cache.compaction.compact", lambda _: None)
    write_photos(layout, list(range(30)))
    cost(layout, "vgg16", PHOTOS)
    before = digests(layout, "vgg16")
    shutil.rmtree(layout.features("vgg16"))
    damaged = shards()[len(shards()) // 2]
    flip_byte(damaged, int(damaged.stat().st_size * share))
    assert cost(layout, "vgg16", PHOTOS) == (30 if compacted else 4)
    assert digests(layout, "vgg16") == before
    assert not damaged.exists() or sha256(damaged) == damaged.stem
    assert any(f"{damaged.name}: damaged" in message for message in caplog.messages)
    assert [path.name for path in Path(os.environ["MMPREP_CACHE"]).rglob("damaged/*")] == [damaged.name]
    assert verify(cache_place(os.environ)).damaged == []


def test_a_cache_that_keeps_losing_rows_is_given_up(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, fake: FakeEncoder
) -> None:
    def add_and_break(self: RowCache, keys: list[bytes], rows: pa.RecordBatch) -> None:
        add(self, keys, rows)
        for shard in shards():
            shard.write_bytes(shard.read_bytes()[:1000])

    add = RowCache.add
    monkeypatch.setattr(RowCache, "add", add_and_break)
    write_photos(layout, list(range(8)))
    with pytest.raises(DataError) as caught:
        cost(layout, "vgg16", PHOTOS)
    assert str(caught.value) == (
        "the row cache keeps losing rows; check its disk, or set MMPREP_CACHE to another place"
    )
    assert len(fake.batches) == 6  # three times both
    assert not layout.features("vgg16").exists()


def test_a_cache_that_may_not_be_written_says_so_but_serves(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photos(layout, list(range(8)))
    cost(layout, "vgg16", PHOTOS)
    before = digests(layout, "vgg16")

    def refuse(self: LocalStore, *_: object) -> None:
        raise StoreError(f"{self}: cannot be written (Read-only file system)")

    for name in ("write", "scratch", "upload", "move", "delete"):
        monkeypatch.setattr(LocalStore, name, refuse)
    assert cost(layout, "vgg16", PHOTOS) == 0
    assert digests(layout, "vgg16") == before
    write_photos(layout, list(range(9)))
    with pytest.raises(DataError, match=r"cannot be written \(Read-only file system\); set MMPREP_CACHE to a folder"):
        cost(layout, "vgg16", PHOTOS)
    assert digests(layout, "vgg16") == before


def test_a_cache_that_is_no_folder_says_so(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMPREP_CACHE", str(tmp_path / "file"))
    write_photos(layout, [1])
    with pytest.raises(DataError, match=r"file/vgg16-[0-9a-f]+: cannot be listed \(Not a directory\)"):
        cost(layout, "vgg16", PHOTOS)


@pytest.mark.parametrize("way", ["changed", "gone"])
def test_a_photo_that_changes_while_it_is_read_ends_the_run(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    write_photos(layout, list(range(8)))
    photo = layout.raw / "images" / "5.png"
    reads: list[str] = []
    read = PhotoFiles.read

    def changing(self: PhotoFiles, name: str) -> bytes:
        reads.append(name)
        if reads.count("images/5.png") == 2 and name == "images/5.png":
            Image.new("RGB", (8, 8), "red").save(photo) if way == "changed" else photo.unlink()
        return read(self, name)

    monkeypatch.setattr(PhotoFiles, "read", changing)
    with pytest.raises(DataError) as caught:
        cost(layout, "vgg16", PHOTOS)
    assert (
        str(caught.value)
        == {
            "changed": "images/5.png: changed while it was read; run the command again",
            "gone": "images/5.png: file is gone, but it was there a moment ago; run the command again",
        }[way]
    )
    assert not layout.features("vgg16").exists()
    # What was encoded before may be in the cache; the photo that was to be next is not.
    assert cost(layout, "vgg16", PHOTOS) in {"changed": (4, 8), "gone": (3, 7)}[way]


def test_the_cache_tells_what_it_holds(layout: Layout) -> None:
    write_photos(layout, list(range(8)))
    cost(layout, "vgg16", PHOTOS)
    cost(layout, "minilm", TEXTS)
    found = {each.fingerprint["encoder"]: each.rows for each in stats(cache_place(os.environ))}
    assert found == {"vgg16": 8, "minilm": 8}
