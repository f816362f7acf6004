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
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from mmprep.pipeline.photos.decode import (
    FORMATS,
    MAX_ASPECT,
    MAX_PIXELS,
    MIN_SIDE,
    PhotoError,
    decode_photo,
    open_photo,
    orientation,
)
from mmprep.pipeline.reject_reasons import Reason


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


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colours: int, rows: bytes = b"", *chunks: bytes) -> bytes:
    """A PNG with these rows, each behind a zero, and further chunks before them."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    ends = png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + ends


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says to be so large."""
    return png(width, height, 8, 2)


def deep_png(left: tuple[int, ...], right: tuple[int, ...], colours: int, *chunks: bytes) -> bytes:
    """A PNG of 40 x 30 pixels and 16 bits a channel with two halves; the numbers are those in the file."""
    row = b"\0" + 20 * struct.pack(f">{len(left)}H", *left) + 20 * struct.pack(f">{len(right)}H", *right)
    return png(40, 30, 16, colours, 30 * row, *chunks)


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
    image = Image.new("1", (16, 8))
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


def clear_right(image: Image.Image) -> Image.Image:
    """The picture in RGBA, its blue half there but not to be seen."""
    clear = image.convert("RGBA")
    clear.paste((0, 0, 255, 0), (20, 0, 40, 30))
    return clear


def faint_right() -> Image.Image:
    """The picture in RGBA, its blue half a quarter to be seen: 255 - 64 of the other channels."""
    faint = picture().convert("RGBA")
    faint.paste((0, 0, 255, 64), (20, 0, 40, 30))
    return faint


WHITE, FAINT_BLUE, RED = (255, 255, 255), (191, 191, 255), (255, 0, 0)
SEEN_THROUGH = {
    "rgba png": (encoded(clear_right(picture()), "PNG"), RED, WHITE),
    "half clear png": (encoded(faint_right(), "PNG"), RED, FAINT_BLUE),
    "rgba webp": (encoded(clear_right(picture()), "WEBP", lossless=True), RED, WHITE),
    "half clear webp": (encoded(faint_right(), "WEBP", lossless=True, exact=True), RED, FAINT_BLUE),
    "grey and alpha": (encoded(clear_right(picture()).convert("LA"), "PNG"), (76, 76, 76), WHITE),
    "one colour of a palette": (encoded(PALETTE, "PNG", transparency=PALETTE.getpixel((39, 0))), RED, WHITE),
    "a palette's alphas": (
        encoded(PALETTE, "PNG", transparency=bytes([255, 64] if PALETTE.getpixel((0, 0)) == 0 else [64, 255])),
        RED,
        FAINT_BLUE,
    ),
    "gif": (encoded(PALETTE, "GIF", transparency=PALETTE.getpixel((39, 0))), RED, WHITE),
    "one colour of rgb": (encoded(picture(), "PNG", transparency=(0, 0, 255)), RED, WHITE),
    "one grey": (encoded(picture().convert("L"), "PNG", transparency=29), (76, 76, 76), WHITE),
    "16-bit rgba": (deep_png((65535, 0, 0, 65535), (0, 0, 65535, 64 * 257), 6), RED, FAINT_BLUE),
    "16-bit grey and alpha": (deep_png((128 * 257, 65535), (0, 0), 4), (128, 128, 128), WHITE),
    "16-bit rgb with a clear colour": (
        deep_png((65535, 0, 0), (0, 0, 65535), 2, png_chunk(b"tRNS", struct.pack(">HHH", 0, 0, 65535))),
        RED,
        WHITE,
    ),
    "16-bit grey with a clear shade": (
        deep_png((128 * 257,), (40_000,), 0, png_chunk(b"tRNS", struct.pack(">H", 40_000))),
        (128, 128, 128),
        WHITE,
    ),
}


@pytest.mark.parametrize("kind", SEEN_THROUGH)
def test_what_can_be_seen_through_is_shown_on_white(kind: str) -> None:
    content, left, right = SEEN_THROUGH[kind]
    image = decode_photo(content)
    assert (image.mode, image.size) == ("RGB", (40, 30))
    pixels = np.asarray(image).astype(int)
    np.testing.assert_allclose(pixels[:, :20], np.broadcast_to(left, (30, 20, 3)), atol=1)
    np.testing.assert_allclose(pixels[:, 20:], np.broadcast_to(right, (30, 20, 3)), atol=1)


