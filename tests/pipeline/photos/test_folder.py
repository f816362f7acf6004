"""Photos are found in a raw folder and its archives; each bad one is seen rightly or refused with its reason."""

import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmprep.pipeline.photos.decode import PhotoError, decode_photo
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.reject_reasons import Reason

NAMES = {"red": "r", "lime": "g", "blue": "b", "yellow": "y", "white": "w"}


def picture(width: int = 64, height: int = 48, colours: str = "rgby") -> Image.Image:
    """A colour in each corner, from the upper left to the lower right."""
    image = Image.new("RGB", (width, height))
    of = {short: colour for colour, short in NAMES.items()}
    for n, short in enumerate(colours):
        left, top = n % 2 * (width // 2), n // 2 * (height // 2)
        image.paste(of[short], (left, top, left + width // 2, top + height // 2))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def clear_corner() -> Image.Image:
    """The picture, its last corner there but not to be seen."""
    image = picture().convert("RGBA")
    image.paste((255, 255, 0, 0), (32, 24, 64, 48))
    return image


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(), exif=exif)


def deep() -> bytes:
    """The picture as a PNG of 16 bits a channel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels = picture().tobytes()
    rows = b"".join(
        b"\0" + bytes(value for byte in pixels[start : start + 192] for value in (byte, byte))
        for start in range(0, len(pixels), 192)
    )
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bomb() -> bytes:
    """A small PNG of 60,000 x 60,000 pixels, by its header."""
    content = bytearray(encoded(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def corners(image: Image.Image) -> str:
    """The colours that are seen in the corners."""
    values = {(True, False, False): "r", (False, True, False): "g", (False, False, True): "b", (True, True, False): "y"}
    values |= {(True, True, True): "w", (False, False, False): "k"}
    right, lower = image.width - 4, image.height - 4
    pixels = [image.getpixel(place) for place in [(3, 3), (right, 3), (3, lower), (right, lower)]]
    return "".join(values.get(tuple(value > 127 for value in pixel), "?") for pixel in pixels)  # type: ignore[union-attr]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "toys" / "images").mkdir(parents=True)
    return tmp_path / "toys"


def put(raw: Path, content: bytes, name: str = "B0.jpg") -> Path:
    path = raw / "images" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def seen(raw: Path, name: str) -> str | Reason:
    """What is seen in a photo's corners, or why nothing is."""
    with PhotoFiles(raw) as files:
        refused = dict(files.names()).get(name)
        try:
            image = decode_photo(files.read(name))
        except PhotoError as error:
            assert refused in (None, error.reason) or error.reason is Reason.MISSING_FILE
            return refused or error.reason
        assert refused is None
        return corners(image)


def link_out(raw: Path) -> None:
    (raw.parent / "secret.jpg").write_bytes(encoded(picture()))
    (raw / "images" / "B0.jpg").symlink_to("../../secret.jpg")


BAD_PHOTOS: dict[str, tuple[bytes | Callable[[Path], object], str | Reason]] = {
    "truncated": (encoded(picture())[:-60], Reason.BAD_IMAGE),
    "empty": (b"", Reason.EMPTY_FILE),
    "HTML": (b"<!DOCTYPE html><title>Not Found</title>", Reason.NOT_AN_IMAGE),
    "wrong extension": (encoded(picture(), "PNG"), "rgby"),
    "CMYK": (encoded(picture().convert("CMYK"), quality=95), "rgby"),
    "palette": (encoded(picture().convert("P", palette=Image.Palette.ADAPTIVE), "PNG"), "rgby"),
    "16-bit": (deep(), "rgby"),
    "alpha": (encoded(clear_corner(), "PNG"), "rgbw"),
    "animated GIF": (encoded(picture(), "GIF", save_all=True, append_images=[picture(colours="ybgr")]), "rgby"),
    "EXIF-rotated": (turned(), "bryg"),
    "1x1": (encoded(Image.new("P", (1, 1)), "GIF"), Reason.IMAGE_TOO_SMALL),
    "20,000 pixels wide": (encoded(picture(20_000, 400)), "rgby"),
    "20,000 pixels wide and thin": (encoded(picture(20_000, 40)), Reason.IMAGE_TOO_THIN),
    "decompression bomb": (bomb(), Reason.IMAGE_TOO_LARGE),
    "symlink out of the folder": (link_out, Reason.LINK_OUT),
    "missing": (lambda raw: raw, Reason.MISSING_FILE),
}


@pytest.mark.parametrize("kind", BAD_PHOTOS)
def test_a_bad_photo_is_seen_rightly_or_refused_with_its_reason(raw: Path, kind: str) -> None:
    given, expected = BAD_PHOTOS[kind]
    if isinstance(given, bytes):
        put(raw, given)
    else:
        given(raw)
    assert seen(raw, "images/B0.jpg") == expected


@pytest.mark.parametrize("archive", ["images.tar", "images/0.zip"])
@pytest.mark.parametrize("kind", [kind for kind, (given, _) in BAD_PHOTOS.items() if isinstance(given, bytes)])
def test_a_bad_photo_in_an_archive_is_seen_or_refused_as_one_in_a_file(raw: Path, kind: str, archive: str) -> None:
    content, expected = BAD_PHOTOS[kind]
    assert isinstance(content, bytes)
    pack(raw / archive, {"B0.jpg": content})
    assert seen(raw, f"{archive}/B0.jpg") == expected


def pack(path: Path, members: dict[str, bytes]) -> None:
    """A tar or zip of these files, by the suffix."""
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
        return
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def names(raw: Path) -> list[tuple[str, Reason | None]]:
    with PhotoFiles(raw) as files:
        return list(files.names())


def test_photos_lie_in_folders_and_archives_and_come_in_the_order_of_names(raw: Path) -> None:
    put(raw, b"c", "C.PNG")
    put(raw, b"sub", "a/deep.webp")
    pack(raw / "images" / "0001.tar", {"z.jpg": b"z", "sub/y.jpg": b"y"})
    pack(raw / "images" / "0002.ZIP", {"x.gif": b"x"})
    pack(raw / "images.TAR", {"w.bmp": b"w"})
    pack(raw / "images.zip", {"./v.jpeg": b"v"})
    pack(raw / "images" / "a" / "3.tar", {"/u.jpg": b"u"})
    expected = {
        "images.TAR/w.bmp": b"w",
        "images.zip/v.jpeg": b"v",
        "images/0001.tar/sub/y.jpg": b"y",
        "images/0001.tar/z.jpg": b"z",
        "images/0002.ZIP/x.gif": b"x",
        "images/C.PNG": b"c",
        "images/a/3.tar/u.jpg": b"u",
        "images/a/deep.webp": b"sub",
    }
    assert names(raw) == [(name, None) for name in expected]
    with PhotoFiles(raw) as files:
        assert {name: files.read(name) for name in expected} == expected


def test_what_lies_beside_photos_is_refused_in_the_folder_and_passed_over_in_archives(raw: Path) -> None:
    for name in ("notes.txt", ".DS_Store", "._B0.jpg", ".git/x.jpg", "Thumbs.db"):
        put(raw, b"x", name)
    beside = {"0.jpg": b"x", "0.json": b"{}", "0.txt": b"a mug", "._0.jpg": b"", "__MACOSX/._0.jpg": b""}
    pack(raw / "images" / "0.tar", beside)
    pack(raw / "images" / "1.zip", beside)
    assert names(raw) == [
        ("images/0.tar/0.jpg", None),
        ("images/1.zip/0.jpg", None),
        ("images/Thumbs.db", Reason.NOT_A_PHOTO),
        ("images/notes.txt", Reason.NOT_A_PHOTO),
    ]


def test_without_photos_there_are_no_names(tmp_path: Path) -> None:
    assert names(tmp_path) == []


def test_a_name_that_is_no_text_is_refused(raw: Path) -> None:
    (Path(os.fsdecode(bytes(raw / "images") + b"/B\xff"))).mkdir()
    put(raw, b"x", os.fsdecode(b"B\xff/B0.jpg"))
    pack(raw / "images" / "0.tar", {"B\udcff/B0.jpg": b"x"})
    assert [reason for _, reason in names(raw)] == [Reason.BAD_ENCODING] * 2


@pytest.mark.parametrize("archive", ["images/0.tar", "images/0.zip", "images.tar"])
def test_an_archive_without_photos_is_told(raw: Path, archive: str) -> None:
    pack(raw / archive, {"0.json": b"{}"})
    assert names(raw) == [(archive, Reason.NO_PHOTOS)]


@pytest.mark.parametrize("name", ["images.tar.gz", "images/0.tgz", "images/0.TAR.ZST", "images/0.7z"])
def test_a_compressed_archive_is_refused_and_what_to_do_is_said(
    raw: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (raw / name).write_bytes(b"x")
    assert names(raw) == [(name, Reason.COMPRESSED_ARCHIVE)]
    assert f"{raw / name}: compressed archive, which cannot be read at random; unpack it" in caplog.text


@pytest.mark.parametrize("name", ["images.tar", "images/0.zip"])
def test_an_empty_archive_is_empty(raw: Path, name: str) -> None:
    (raw / name).write_bytes(b"")
    assert names(raw) == [(name, Reason.EMPTY_FILE)]


def test_of_a_cut_off_tar_the_photos_before_the_cut_are_used_and_that_is_said(
    raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = raw / "images" / "0.tar"
    pack(path, {f"B{n}.jpg": bytes([n]) * 1000 for n in range(4)})
    path.write_bytes(path.read_bytes()[: 2 * 1536 + 512 + 900])
    assert names(raw) == [
        ("images/0.tar", Reason.BAD_ARCHIVE),
        ("images/0.tar/B0.jpg", None),
        ("images/0.tar/B1.jpg", None),
        ("images/0.tar/B2.jpg", Reason.BAD_ARCHIVE),
    ]
    assert "0.tar: archive cut off or damaged; the photos before that are used: 2" in caplog.text
    assert PhotoFiles(raw).read("images/0.tar/B1.jpg") == b"\1" * 1000


def test_a_cut_off_zip_has_lost_its_list(raw: Path) -> None:
    path = raw / "images" / "0.zip"
    pack(path, {"B0.jpg": b"x" * 1000})
    path.write_bytes(path.read_bytes()[:-30])
    assert names(raw) == [("images/0.zip", Reason.BAD_ARCHIVE)]


def test_a_link_within_the_folder_is_read(raw: Path) -> None:
    put(raw, b"x", "B0.jpg")
    (raw / "elsewhere.jpg").write_bytes(b"y")
    (raw / "images" / "B1.jpg").symlink_to("B0.jpg")
    (raw / "images" / "B2.jpg").symlink_to(raw / "elsewhere.jpg")
    assert names(raw) == [(f"images/B{n}.jpg", None) for n in range(3)]
    files = PhotoFiles(raw)
    assert [files.read(f"images/B{n}.jpg") for n in range(3)] == [b"x", b"x", b"y"]


@pytest.mark.parametrize("whole", ["toys", "images", "images.tar"])
def test_the_raw_folder_or_all_its_photos_may_be_a_link(tmp_path: Path, whole: str) -> None:
    stored, raw = tmp_path / "disk", tmp_path / "toys"
    (stored / "images").mkdir(parents=True)
    (stored / "images" / "B0.jpg").write_bytes(b"x")
    (stored / "images" / "B1.jpg").symlink_to("B0.jpg")
    pack(stored / "images.tar", {"B0.jpg": b"x", "B1.jpg": b"x"})
    if whole != "toys":
        raw.mkdir()
    (tmp_path / "toys" / ("" if whole == "toys" else whole)).symlink_to(stored / ("" if whole == "toys" else whole))
    folder = "images.tar" if whole == "images.tar" else "images"
    assert [name for name in names(raw) if name[0].startswith(f"{folder}/")] == [
        (f"{folder}/B0.jpg", None),
        (f"{folder}/B1.jpg", None),
    ]
    assert PhotoFiles(raw).read(f"{folder}/B1.jpg") == b"x"


@pytest.mark.parametrize("cache", ["files/md5", "cache"])
def test_links_of_a_dvc_checkout_are_read(tmp_path: Path, raw: Path, cache: str) -> None:
    stored = tmp_path / ".dvc" / cache / "0a" / ("0123456789" * 3)
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"x")
    (raw / "images" / "B0.jpg").symlink_to(stored)
    pack(tmp_path / "0.tar", {"B1.jpg": b"y"})
    shard = stored.with_name("a" * 30)
    (tmp_path / "0.tar").rename(shard)
    (raw / "images" / "0.tar").symlink_to(shard)
    assert names(raw) == [("images/0.tar/B1.jpg", None), ("images/B0.jpg", None)]
    assert PhotoFiles(raw).read("images/B0.jpg") == b"x"
    assert PhotoFiles(raw).read("images/0.tar/B1.jpg") == b"y"


@pytest.mark.parametrize("place", ["files/md5/0a/secret.jpg", f"other/0a/{'0' * 30}", f"files/md5/0a/{'0' * 30}.key"])
def test_links_to_what_only_looks_like_a_dvc_cache_are_refused(tmp_path: Path, raw: Path, place: str) -> None:
    stored = tmp_path / place
    stored.parent.mkdir(parents=True)
    stored.write_bytes(b"x")
    (raw / "images" / "B0.jpg").symlink_to(stored)
    assert seen(raw, "images/B0.jpg") is Reason.LINK_OUT


def test_links_that_lead_nowhere_to_folders_or_out_are_refused(tmp_path: Path, raw: Path) -> None:
    pack(tmp_path / "out.tar", {"B9.jpg": b"x"})
    targets = {"0.tar": tmp_path / "out.tar", "B0.jpg": "gone.jpg", "B1.jpg": "B1.jpg", "B2.jpg": "/dev/zero"}
    for name, target in {**targets, "up": "..", "self": "."}.items():
        (raw / "images" / name).symlink_to(target)
    assert names(raw) == [
        ("images/0.tar", Reason.LINK_OUT),
        ("images/B0.jpg", Reason.DANGLING_LINK),
        ("images/B1.jpg", Reason.DANGLING_LINK),
        ("images/B2.jpg", Reason.NOT_A_FILE),
        ("images/self", Reason.LINKED_FOLDER),
        ("images/up", Reason.LINKED_FOLDER),
    ]


@pytest.mark.parametrize("name", ["images", "images.tar"])
def test_photos_behind_a_link_to_nothing_are_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("gone")
    assert names(tmp_path) == [(name, Reason.DANGLING_LINK)]


def test_a_pipe_is_refused_and_not_waited_for(raw: Path) -> None:
    os.mkfifo(raw / "images" / "B0.jpg")
    assert names(raw) == [("images/B0.jpg", Reason.NOT_A_FILE)]
    with pytest.raises(PhotoError, match=Reason.NOT_A_FILE.value):
        PhotoFiles(raw).read("images/B0.jpg")


def read_fault(raw: Path, name: str) -> Reason:
    with pytest.raises(PhotoError) as caught:
        PhotoFiles(raw).read(name)
    return caught.value.reason


def test_no_name_leads_out_of_the_folder(raw: Path) -> None:
    (raw.parent / "secret.jpg").write_bytes(b"x")
    (raw / "images" / "out").symlink_to(raw.parent)
    pack(raw.parent / "out.tar", {"B0.jpg": b"x"})
    assert read_fault(raw, "../secret.jpg") is Reason.BAD_NAME
    assert read_fault(raw, "images/../../secret.jpg") is Reason.BAD_NAME
    assert read_fault(raw, str(raw.parent / "secret.jpg")) is Reason.BAD_NAME
    assert read_fault(raw, "images/out/secret.jpg") is Reason.LINK_OUT
    assert read_fault(raw, "images/out/out.tar/B0.jpg") is Reason.LINK_OUT


def test_what_is_gone_is_told(raw: Path) -> None:
    pack(raw / "images" / "0.tar", {"B0.jpg": b"x"})
    assert read_fault(raw, "images/B0.jpg") is Reason.MISSING_FILE
    assert read_fault(raw, "images/0.tar/B1.jpg") is Reason.MISSING_FILE
    assert read_fault(raw, "images/1.tar/B0.jpg") is Reason.MISSING_FILE
    files = PhotoFiles(raw)
    assert files.read("images/0.tar/B0.jpg") == b"x"
    (raw / "images" / "0.tar").unlink()
    with pytest.raises(PhotoError, match="file is gone"):
        files.read("images/0.tar/B0.jpg")


def test_a_file_too_large_is_refused_before_it_is_read(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("folder", "tar_index", "zip_index"):
        monkeypatch.setattr(f"mmprep.pipeline.photos.{module}.MAX_BYTES", 50)
    for suffix in ("tar", "zip"):
        pack(raw / "images" / f"0.{suffix}", {"B0.jpg": b"1" * 51, "B1.jpg": b"1" * 50})
    put(raw, b"1" * 51)
    assert read_fault(raw, "images/B0.jpg") is Reason.FILE_TOO_LARGE
    assert names(raw) == [
        ("images/0.tar/B0.jpg", Reason.FILE_TOO_LARGE),
        ("images/0.tar/B1.jpg", None),
        ("images/0.zip/B0.jpg", Reason.FILE_TOO_LARGE),
        ("images/0.zip/B1.jpg", None),
        ("images/B0.jpg", None),
    ]


def test_a_folder_may_be_called_like_an_archive(raw: Path) -> None:
    put(raw, b"x", "0.tar/B0.jpg")
    assert names(raw) == [("images/0.tar/B0.jpg", None)]
    assert PhotoFiles(raw).read("images/0.tar/B0.jpg") == b"x"


def test_any_thread_may_read(raw: Path) -> None:
    members = {f"B{n}.jpg": bytes([n]) * (100 * n + 1) for n in range(50)}
    for suffix in ("tar", "zip"):
        pack(raw / "images" / f"0.{suffix}", members)
    files = PhotoFiles(raw)
    wanted = [(f"images/0.{suffix}/{name}", content) for name, content in members.items() for suffix in ("tar", "zip")]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(files.read, [name for name, _ in wanted * 5])) == [content for _, content in wanted * 5]


def test_no_file_is_open_between_two_reads(raw: Path) -> None:
    pack(raw / "images.zip", {"B0.jpg": b"x"})
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a system's folder
    with PhotoFiles(raw) as files:
        list(files.names())
        files.read("images.zip/B0.jpg")
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_the_system_does_not_give_is_refused_and_its_word_is_logged(
    raw: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: Path, *_: object) -> None:
        raise OSError(5, "Input/output error", str(path))

    put(raw, b"x")
    pack(raw / "images" / "0.tar", {"B1.jpg": b"x"})
    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr(Path, "open", fail)
    assert names(raw) == [("images/0.tar", Reason.UNREADABLE), ("images/B0.jpg", None)]
    assert read_fault(raw, "images/B0.jpg") is Reason.UNREADABLE
    assert read_fault(raw, "images/0.tar/B1.jpg") is Reason.UNREADABLE
    assert caplog.text.count("Input/output error") == 3


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"x")
    assert names(tmp_path) == [("images", Reason.NOT_A_FILE)]
