"""Opening photos that came from anywhere: decoded rightly, or refused with a reason."""

import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pipeline.rejects import Reason

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
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
        with warnings.catch_warnings():
            # Pillow warns of odd palettes and EXIF, which are no fault, and of large images, which are refused below.
            warnings.filterwarnings("ignore", module="PIL")
            with Image.open(path, formats=FORMATS) as image:
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


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in RGB, 8 bits a channel."""
    if image.mode.startswith("I;16"):  # Pillow would clip 16-bit greys to 8 bits, which leaves them white
        image = image.point(lambda value: value * (1 / 256))
    return image.convert("RGB")