def test_16_bit_colours_keep_their_shades() -> None:
    pixels = np.asarray(decode_photo(deep_png((200 * 257, 100 * 257, 50 * 257), (0, 30 * 257, 65535), 2)))
    assert pixels[0, 0].tolist() == [200, 100, 50]
    assert pixels[0, 39].tolist() == [0, 30, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_of_a_moving_photo_the_first_picture_is_seen_on_white(kind: str) -> None:
    later = [Image.new("RGBA", (40, 30), "lime"), Image.new("RGBA", (40, 30), "black")]
    content = encoded(clear_right(picture()), kind, save_all=True, append_images=later, lossless=True)
    with Image.open(io.BytesIO(content)) as moving:
        assert getattr(moving, "n_frames", 1) == 3
    pixels = np.asarray(decode_photo(content)).astype(int)
    np.testing.assert_allclose(pixels[15, 5], RED, atol=6)
    np.testing.assert_allclose(pixels[15, 35], WHITE, atol=6)


def test_around_a_gifs_first_picture_that_does_not_fill_it_is_white() -> None:
    content = bytearray(encoded(Image.new("P", (10, 10), 0), "GIF"))
    content[6:10] = struct.pack("<HH", 40, 30)  # the canvas
    frame = content.index(b",\0\0\0\0\x0a\0\x0a\0")
    content[frame + 1 : frame + 5] = struct.pack("<HH", 20, 5)
    pixels = np.asarray(decode_photo(bytes(content)))
    assert pixels.shape == (30, 40, 3)
    assert (pixels[5:15, 20:30] == 0).all()
    assert (pixels == 255).sum() == (40 * 30 - 10 * 10) * 3


def test_a_cmyk_jpeg_of_luminance_and_colour_is_decoded_to_its_colours() -> None:
    # Adobe's files hold the complement, and tell by a flag that it is stored as YCCK; Pillow writes CMYK only, so each
    # channel is given what YCCK has there.
    complement = Image.merge("RGB", [channel.point(lambda value: 255 - value) for channel in picture().split()])
    inverted = [channel.point(lambda value: 255 - value) for channel in complement.convert("YCbCr").split()]
    content = bytearray(encoded(Image.merge("CMYK", [*inverted, Image.new("L", (40, 30), 0)]), "JPEG", quality=95))
    adobe = content.index(b"Adobe")
    assert content[adobe + 11] == 0
    content[adobe + 11] = 2
    pixels = np.asarray(decode_photo(bytes(content))).astype(int)
    np.testing.assert_allclose(pixels[15, 5], [255, 0, 0], atol=8)
    np.testing.assert_allclose(pixels[15, 35], [0, 0, 255], atol=8)


CORNERS = {1: "rgby", 2: "gryb", 3: "ybgr", 4: "byrg", 5: "rbgy", 6: "bryg", 7: "ygbr", 8: "gyrb"}


def four_corners(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and yellow, from the upper left to the lower right."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("lime", (width // 2, 0, width, height // 2))
    image.paste("blue", (0, height // 2, width // 2, height))
    image.paste("yellow", (width // 2, height // 2, width, height))
    return image


def corners(image: Image.Image) -> str:
    """The colours that are seen in the corners, as `rgby` of `four_corners`."""
    width, height = image.size
    found = []
    for place in [(3, 3), (width - 4, 3), (3, height - 4), (width - 4, height - 4)]:
        red, green, blue = (value > 127 for value in image.getpixel(place))  # type: ignore[union-attr]
        found.append(
            {(True, False, False): "r", (False, True, False): "g", (False, False, True): "b"}.get(
                (red, green, blue), "y" if red and green and not blue else "?"
            )
        )
    return "".join(found)


def exif_of(turn: int, order: str = "<", kind: int = 3) -> bytes:
    """EXIF with an orientation, between two other tags."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}LH", 8, 3)
    value = struct.pack(f"{order}L", turn) if kind == 4 else struct.pack(f"{order}HH", turn, 0)
    entries = [(0x0103, 3, struct.pack(f"{order}HH", 6, 0)), (0x0112, kind, value), (0x0128, 3, bytes(4))]
    packed = b"".join(struct.pack(f"{order}HHL", tag, k, 1) + v for tag, k, v in entries)
    return b"Exif\0\0" + start + packed + bytes(4)


@pytest.mark.parametrize("draft", [None, 32])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_a_photo_is_turned_as_its_exif_says(turn: int, kind: str, draft: int | None) -> None:
    stored = four_corners(320, 240)
    image = decode_photo(encoded(stored, kind, exif=exif_of(turn)), draft=draft)
    assert corners(image) == CORNERS[turn]
    long, short = (80, 60) if draft and kind == "JPEG" else (320, 240)
    assert image.size == ((long, short) if turn < 5 else (short, long))


def test_the_eight_ways_to_turn_are_those_of_pillow() -> None:
    for turn in range(1, 9):
        stored = Image.open(io.BytesIO(encoded(four_corners(), "PNG", exif=exif_of(turn))))
        assert corners(ImageOps.exif_transpose(stored)) == CORNERS[turn]


def test_a_grey_photo_with_alpha_is_turned_too() -> None:
    image = Image.new("LA", (40, 20), (0, 255))
    image.paste((0, 0), (0, 0, 20, 20))
    found = np.asarray(decode_photo(encoded(image, "PNG", exif=exif_of(6))))
    assert found.shape == (40, 20, 3)
    assert (found[:20] == 255).all()
    assert (found[20:] == 0).all()


@given(st.integers(0, 65535), st.sampled_from("<>"), st.sampled_from([3, 4]))
def test_the_orientation_is_the_one_that_was_written(turn: int, order: str, kind: int) -> None:
    exif = exif_of(turn, order, kind)
    assert orientation(exif) == turn
    assert orientation(exif.removeprefix(b"Exif\0\0")) == turn


@given(st.data())
def test_broken_exif_is_no_fault_of_the_photo(data: st.DataObject) -> None:
    exif = bytearray(exif_of(1, data.draw(st.sampled_from("<>"))))
    for _ in range(data.draw(st.integers(1, 4))):
        exif[data.draw(st.integers(0, len(exif) - 1))] = data.draw(st.integers(0, 255))
    broken = bytes(exif[: data.draw(st.integers(1, len(exif)))])
    image = decode_photo(encoded(four_corners(), "JPEG", exif=broken))
    assert sorted(corners(image)) == sorted("rgby")


@pytest.mark.parametrize("turn", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(turn: int) -> None:
    assert corners(decode_photo(encoded(four_corners(), "JPEG", exif=exif_of(turn)))) == "rgby"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), Reason.IMAGE_TOO_SMALL),
        ((MIN_SIDE - 1, 500), Reason.IMAGE_TOO_SMALL),
        ((500, MIN_SIDE - 1), Reason.IMAGE_TOO_SMALL),
        ((MIN_SIDE, MIN_SIDE), None),
        ((MIN_SIDE, MIN_SIDE * MAX_ASPECT), None),
        ((MIN_SIDE, MIN_SIDE * MAX_ASPECT + 1), Reason.IMAGE_TOO_THIN),
        ((20_000, 200), None),
        ((20_000, 199), Reason.IMAGE_TOO_THIN),
    ],
)
@pytest.mark.parametrize("draft", [None, 32])
def test_a_photo_that_shows_nothing_or_is_a_thread_is_refused(
    size: tuple[int, int], expected: Reason | None, draft: int | None
) -> None:
    content = encoded(Image.new("L", size), "PNG")
    if expected is None:
        assert decode_photo(content, draft).size == size
    else:
        with pytest.raises(PhotoError) as caught:
            decode_photo(content, draft)
        assert caught.value.reason is expected


def test_a_file_of_too_many_bytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, KINDS["jpeg"])
    monkeypatch.setattr("mmprep.pipeline.photos.decode.MAX_BYTES", len(KINDS["jpeg"]))
    assert open_photo(path).size == (40, 30)
    monkeypatch.setattr("mmprep.pipeline.photos.decode.MAX_BYTES", len(KINDS["jpeg"]) - 1)
    assert reason_of(path) is Reason.FILE_TOO_LARGE


def test_a_plain_photo_is_decoded_once_and_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(*_: object) -> None:
        raise AssertionError("a copy")

    for name in ("copy", "convert", "transpose"):
        monkeypatch.setattr(Image.Image, name, copied)
    image = decode_photo(KINDS["jpeg"])
    assert (image.mode, image.size) == ("RGB", (40, 30))


def test_only_formats_of_photos_are_opened() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "GIF", "BMP"} | ({"AVIF"} if features.check("avif") else set())
