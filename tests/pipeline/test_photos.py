"""Photos of every common kind are decoded, and each kind of bad file gives its reason."""

import contextlib
import gc
import io
import random
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.photos import FORMATS, MAX_PIXELS, PhotoError, open_photo
from pipeline.rejects import Reason


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Left half red, right half blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def sixteen_bit() -> Image.Image:
    """A ramp of 16-bit greys from black to white."""
    return Image.fromarray(np.tile(np.linspace(0, 65535, 40).astype(np.uint16), (30, 1)))


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says to be so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PALETTE = picture().convert("P", palette=Image.Palette.ADAPTIVE, colors=2)

KINDS = {
    "jpeg": encoded(picture(), "JPEG", quality=95, subsampling=0),
    "progressive jpeg": encoded(picture(), "JPEG", quality=95, subsampling=0, progressive=True),
    "cmyk jpeg": encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "png": encoded(picture(), "PNG"),
    "alpha png": encoded(picture().convert("RGBA"), "PNG"),
    "palette png": encoded(PALETTE, "PNG"),
    "palette png with alpha": encoded(PALETTE, "PNG", transparency=bytes([255, 254])),
    "gif": encoded(PALETTE, "GIF"),
    "moving gif": encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(180)]),
    "bmp": encoded(picture(), "BMP"),
    "webp": encoded(picture(), "WEBP", lossless=True),
    "alpha webp": encoded(picture().convert("RGBA"), "WEBP", lossless=True),
}
GREYS = {
    "grey jpeg": encoded(sixteen_bit().point(lambda value: value * (1 / 256)).convert("L"), "JPEG", quality=95),
    "grey png": encoded(sixteen_bit().point(lambda value: value * (1 / 256)).convert("L"), "PNG"),
    "grey alpha png": encoded(sixteen_bit().point(lambda value: value * (1 / 256)).convert("LA"), "PNG"),
    "16-bit grey png": encoded(sixteen_bit(), "PNG"),
}


def saved(folder: Path, content: bytes, name: str = "photo.jpg") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def reason_of(path: Path, draft: int | None = None) -> Reason:
    with pytest.raises(PhotoError) as caught:
        open_photo(path, draft=draft)
    assert str(caught.value) == caught.value.reason.value
    return caught.value.reason


@pytest.mark.parametrize("draft", [None, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_photo_is_decoded_to_its_colours(tmp_path: Path, kind: str, draft: int | None) -> None:
    image = open_photo(saved(tmp_path, KINDS[kind]), draft=draft)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    pixels = np.asarray(image).astype(int)
    np.testing.assert_allclose(pixels[15, 5], [255, 0, 0], atol=6)
    np.testing.assert_allclose(pixels[15, 35], [0, 0, 255], atol=6)


@pytest.mark.parametrize("kind", GREYS)
def test_greys_of_any_depth_keep_their_shades(tmp_path: Path, kind: str) -> None:
    image = open_photo(saved(tmp_path, GREYS[kind]))
    assert (image.mode, image.size) == ("RGB", (40, 30))
    pixels = np.asarray(image).astype(int)
    np.testing.assert_allclose(pixels[15, :, 0], np.linspace(0, 255, 40), atol=8)
    assert (pixels == pixels[:, :, :1]).all()


def test_black_and_white_is_decoded(tmp_path: Path) -> None:
    image = Image.new("1", (8, 4))
    image.putpixel((3, 2), 1)
    found = np.asarray(open_photo(saved(tmp_path, encoded(image, "PNG"))))
    assert found[2, 3].tolist() == [255, 255, 255]
    assert found.sum() == 3 * 255


def test_what_a_file_is_counts_and_not_its_name(tmp_path: Path) -> None:
    assert open_photo(saved(tmp_path, KINDS["png"], "photo.jpg")).size == (40, 30)
    assert open_photo(saved(tmp_path, KINDS["jpeg"], "photo.gif")).size == (40, 30)


def test_draft_decodes_a_large_jpeg_at_a_smaller_scale(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(picture(800, 600), "JPEG"))
    assert open_photo(path, draft=32).size == (100, 75)
    assert open_photo(path, draft=300).size == (400, 300)
    assert open_photo(path).size == (800, 600)


@pytest.mark.parametrize("draft", [None, 32])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_jpeg_that_is_cut_off_is_damaged(tmp_path: Path, share: float, progressive: bool, draft: int | None) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    content = encoded(noise, "JPEG", progressive=progressive)
    path = saved(tmp_path, content[: int(share * len(content))])
    assert reason_of(path, draft) is Reason.BAD_IMAGE


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "webp", "16-bit grey png"])
def test_any_photo_that_is_cut_off_is_damaged(tmp_path: Path, kind: str) -> None:
    content = (KINDS | GREYS)[kind]
    assert reason_of(saved(tmp_path, content[: len(content) * 3 // 4])) is Reason.BAD_IMAGE


def test_an_empty_file_is_empty(tmp_path: Path) -> None:
    assert reason_of(saved(tmp_path, b"")) is Reason.EMPTY_FILE


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        b"\0",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"%PDF-1.7 ...",
        encoded(picture(), "TIFF"),
        encoded(picture(), "PPM"),
    ],
)
def test_what_is_no_photo_is_not_an_image(tmp_path: Path, content: bytes) -> None:
    assert reason_of(saved(tmp_path, content)) is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("side", [8001, 9500, 12_000, 60_000])
@pytest.mark.parametrize("draft", [None, 32])
def test_a_photo_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, draft: int | None
) -> None:
    assert side * side > MAX_PIXELS
    assert reason_of(saved(tmp_path, png_header(side, side)), draft) is Reason.IMAGE_TOO_LARGE


