"""Encoding what the row cache lacks: reader, encoder, writer, each ahead of the next."""

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
BATCHES_AHEAD = 4  # read while the network works; bounds the memory
SOURCES_A_TASK = 32  # a task has its price, too

Given = TypeVar("Given")
Ready = tuple[KeyedSource, Any]
Refused = dict[bytes, PhotoError]


class Encoding:
    """One encoder at work on one dataset.

    Attributes:
        keyed: each source that could be read, in the order of items.
        encoded: how many different photos or texts went through the network.
        unreadable: how many items have a photo that cannot be used, by reason.
    """

    def __init__(self, identity: Identity, inputs: InputReader[Any], cache: RowCache) -> None:
        self.keyed: list[KeyedSource] = []
        self.encoded = 0
        self.unreadable: Counter[str] = Counter()
        self._identity = identity
        self._inputs = inputs
        self._cache = cache

    def find_keys(self, sources: Sequence[Source], progress: Progress) -> None:
        """Read every source once, to name it by its content."""
        title = f"{self._identity.description.name}: reading"
        with reader_pool() as readers, progress(title, len(sources), self._inputs.unit) as advance:
            tasks = chunks(sources, SOURCES_A_TASK)
            for found in map_ahead(readers, self._keys, tasks, READER_THREADS * BATCHES_AHEAD):
                self.keyed.extend(key for key in found if isinstance(key, KeyedSource))
                for source, error in (failed for failed in found if not isinstance(failed, KeyedSource)):
                    self._refuse(source, error)
                advance(len(found), "")

    def encode_missing(self, progress: Progress) -> None:
        """Encode what the cache lacks, each content once, and add each batch to it as soon as it is ready.

        Batches are made in an order that depends on nothing but what is missing, and the cache takes them one behind
        the other and whole. So a run that was killed leaves those that it would have made next.

        Items whose photo does not decode leave `keyed`.

        Raises:
            WeightsError: the encoder's weights cannot be had.
            DataError: the encoder gave numbers that cannot be kept, or a photo has changed meanwhile.
        """
        missing = {keyed.key: keyed for keyed in self.keyed if keyed.key not in self._cache}
        refused: Refused = {}
        wanted = self._from_first_usable(sorted(missing.values(), key=self._inputs.rank), refused)
        if wanted:
            self._encode(wanted, refused, progress)
        for keyed in [each for each in self.keyed if each.key in refused]:
            self._refuse(keyed.source, refused[keyed.key])
        self.keyed = [keyed for keyed in self.keyed if keyed.key not in refused]

    def _encode(self, wanted: list[KeyedSource], refused: Refused, progress: Progress) -> None:
        encoder = self._encoder
        sizes = encoder.sizes([keyed.source.content_ref for keyed in wanted])
        # The longest first, of equal ones in the order in which they came.
        wanted = [keyed for _, keyed in sorted(zip(sizes, wanted, strict=True), key=lambda sized: -sized[0])]
        title, size = f"{self._identity.description.name}: encoding", self._identity.params.batch_size
        with (
            reader_pool() as readers,
            ThreadPoolExecutor(1) as writer,
            progress(title, len(wanted), self._inputs.unit) as advance,
        ):
            ready = map_ahead(readers, partial(self._prepare, encoder), wanted, size * BATCHES_AHEAD)
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
        """Loaded on the main thread, where it may take minutes: others cannot be interrupted."""
        return load_encoder(self._identity)

    def _from_first_usable(self, wanted: list[KeyedSource], refused: Refused) -> list[KeyedSource]:
        """Without those at the head that do not decode: if none does, no network need be loaded for them."""
        for place, keyed in enumerate(wanted):
            try:
                self._open(keyed)
            except PhotoError as error:
                refused[keyed.key] = error
            else:
                return wanted[place:]
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
        """What the encoder takes; raises PhotoError if it does not decode."""
        what = keyed.source.content_ref
        try:
            content = self._inputs.read(what)
        except PhotoError as error:
            raise DataError(f"{what}: {error}, but it was there a moment ago; run the command again") from error
        if key_of(content) != keyed.key:
            raise DataError(f"{what}: changed while it was read; run the command again")
        return self._inputs.open(content)

    def _store(self, batch: list[KeyedSource], rows: VectorBatch) -> None:
        kept = rows.cast_checked(self._identity.params.stored_as, [keyed.source.item for keyed in batch])
        self._cache.add([keyed.key for keyed in batch], kept.pack())

    def _refuse(self, source: Source, error: Exception) -> None:
        self.unreadable[str(error)] += 1
        logger.warning("%s: %s; item %d gets no vector", source.content_ref, error, source.item)


def load_encoder(identity: Identity) -> Encoder[Any, Any]:
    """The encoder, its weights loaded. Each library is imported only where it is used: they take seconds.

    Raises:
        WeightsError: the weights cannot be had.
    """
    module, name = encoder_class(identity.description)
    encoder: Encoder[Any, Any] = getattr(import_module(module), name)(identity)
    return encoder


@contextmanager
def reader_pool() -> Iterator[ThreadPoolExecutor]:
    """Threads which, if the block ends early, finish what they have begun and leave the rest."""
    pool = ThreadPoolExecutor(READER_THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def usable(
    ready: Iterable[Ready | tuple[KeyedSource, PhotoError]], refused: Refused, advance: Advance
) -> Iterator[Ready]:
    """Those that could be opened; the others are noted in `refused`."""
    for keyed, prepared in ready:
        if isinstance(prepared, PhotoError):
            refused[keyed.key] = prepared
            advance(1, "")
        else:
            yield keyed, prepared


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Any], Given], sources: Iterable[Any], ahead: int
) -> Iterator[Given]:
    """Like `pool.map`, but never more than `ahead` results are waiting."""
    rest = iter(sources)
    waiting = deque(pool.submit(function, source) for source in islice(rest, ahead))
    while waiting:
        result = waiting.popleft().result()
        waiting.extend(pool.submit(function, source) for source in islice(rest, 1))
        yield result


def chunks(values: Iterable[Given], size: int) -> Iterator[list[Given]]:
    """Lists of `size` values, the last one maybe shorter."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk
