"""Stage `extract`: photos and texts to feature vectors, each by its encoder: reader, encoder, writer."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import numpy as np
import polars as pl

from models.encoders.base import Encoder
from models.encoders.catalogue import Modality, describe
from models.encoders.params import EncoderParams, ExtractParams, TextEncoderParams
from models.encoders.weights import locate
from pipeline.errors import DataError
from pipeline.features import write_features
from pipeline.files import write_json
from pipeline.layout import Layout
from pipeline.photos import PhotoError
from pipeline.progress import Progress, silent
from pipeline.provenance import record
from pipeline.tables import ITEMS, TextField
from stages.noise import NoiseParams, replace_sources

logger = logging.getLogger(__name__)

Source = TypeVar("Source")
Ready = TypeVar("Ready")

READER_THREADS = 4
BATCHES_AHEAD = 4  # read while the network works; bounds the memory
LIBRARIES = ("torch", "torchvision", "pillow", "sentence-transformers", "transformers")


@dataclass(frozen=True)
class Read(Generic[Ready]):
    """An item that the reader has made ready for the encoder."""

    item: int
    ready: Ready


def run(
    name: str,
    params: ExtractParams,
    encoder_params: EncoderParams,
    layout: Layout,
    progress: Progress = silent,
    noise: NoiseParams | None = None,
) -> dict[str, Any]:
    """Encode the photos or texts of a dataset's items with one encoder.

    Items without a photo or text get no row; `missing` is recorded with the features. With `noise.replaced`, some items
    get the photo or text of another.

    Raises:
        MissingInputError: `filter` has not run.
        WeightsError: the encoder's weights cannot be had.
    """
    description = describe(name)
    items = ITEMS.read(layout.items)
    source = locate(name, encoder_params)
    if not source.pretrained:
        logger.warning("%s has random weights (seed %s): its features carry no learned meaning", name, source.seed)
    noise = noise or NoiseParams()
    rate = noise.replaced if noise.modality == description.modality else 0.0
    reader: Reader[Any, Any]
    # Each library is imported only where it is used: they take seconds.
    if description.modality == "image":
        from models.encoders.image import ImageEncoder

        photos, replaced = replace_sources(photo_paths(items, layout.raw), rate, noise.seed)
        reader = Reader(ImageEncoder(description, source), photos)
    else:
        from models.encoders.text import TextEncoder

        fields = cast("TextEncoderParams", encoder_params).fields
        texts, replaced = replace_sources(joined_texts(items, fields), rate, noise.seed)
        reader = Reader(TextEncoder(description, source), texts)

    identity = reader.encoder.identity.to_dict()
    notes = {"missing": params.missing, "encoder": identity, "replaced_by_noise": replaced}
    provenance = record("extract", layout, encoder_params, [layout.items], LIBRARIES, **notes)
    with (
        write_features(layout.features(name), description.dimension, provenance) as writer,
        progress(f"{name}: encoding", len(reader.sources), UNITS[description.modality]) as advance,
    ):
        for batch in reader.batches(encoder_params.batch_size):
            vectors = reader.encoder.encode([read.ready for read in batch])
            writer.append(np.array([read.item for read in batch], dtype=np.int32), vectors)
            advance(len(batch), "")
        if reader.sources and not writer.rows:
            raise DataError(f"{layout.raw}: none of {len(reader.sources)} photos could be read; nothing was written")
    metrics = {
        "items": len(items),
        "encoded": writer.rows,
        "missing": len(items) - writer.rows,
        "unreadable": reader.unreadable,
        "replaced_by_noise": replaced,
        "dimension": description.dimension,
        "pretrained": source.pretrained,
    }
    write_json(layout.metrics(f"extract-{name}"), metrics)
    return metrics


UNITS: dict[Modality, str] = {"image": "photos", "text": "texts"}


class Reader(Generic[Source, Ready]):
    """Prepares items for an encoder on threads, some batches ahead of it.

    Attributes:
        encoder: whose `prepare` makes an item ready.
        sources: (item, its photo's path or text), in the order of items.
        unreadable: how many photos could not be decoded so far.
    """

    def __init__(self, encoder: Encoder[Source, Ready], sources: list[tuple[int, Source]]) -> None:
        self.encoder = encoder
        self.sources = sources
        self.unreadable = 0

    def batches(self, size: int) -> Iterator[list[Read[Ready]]]:
        """The readable items in batches of at most `size`, in the order of items."""
        with ThreadPoolExecutor(READER_THREADS) as pool:
            ahead = map_ahead(pool, self._read, self.sources, size * BATCHES_AHEAD)
            yield from chunks(self._readable(ahead), size)

    def _read(self, source: tuple[int, Source]) -> Read[Ready] | None:
        item, what = source
        try:
            return Read(item, self.encoder.prepare(what))
        except (PhotoError, OSError) as error:
            logger.warning("%s: %s; item %d gets no vector", what, error, item)
            return None

    def _readable(self, reads: Iterable[Read[Ready] | None]) -> Iterator[Read[Ready]]:
        for read in reads:
            if read is None:
                self.unreadable += 1
            else:
                yield read


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Source], Ready], sources: Iterable[Source], ahead: int
) -> Iterator[Ready]:
    """Like `pool.map`, but never more than `ahead` results are waiting."""
    waiting: deque[Future[Ready]] = deque()
    rest = iter(sources)
    waiting.extend(pool.submit(function, source) for source in islice(rest, ahead))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, source) for source in islice(rest, 1))
        yield result


def chunks(values: Iterable[Ready], size: int) -> Iterator[list[Ready]]:
    """Lists of `size` values, the last one maybe shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def photo_paths(items: pl.DataFrame, raw: Path) -> list[tuple[int, Path]]:
    """The photo of each item that has one."""
    rows = items.select("item", "image").drop_nulls().iter_rows()
    return [(item, raw / image) for item, image in rows]


def joined_texts(items: pl.DataFrame, fields: tuple[TextField, ...]) -> list[tuple[int, str]]:
    """The text of each item that has one: its fields that are not empty, joined by a space."""
    rows = items.select("item", *fields).iter_rows()
    texts = ((item, " ".join(part for part in parts if part)) for item, *parts in rows)
    return [(item, text) for item, text in texts if text]
