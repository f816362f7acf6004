"""Decoding of untrusted photos to upright RGB, or rejection with a reason."""

import struct
import warnings
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import IO

from PIL import Image, ImageChops, UnidentifiedImageError, features

from mmprep.pipeline.reject_reasons import Reason

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".gif", ".bmp", ".avif"})
# Pillow may be built without AVIF.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", *(("AVIF",) if features.check("avif") else ()))
# MPO is Pillow's name for a JPEG that contains further images after the first.
SUFFIX_OF_FORMAT: dict[str, str] = {"JPEG": ".jpg", "MPO": ".jpg"} | {
    name: f".{name.lower()}" for name in FORMATS if name != "JPEG"
}
OPENING = Lock()  # catch_warnings changes process-wide state, and photos are opened on threads

MAX_BYTES = 200_000_000  # of a file; as a bitmap, MAX_PIXELS take 192 MB
MAX_PIXELS = 64_000_000  # 256 MB decoded, as Pillow uses 4 bytes per pixel; phone cameras produce 12 to 50 million
MIN_SIDE = 8  # pixels; shops serve a 1 x 1 image in place of a missing photo
# Ratio of the sides. Encoders scale the short side to 256, so a strip of 8 x 60,000 would be scaled to 2 GB.
MAX_ASPECT = 100

WHITE = (255, 255, 255, 255)  # the background on which shops show photos
EXIF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
EXIF_ORIENTATION = 0x0112
EXIF_LONG = 4  # some programs store the orientation as a LONG instead of a SHORT
# Transformation of the stored pixels by EXIF orientation; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PhotoError(Exception):
    """A photo cannot be used.

    Attributes:
        reason: why, as in rejects.parquet.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def open_photo(path: Path, draft: int | None = None) -> Image.Image:
    """Read and decode a photo file; see `decode_photo`.

    Raises:
        PhotoError: the file is empty, not an image, damaged, too large or too small.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise PhotoError(Reason.FILE_TOO_LARGE)
    return decode_photo(path.read_bytes(), draft)


def decode_photo(content: bytes, draft: int | None = None) -> Image.Image:
    """Decode a photo to upright 8-bit RGB: transparency becomes white, and animations give their first frame.

    Args:
        content: the bytes of the file.
        draft: decode a JPEG at the smallest scale whose sides are at least this many pixels, in a fraction of the
            time. The whole file is still read, so that truncation is detected.

    Raises:
        PhotoError: the content is empty, not an image, damaged, too large, too small or too thin.
    """
    if not content:
        raise PhotoError(Reason.EMPTY_FILE)
    try:
        with open_quietly(BytesIO(content)) as image:
            check_sides(*image.size)
            if draft is not None:
                image.draft("RGB", (draft, draft))
            return upright(to_rgb(image), image.info.get("exif"))
    except UnidentifiedImageError as error:
        raise PhotoError(Reason.NOT_AN_IMAGE) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(Reason.IMAGE_TOO_LARGE) from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        raise PhotoError(Reason.BAD_IMAGE) from error


def open_quietly(file: Path | IO[bytes]) -> Image.Image:
    """Read a photo's header without Pillow's warnings about odd EXIF, which is harmless, and large images."""
    with OPENING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        return Image.open(file, formats=FORMATS)


def check_sides(width: int, height: int) -> None:
    """Reject images that are useless or would exhaust the memory, by their size.

    Raises:
        PhotoError: the image has too many pixels, too few, or one side far longer than the other.
    """
    if width * height > MAX_PIXELS:
        raise PhotoError(Reason.IMAGE_TOO_LARGE)
    if min(width, height) < MIN_SIDE:
        raise PhotoError(Reason.IMAGE_TOO_SMALL)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PhotoError(Reason.IMAGE_TOO_THIN)


def to_rgb(image: Image.Image) -> Image.Image:
    """Load an opened image as 8-bit RGB on white."""
    frame = image.tile[0].extents if image.format == "GIF" else None  # type: ignore[attr-defined]
    scale_key(image)
    image.load()
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit greys to 8 bits, which makes them white
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        image = on_white(image if image.mode == "RGBA" else image.convert("RGBA"))
    elif image.mode != "RGB":  # converting RGB to RGB would copy it
        image = image.convert("RGB")
    return image if frame in (None, (0, 0, *image.size)) else on_canvas(image, frame)


def scale_key(image: Image.Image) -> None:
    """Scale the transparent colour of a 16-bit PNG to 8 bits, as Pillow does with its pixels."""
    key = image.info.get("transparency")
    if key is not None and "16" in str(image.tile[0].args):  # type: ignore[attr-defined]
        image.info["transparency"] = key >> 8 if isinstance(key, int) else tuple(value >> 8 for value in key)


def on_white(image: Image.Image) -> Image.Image:
    """Compose an RGBA image on white, as RGB; modifies `image`, since each copy may take 256 MB."""
    image.paste(WHITE, mask=ImageChops.invert(image.getchannel("A")))
    return image.convert("RGB")


def on_canvas(image: Image.Image, frame: tuple[int, int, int, int]) -> Image.Image:
    """Fill the area outside a GIF's first frame with white; Pillow leaves an arbitrary colour there."""
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(image.crop(frame), frame)
    return canvas


def upright(image: Image.Image, exif: bytes | None) -> Image.Image:
    """Rotate or flip an image to its EXIF orientation, if it has one."""
    turn = TURNS.get(orientation(exif)) if exif else None
    return image if turn is None else image.transpose(turn)


def orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 if there is none or the EXIF is damaged, which does not make the photo unusable.

    Not read with Pillow's `Image.Exif`: on damaged EXIF it warns, which only a process-wide lock can silence, raises
    three kinds of errors, and returns bytes, strings and floats.

    Source: TIFF 6.0, section 2, and Exif 2.32, section 4.6.4.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = EXIF_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}L", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
            if tag == EXIF_ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{'L' if kind == EXIF_LONG else 'H'}", tiff, entry + 8)
                return int(value)
    except struct.error:
        pass  # truncated
    return 1


def suffix_of(path: Path) -> str:
    """The suffix for a file's actual format, whatever its name; `open_photo` must have accepted the file.

    Raises:
        PhotoError: the file is not an image.
    """
    try:
        with open_quietly(path) as image:
            return SUFFIX_OF_FORMAT[image.format or ""]
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise PhotoError(Reason.NOT_AN_IMAGE) from error
