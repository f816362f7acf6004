"""Opening photos that came from anywhere: decoded rightly, or refused with a reason."""

import warnings
from pathlib import Path
from threading import Lock
from urllib.parse import quote, unquote

from PIL import Image, UnidentifiedImageError

from pipeline.rejects import Reason

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
# MPO is what Pillow calls a JPEG that holds further pictures behind the first.
SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"}
OPENING = Lock()  # catch_warnings changes the process; photos are opened on threads
MAX_PIXELS = 64_000_000  # 192 MB decoded; a phone's camera makes 12 to 50 million


class PhotoError(Exception):
    """A photo cannot be used.

    Attributes:
        reason: why, in the vocabulary of rejects.parquet.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def open_photo(path: Path, draft: int | None = None) -> Image.Image:
    """Decode a photo to RGB.

    Args:
        path: the file.
        draft: decode a JPEG at the smallest scale whose sides are at least this many pixels. The whole file is
            still read, so that a cut-off one is found, at a fraction of the time.

    Raises:
        PhotoError: the file is empty, no image, damaged or too large.
    """
    if path.stat().st_size == 0:
        raise PhotoError(Reason.EMPTY_FILE)
    try:
        with open_quietly(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise PhotoError(Reason.IMAGE_TOO_LARGE)
            if draft is not None:
                image.draft("RGB", (draft, draft))
            return to_rgb(image)
    except UnidentifiedImageError as error:
        raise PhotoError(Reason.NOT_AN_IMAGE) from error
    except Image.DecompressionBombError as error:
        raise PhotoError(Reason.IMAGE_TOO_LARGE) from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged files
        raise PhotoError(Reason.BAD_IMAGE) from error


def open_quietly(path: Path) -> Image.Image:
    """Read a photo's header without Pillow's warnings: of odd EXIF, which is no fault, and of a large image."""
    with OPENING, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        return Image.open(path, formats=FORMATS)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel."""
    image.info.pop("transparency", None)  # RGB has none, and Pillow would warn of some
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit greys to 8 bits, which leaves them white
        image = image.point(lambda value: value * (1 / 256))
    return image.convert("RGB")


def suffix_of(path: Path) -> str:
    """The suffix that fits what a file holds, whatever it is called; `open_photo` must have taken the file.

    Raises:
        PhotoError: the file is no image.
    """
    try:
        with open_quietly(path) as image:
            return SUFFIX_OF_FORMAT[image.format or ""]
    except (OSError, SyntaxError, ValueError, KeyError) as error:
        raise PhotoError(Reason.NOT_AN_IMAGE) from error


def photo_name(item_id: str, suffix: str) -> str:
    """The file name of an item's photo: the id with all but `A-Za-z0-9_-.` percent-encoded, never hidden, no path."""
    encoded = quote(item_id, safe="").replace("~", "%7E")
    return (f"%2E{encoded[1:]}" if encoded.startswith(".") else encoded) + suffix


def item_of_photo(path: Path) -> str:
    """The id of the item that a photo belongs to: the file's name less its last suffix, percent-decoded."""
    return unquote(path.stem)
