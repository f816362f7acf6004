"""Encode what the row cache lacks, in a pipeline of readers, encoder and writer."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

from mmprep.models.encoders.base import Encoder, Identity
from mmprep.models.encoders.catalogue import encoder_class
from mmprep.pipeline.cache.row_cache import RowCache
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.vectors import VectorBatch
from mmprep.pipeline.photos.decode import PhotoError
from mmprep.pipeline.progress import Advance, Progress
from mmprep.stages.extract.inputs import InputReader, KeyedSource, Source, key_of

logger = logging.getLogger(__name__)

READER_THREADS = 4
BATCHES_AHEAD = 4  # read while the network runs; bounds the memory
SOURCES_A_TASK = 32  # spreads the overhead of a task

Given = TypeVar("Given")
Ready = tuple[KeyedSource, Any]
Refused = dict[bytes, PhotoError]


class Encoding:
    """Encoding of one dataset with one encoder.

    Attributes:
        keyed: the readable sources with their keys, in the order of items.
        encoded: number of distinct photos or texts run through the network.
        unreadable: number of items with an unusable photo, by reason.
    """

    def __init__(self, identity: Identity, inputs: InputReader[Any], cache: RowCache) -> None:
        self.keyed: list[KeyedSource] = []
        self.encoded = 0
        self.unreadable: Counter[str] = Counter()
        self._identity = identity
        self._inputs = inputs
        self._cache = cache

    def find_keys(self, sources: Sequence[Source], progress: Progress) -> None:
        """Read every source once, to compute its key from its content."""
        title = f"{self._identity.description.name}: reading"
        with reader_pool() as readers, progress(title, len(sources), self._inputs.unit) as advance:
            tasks = chunks(sources, SOURCES_A_TASK)
            for results in map_ahead(readers, self._keys, tasks, READER_THREADS * BATCHES_AHEAD):
                self.keyed.extend(key for key in results if isinstance(key, KeyedSource))
                for source, error in (failed for failed in results if not isinstance(failed, KeyedSource)):
                    self._refuse(source, error)
                advance(len(results), "")

    def encode_missing(self, progress: Progress) -> None:
        """Encode what the cache lacks, each content once, and add each batch to it as soon as it is ready.

        The order of batches depends only on what is missing, and the cache receives them in this order, each whole. So
        a killed run leaves exactly those missing that it would have made next.

        Items with a photo that does not decode are removed from `keyed`.

        Raises:
            WeightsError: the encoder's weights are unavailable.
            DataError: the encoder gave numbers that cannot be stored, or a photo has changed meanwhile.
        """
        missing = {keyed.key: keyed for keyed in self.keyed if keyed.key not in self._cache}
        refused: Refused = {}
        to_encode = self._from_first_usable(sorted(missing.values(), key=self._inputs.rank), refused)
        if to_encode:
            self._encode(to_encode, refused, progress)
        for keyed in [each for each in self.keyed if each.key in refused]:
            self._refuse(keyed.source, refused[keyed.key])
        self.keyed = [keyed for keyed in self.keyed if keyed.key not in refused]

    def _encode(self, to_encode: list[KeyedSource], refused: Refused, progress: Progress) -> None:
        encoder = self._encoder
        sizes = encoder.sizes([keyed.source.content_ref for keyed in to_encode])
        # The longest first; equally long ones keep their order.
        to_encode = [keyed for _, keyed in sorted(zip(sizes, to_encode, strict=True), key=lambda sized: -sized[0])]
        title, size = f"{self._identity.description.name}: encoding", self._identity.params.batch_size
        with (
            reader_pool() as readers,
            ThreadPoolExecutor(1) as writer,
            progress(title, len(to_encode), self._inputs.unit) as advance,
        ):
            ready = map_ahead(readers, partial(self._prepare, encoder), to_encode, size * BATCHES_AHEAD)
            written: Future[None] | None = None
            for batch in chunks(usable(ready, refused, advance), size):
                rows = encoder.encode([prepared for _, prepared in batch])
                if written is not None:
                    written.result()
                written = writer.submit(self._store, [keyed for keyed, _ in batch], rows)
                self.encoded += len(batch)
                advance(len(batch), "")
            if written is not None:
                written.result()

    @cached_property
    def _encoder(self) -> Encoder[Any, Any]:
        """Loaded on the main thread, as loading may take minutes and other threads cannot be interrupted."""
        return load_encoder(self._identity)

    def _from_first_usable(self, ranked: list[KeyedSource], refused: Refused) -> list[KeyedSource]:
        """Drop sources at the head that do not decode: if none decodes, the network need not be loaded."""
        for position, keyed in enumerate(ranked):
            try:
                self._open(keyed)
            except PhotoError as error:
                refused[keyed.key] = error
            else:
                return ranked[position:]
        return []

    def _keys(self, sources: list[Source]) -> list[KeyedSource | tuple[Source, PhotoError]]:
        return [self._key(source) for source in sources]

    def _key(self, source: Source) -> KeyedSource | tuple[Source, PhotoError]:
        try:
            return self._inputs.keyed(source)
        except PhotoError as error:
            return source, error

    def _prepare(self, encoder: Encoder[Any, Any], keyed: KeyedSource) -> Ready | tuple[KeyedSource, PhotoError]:
        try:
            return keyed, encoder.prepare(self._open(keyed))
        except PhotoError as error:
            return keyed, error

    def _open(self, keyed: KeyedSource) -> object:
        """Open a source as the encoder's input; raises PhotoError if it does not decode."""
        content_ref = keyed.source.content_ref
        try:
            content = self._inputs.read(content_ref)
        except PhotoError as error:
            raise DataError(f"{content_ref}: {error}, but it was there a moment ago; run the command again") from error
        if key_of(content) != keyed.key:
            raise DataError(f"{content_ref}: changed while it was read; run the command again")
        return self._inputs.open(content)

    def _store(self, batch: list[KeyedSource], rows: VectorBatch) -> None:
        kept = rows.cast_checked(self._identity.params.stored_as, [keyed.source.item for keyed in batch])
        self._cache.add([keyed.key for keyed in batch], kept.pack())

    def _refuse(self, source: Source, error: Exception) -> None:
        self.unreadable[str(error)] += 1
        logger.warning("%s: %s; item %d gets no vector", source.content_ref, error, source.item)


