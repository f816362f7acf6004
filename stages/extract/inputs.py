"""What an encoder reads of a dataset: each item's photo or text, as bytes that name it and as what is encoded."""

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
    """What is to be encoded of an item.

    Attributes:
        item: dense index.
        what: the photo's name below the raw folder, or the text itself.
    """

    item: int
    content_ref: str


@dataclass(frozen=True, slots=True)
class KeyedSource:
    """A source and the SHA-256 of its content, which names it in the row cache wherever it lies."""

    source: Source
    key: bytes


@dataclass(frozen=True)
class InputReader(Generic[Opened]):
    """How the sources of one modality are read.

    Attributes:
        unit: what to call several of them.
        read: the bytes of a photo or text; raises PhotoError for a photo that cannot be read.
        open: what the encoder's `prepare` takes, of those bytes; raises PhotoError for a photo that does not decode.
        rank: batches are made in this order, but for what the encoder says of sizes.
    """

    unit: str
    read: Callable[[str], bytes]
    open: Callable[[bytes], Opened]
    rank: Callable[[KeyedSource], tuple[int, bytes]]

    def keyed(self, source: Source) -> KeyedSource:
        """Name a source by its content; raises what `read` raises."""
        return KeyedSource(source, key_of(self.read(source.content_ref)))


def key_of(content: bytes) -> bytes:
    """What names a photo or text in the row cache."""
    return sha256(content).digest()


def photo_inputs(photos: PhotoFiles) -> InputReader[object]:
    """How photos are read; in batches in the order of items."""
    return InputReader("photos", photos.read, decode_photo, lambda keyed: (keyed.source.item, b""))


def text_inputs() -> InputReader[str]:
    """How texts are read; in batches in the order of keys."""
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
