"""Each item gets its photo from wherever in the raw folder it lies; each that is not used is listed with its reason."""

import io
import json
import os
import random
import tarfile
import threading
import zipfile
from pathlib import Path

import polars as pl
import pytest
from PIL import Image, features

from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.progress import silent
from mmprep.pipeline.reject_reasons import Reason
from mmprep.stages.ingest import photos as ingest_photos
from mmprep.stages.ingest.photos import InputTally, check_photos, with_photos


def jpeg(colour: str = "red", side: int = 24) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path


def taken(raw: Path, *item_ids: str) -> tuple[dict[str, str | None], list[tuple[str, Reason]], int]:
    """Each item's photo, what was rejected and why, and how many were looked at."""
    intake = InputTally("photos")
    items = with_photos(pl.DataFrame({"item_id": item_ids}), raw, intake, silent)
    assert items.schema["image"] == pl.String
    assert all((reject.line, reject.excerpt) == (None, "") for reject in intake.rejects.whole_files())
    rejects = [(reject.source, reject.reason) for reject in intake.rejects.whole_files()]
    return dict(zip(items["item_id"], items["image"], strict=True)), rejects, intake.seen


def test_photos_of_files_tars_and_zips_reach_their_items(raw: Path) -> None:
    (raw / "images" / "B0.jpg").write_bytes(jpeg())
    tar_of(raw / "images" / "0001.tar", {"B1.jpg": jpeg(), "B1.json": b"{}", "a%2Fb.jpg": jpeg()})
    with zipfile.ZipFile(raw / "images.zip", "w") as zipped:
        zipped.writestr("images/B.v1.jpg.png", jpeg())
    images, rejects, seen = taken(raw, "B0", "B1", "B2", "a/b", "B.v1.jpg")
    assert images == {
        "B0": "images/B0.jpg",
        "B1": "images/0001.tar/B1.jpg",
        "B2": None,
        "a/b": "images/0001.tar/a%2Fb.jpg",
        "B.v1.jpg": "images.zip/images/B.v1.jpg.png",
    }
    assert (rejects, seen) == ([], 4)


def test_of_an_items_photos_the_first_sound_one_by_name_is_taken_wherever_it_lies(raw: Path) -> None:
    tar_of(raw / "images" / "1.tar", {"B0.jpg": jpeg()[:-40]})
    tar_of(raw / "images" / "2.tar", {"z/B0.jpg": jpeg()})
    tar_of(raw / "images" / "3.tar", {"a/B0.png": jpeg()})
    (raw / "images" / "B0.jpg").write_bytes(jpeg())
    images, rejects, seen = taken(raw, "B0")
    assert images == {"B0": "images/2.tar/z/B0.jpg"}
    assert rejects == [
        ("images/1.tar/B0.jpg", Reason.BAD_IMAGE),
        ("images/3.tar/a/B0.png", Reason.SECOND_PHOTO),
        ("images/B0.jpg", Reason.SECOND_PHOTO),
    ]
    assert seen == 4


def test_every_fault_is_listed_and_the_rest_is_taken(raw: Path) -> None:
    photo = jpeg()
    (raw / "secret.jpg").write_bytes(photo)
    files = {
        "B1.jpg": b"",
        "B2.jpg": b"<html>",
        "B3.gif": jpeg(side=4),
        "B9.jpg": photo,
        "notes.txt": b"x",
        "a.tgz": b"x",
    }
    for name, content in files.items():
        (raw / "images" / name).write_bytes(content)
    (raw / "images" / "B4.jpg").symlink_to("gone.jpg")
    (raw / "images" / "B5.jpg").symlink_to("/proc/version")
    tar_of(raw / "images" / "1.tar", {"B6.jpg": photo, "../B7.jpg": photo, "C7.jpg": photo})
    whole = (raw / "images" / "1.tar").read_bytes()
    (raw / "images" / "2.tar").write_bytes(whole.replace(b"B6.jpg", b"B8.jpg")[:700])
    images, rejects, seen = taken(raw, *(f"B{n}" for n in range(10)))
    assert {item: image for item, image in images.items() if image} == {
        "B6": "images/1.tar/B6.jpg",
        "B9": "images/B9.jpg",
    }
    assert rejects == [
        ("images/1.tar/../B7.jpg", Reason.BAD_NAME),
        ("images/1.tar/C7.jpg", Reason.UNKNOWN_ITEM),
        ("images/2.tar", Reason.BAD_ARCHIVE),
        ("images/B1.jpg", Reason.EMPTY_FILE),
        ("images/B2.jpg", Reason.NOT_AN_IMAGE),
        ("images/B3.gif", Reason.IMAGE_TOO_SMALL),
        ("images/B4.jpg", Reason.DANGLING_LINK),
        ("images/B5.jpg", Reason.LINK_OUT),
        ("images/a.tgz", Reason.COMPRESSED_ARCHIVE),
        ("images/notes.txt", Reason.NOT_A_PHOTO),
    ]
    assert seen == len(rejects) + 2


