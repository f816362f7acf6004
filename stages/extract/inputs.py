"""Inputs of an encoder: each item's photo or text, as bytes for its cache key and opened for encoding."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

import polars as pl

from mmprep.models.encoders.text_templates import fields_of, make_text
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.photos.decode import decode_photo
from mmprep.pipeline.photos.folder import PhotoFiles
from mmprep.pipeline.tables.schemas import EXTRA_TEXTS, TEXT_FIELDS

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
    """The text of each item that has one, see mmprep.models.encoders.text_templates.

    Raises:
        DataError: the template names a column that items lack.
    """
    text_of = make_text(template)
    lacking = [name for name in EXTRA_TEXTS if name in fields_of(template) and name not in items.columns]
    if lacking:
        raise DataError(
            f"the template {template!r} names {{{lacking[0]}}}, which the table of items lacks; "
            f"add {lacking[0]} to ingest.extra_text and run `mmprep ingest` and `mmprep filter`"
        )
    columns = [name for name in (*TEXT_FIELDS, *EXTRA_TEXTS) if name in items.columns]
    rows = items.select("item", *columns).iter_rows()
    texts = ((item, text_of(dict(zip(columns, texts, strict=True)))) for item, *texts in rows)
    return [Source(item, text) for item, text in texts if text]