def test_a_photo_of_just_few_enough_pixels_is_decoded(tmp_path: Path) -> None:
    path = saved(tmp_path, encoded(Image.new("1", (8000, 8000)), "PNG"))
    assert open_photo(path).size == (8000, 8000)


@pytest.mark.parametrize("content", [KINDS["moving gif"], KINDS["jpeg"][:-50], png_header(9000, 9000)])
def test_no_file_stays_open(tmp_path: Path, content: bytes) -> None:
    path = saved(tmp_path, content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with contextlib.suppress(PhotoError):
            open_photo(path)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def test_damaged_bytes_give_a_photo_or_a_reason_and_never_a_warning(tmp_path: Path) -> None:
    chance = random.Random(0)  # noqa: S311 - no secret
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [*KINDS.values(), *GREYS.values(), encoded(picture(), "JPEG", exif=exif.tobytes())]
    path = tmp_path / "photo.jpg"
    for _ in range(600):
        content = bytearray(chance.choice(kinds))
        for _ in range(chance.choice([1, 2, 8])):
            content[chance.randrange(chance.choice([min(64, len(content)), len(content)]))] = chance.randrange(256)
        path.write_bytes(content[: chance.choice([len(content), chance.randrange(1, len(content))])])
        try:
            assert open_photo(path, draft=chance.choice([None, 32])).mode == "RGB"
        except PhotoError as error:
            assert error.reason in Reason


def test_photos_may_be_opened_on_threads_without_a_warning_or_a_trace_of_its_filters(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    broken_exif = encoded(picture(), "JPEG", exif=exif.tobytes()[:-12])
    paths = [saved(tmp_path, broken_exif, "exif.jpg"), saved(tmp_path, KINDS["palette png with alpha"], "palette.png")]
    large = saved(tmp_path, png_header(9500, 9500), "large.png")
    filters = list(warnings.filters)

    def decode(path: Path) -> str:
        return reason_of(path).name if path == large else open_photo(path).mode

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # let threads get in each other's way
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(decode, [*paths, large] * 100))
    finally:
        sys.setswitchinterval(interval)
    assert found == ["RGB", "RGB", "IMAGE_TOO_LARGE"] * 100
    assert warnings.filters == filters


def test_only_formats_of_photos_are_opened() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "GIF", "BMP"}
