"""Thumbnails of a dataset's photos, to embed in an HTML page."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

from mmprep.pipeline.photos.decode import PhotoError, decode_photo
from mmprep.pipeline.photos.folder import PhotoFiles

SIDE = 200  # pixels
QUALITY = 85


@dataclass(frozen=True)
class Thumbnail:
    """A thumbnail.

    Attributes:
        address: the JPEG itself, as a data URI.
        width, height: pixels, at most SIDE.
    """

    address: str
    width: int
    height: int


class Thumbnails:
    """Thumbnails of a dataset's photos, each made only once."""

    def __init__(self, photos: PhotoFiles) -> None:
        self._photos = photos
        self._made: dict[str, Thumbnail | str] = {}

    def of(self, image: str | None) -> Thumbnail | str:
        """The thumbnail of a photo, or the reason why there is none.

        Args:
            image: the photo's name below the raw folder; None for an item without a photo.
        """
        if image is None:
            return "no photo"
        if image not in self._made:
            try:
                self._made[image] = shrink(self._photos.read(image))
            except PhotoError as error:
                self._made[image] = error.reason.value
        return self._made[image]


def shrink(content: bytes) -> Thumbnail:
    """Make a thumbnail of a photo's bytes.

    Raises:
        PhotoError: it cannot be decoded.
    """
    picture = decode_photo(content, draft=SIDE)
    picture.thumbnail((SIDE, SIDE))
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return Thumbnail(f"data:image/jpeg;base64,{b64encode(buffer.getvalue()).decode()}", *picture.size)