def load_encoder(identity: Identity) -> Encoder[Any, Any]:
    """Load an encoder with its weights. Its library is imported only here, as imports take seconds.

    Raises:
        WeightsError: the weights are unavailable.
    """
    module, name = encoder_class(identity.description)
    encoder: Encoder[Any, Any] = getattr(import_module(module), name)(identity)
    return encoder


@contextmanager
def reader_pool() -> Iterator[ThreadPoolExecutor]:
    """Reader threads; if the block ends early, running tasks finish and queued ones are cancelled."""
    pool = ThreadPoolExecutor(READER_THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def usable(
    ready: Iterable[Ready | tuple[KeyedSource, PhotoError]], refused: Refused, advance: Advance
) -> Iterator[Ready]:
    """Yield the sources that could be opened; record the others in `refused`."""
    for keyed, prepared in ready:
        if isinstance(prepared, PhotoError):
            refused[keyed.key] = prepared
            advance(1, "")
        else:
            yield keyed, prepared


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Any], Given], sources: Iterable[Any], ahead: int
) -> Iterator[Given]:
    """Like `pool.map`, but with at most `ahead` results pending."""
    rest = iter(sources)
    pending = deque(pool.submit(function, source) for source in islice(rest, ahead))
    while pending:
        result = pending.popleft().result()
        pending.extend(pool.submit(function, source) for source in islice(rest, 1))
        yield result


def chunks(values: Iterable[Given], size: int) -> Iterator[list[Given]]:
    """Lists of `size` values, the last one possibly shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