def test_the_order_in_which_threads_end_does_not_matter(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_photos, "PHOTOS_AHEAD", 7)
    chance = random.Random(0)  # noqa: S311 - no secret
    for n in range(40):
        content = jpeg(side=chance.choice([16, 600])) if n % 3 else b"x"
        (raw / "images" / f"B{n:02}.jpg").write_bytes(content)
    found = list(check_photos(PhotoFiles(raw), silent))
    assert found == [(f"images/B{n:02}.jpg", None if n % 3 else Reason.NOT_AN_IMAGE) for n in range(40)]


def test_no_more_photos_are_held_than_are_decoded_at_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(60):
        (raw / "images" / f"B{n:02}.jpg").write_bytes(jpeg())
    held: set[int] = set()
    most = 0
    lock = threading.Lock()

    class Held(bytes):
        def __del__(self) -> None:
            with lock:
                held.discard(id(self))

    read = PhotoFiles.read

    def counted(files: PhotoFiles, name: str) -> bytes:
        nonlocal most
        content = Held(read(files, name))
        with lock:
            held.add(id(content))
            most = max(most, len(held))
        return content

    monkeypatch.setattr(PhotoFiles, "read", counted)
    assert all(reason is None for _, reason in check_photos(PhotoFiles(raw), silent))
    assert 1 <= most <= min(32, (os.cpu_count() or 1) + 4)  # Python's number of threads


