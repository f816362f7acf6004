"""Inputs of an encoder: each item's photo or text, as bytes for its cache key and opened for encoding."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

import polars as pl

from mmprep.models.encoders.text_templates import make_text
from mmprep.pipeline.photos.decode import decode_photo
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.tables.schemas import TEXT_FIELDS

Opened = TypeVar("Opened")


@dataclass(frozen=True, slots=True)
class Source:
    """An item's photo or text to encode.

    Attributes:
        item: dense index.
        content_ref: the photo's name below the raw folder, or the text itself.
    """

    item: int
    content_ref: str


@dataclass(frozen=True, slots=True)
class KeyedSource:
    """A source and the SHA-256 of its content, its key in the row cache whatever its path."""

    source: Source
    key: bytes


@dataclass(frozen=True)
class InputReader(Generic[Opened]):
    """Reader of the sources of one modality.

    Attributes:
        unit: plural noun for progress bars.
        read: returns the bytes of a photo or text; raises PhotoError for a photo that cannot be read.
        open: turns these bytes into the input of the encoder's `prepare`; raises PhotoError if a photo does not decode.
        rank: sort key of sources for batches; the sizes that the encoder gives take precedence.
    """

    unit: str
    read: Callable[[str], bytes]
    open: Callable[[bytes], Opened]
    rank: Callable[[KeyedSource], tuple[int, bytes]]

    def keyed(self, source: Source) -> KeyedSource:
        """Compute a source's key from its content; raises what `read` raises."""
        return KeyedSource(source, key_of(self.read(source.content_ref)))


def key_of(content: bytes) -> bytes:
    """Key of a photo or text in the row cache."""
    return sha256(content).digest()


def photo_inputs(photos: PhotoFiles) -> InputReader[object]:
    """Reader of photos; batches are in the order of items."""
    return InputReader("photos", photos.read, decode_photo, lambda keyed: (keyed.source.item, b""))


def text_inputs() -> InputReader[str]:
    """Reader of texts; batches are in the order of keys."""
    return InputReader(
        unit="texts",
        read=lambda text: text.encode(),
        open=lambda content: content.decode(),
        rank=lambda keyed: (0, keyed.key),
    )


def photo_sources(items: pl.DataFrame) -> list[Source]:
    """The photo of each item that has one."""
    return [Source(item, image) for item, image in items.select("item", "image").drop_nulls().iter_rows()]


def text_sources(items: pl.DataFrame, template: str) -> list[Source]:
    """The text of each item that has one, see mmprep.models.encoders.text_templates."""
    text_of = make_text(template)
    rows = items.select("item", *TEXT_FIELDS).iter_rows()
    texts = ((item, text_of(dict(zip(TEXT_FIELDS, texts, strict=True)))) for item, *texts in rows)
    return [Source(item, text) for item, text in texts if text]