def test_photos_are_read_and_decoded_side_by_side(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("B0.jpg", "B1.jpg"):
        (raw / "images" / name).write_bytes(jpeg())
    both = threading.Barrier(2, timeout=20)
    read = PhotoFiles.read

    def together(files: PhotoFiles, name: str) -> bytes:
        both.wait()
        return read(files, name)

    monkeypatch.setattr(PhotoFiles, "read", together)
    assert [reason for _, reason in check_photos(PhotoFiles(raw), silent)] == [None, None]


@pytest.mark.parametrize(
    "name",
    [
        "B0.jfif",
        "B0.JPG",
        "B0.webp",
        "B0",
        "B0_0.jpg",
        "B0-1.jpg",
        "B0.main.jpg",
        "B0_MAIN.jpg",
        "B0.jpg.jpg",
        "B0_0.jpg.jpeg",
        "B0.jpg?SX300.jpg",
        "B0.jpg?SX300",
        "B0 .jpg",
    ],
)
@pytest.mark.parametrize("home", ["images", "images/0.tar", "images.zip"])
def test_photos_of_other_names_and_kinds_reach_their_items(raw: Path, name: str, home: str) -> None:
    if home == "images":
        (raw / "images" / name).write_bytes(jpeg())
    elif home == "images.zip":
        with zipfile.ZipFile(raw / "images.zip", "w") as zipped:
            zipped.writestr(name, jpeg())
    else:
        tar_of(raw / "images" / "0.tar", {name: jpeg()})
    assert taken(raw, "B0", "B1") == ({"B0": f"{home}/{name}", "B1": None}, [], 1)


def test_the_whole_name_of_a_photo_is_an_id_first(raw: Path) -> None:
    for name in ("B0_0.jpg", "B0.jpg.png", "B0_1.jpg"):
        (raw / "images" / name).write_bytes(jpeg())
    images, rejects, _ = taken(raw, "B0", "B0_0", "B0.jpg")
    assert images == {"B0": "images/B0_1.jpg", "B0_0": "images/B0_0.jpg", "B0.jpg": "images/B0.jpg.png"}
    assert rejects == []


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_is_read(raw: Path) -> None:
    Image.new("RGB", (24, 24), "red").save(raw / "images" / "B0.avif")
    (raw / "images" / "B1.avif").write_bytes((raw / "images" / "B0.avif").read_bytes()[:-20])
    images, rejects, _ = taken(raw, "B0", "B1")
    assert images == {"B0": "images/B0.avif", "B1": None}
    assert rejects == [("images/B1.avif", Reason.BAD_IMAGE)]


def test_a_file_without_a_suffix_is_a_photo_by_its_content_alone(raw: Path) -> None:
    for name, content in (("README", b"about"), ("done", b""), ("B0", jpeg()), ("B1", jpeg()[:-40])):
        (raw / "images" / name).write_bytes(content)
    images, rejects, _ = taken(raw, "B0", "B1")
    assert images == {"B0": "images/B0", "B1": None}
    assert rejects == [
        ("images/B1", Reason.BAD_IMAGE),
        ("images/README", Reason.NOT_A_PHOTO),
        ("images/done", Reason.NOT_A_PHOTO),
    ]


@pytest.mark.parametrize("home", ["images", "images/0.tar", "images.zip"])
def test_photos_of_img2dataset_reach_the_item_that_the_json_beside_them_names(raw: Path, home: str) -> None:
    members = {}
    notes: list[object] = [
        {"key": "000000000", "url": "https://m/1.jpg", "asin": "B0", "status": "success"},
        {"key": "000000001", "product": "B1"},
        {"key": "000000002", "a": "B0", "b": "B1"},
        {"key": "000000003", "asin": "B9"},
        ["B2"],
        {"asin": ["B2"]},
    ]
    for number, note in enumerate(notes):
        members |= {f"{number:09}.jpg": jpeg(), f"{number:09}.json": json.dumps(note).encode(), f"{number:09}.txt": b""}
    members["000000006.json"] = b"{"
    members |= {
        "000000006.jpg": jpeg(),
        "000000007.jpg": jpeg(),
        "000000007.json": b" " * (1 << 20) + b'{"asin": "B2"}',
    }
    if home == "images/0.tar":
        tar_of(raw / home, members)
    elif home == "images.zip":
        with zipfile.ZipFile(raw / home, "w") as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
    else:
        for name, content in members.items():
            (raw / home / name).write_bytes(content)
    images, rejects, _ = taken(raw, "B0", "B1", "B2")
    assert images == {"B0": f"{home}/000000000.jpg", "B1": f"{home}/000000001.jpg", "B2": None}
    unknown = [name for name, reason in rejects if reason is Reason.UNKNOWN_ITEM]
    assert unknown == [f"{home}/00000000{number}.jpg" for number in range(2, 8)]


@pytest.mark.parametrize(
    ("table", "content"),
    [("i_id_mapping.csv", b"asin\titemID\nB0\t0\nB1\t12\n"), ("item2id.json", b'{"B0": 0, "B1": 12}')],
)
def test_photos_named_by_item_number_are_matched_by_the_table(
    raw: Path, table: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name in ("0.jpg", "00012.jpg", "7.jpg", "1" * 5000):
        tar_of(raw / "images" / f"{name[:9]}.tar", {name: jpeg()})
    (raw / table).write_bytes(content)
    images, rejects, _ = taken(raw, "B0", "B1")
    assert images == {"B0": "images/0.jpg.tar/0.jpg", "B1": "images/00012.jpg.tar/00012.jpg"}
    assert [reason for _, reason in rejects] == [Reason.UNKNOWN_ITEM] * 2
    assert "2 photos matched to items by item number" in caplog.text
