"""The row cache: encoder outputs for photos and texts, shared by all datasets, users and machines.

A key is the SHA-256 of a photo's bytes or of a text. Everything else that a row depends on forms the fingerprint, which
names a folder.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import numpy as np
import platformdirs
import pyarrow as pa

from mmprep.pipeline.cache import compaction as cache_compaction
from mmprep.pipeline.cache.folder import CacheFolder, has_gone
from mmprep.pipeline.cache.key_index import ROW_BITS, KeyIndex
from mmprep.pipeline.cache.packing import from_stored
from mmprep.pipeline.cache.shards import (
    Keys,
    NotAShardError,
    Rows,
    encode_shard,
    read_keys,
    shard_schema,
    to_keys,
    to_list,
)
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.storage.open_store import open_store
from mmprep.pipeline.storage.store import FileInfo, Store, StoreError

VARIABLE = "MMPREP_CACHE"
GATHER_BYTES = 64 * 1024 * 1024
ATTEMPTS = 100  # to list a folder that other processes keep changing
THREADS = 8  # digests and downloads at once
ROW_MASK = (1 << ROW_BITS) - 1


class LostRows(DataError):  # noqa: N818 - not the caller's error: the rows are lost and must be encoded again
    """Rows that were in the cache are damaged or gone.

    Attributes:
        keys: keys of the lost rows, each once.
    """

    def __init__(self, keys: Sequence[bytes], place: Store) -> None:
        super().__init__(f"{place}: {len(keys)} rows were lost; run the command again to encode them anew")
        self.keys = list(keys)


class _ShardLostError(Exception):
    """A shard was removed or set aside after its rows were located."""


def cache_place(environ: Mapping[str, str]) -> Store:
    """Open the cache's store: $MMPREP_CACHE, a folder or a URL, else the user's cache folder.

    Raises:
        ParamsError: no installed library supports the URL.
    """
    return open_store(environ.get(VARIABLE) or platformdirs.user_cache_dir("mmprep"))


class RowCache:
    """The rows of one fingerprint. Safe for any number of processes on any machines, but not for sharing by threads.

    Args:
        place: store of the cache, of all fingerprints.
        fingerprint: everything that a row depends on besides its key, as JSON values; `encoder` is the encoder's name.
        values: the columns of a row besides the key.
    """

    def __init__(self, place: Store, fingerprint: Mapping[str, Any], values: pa.Schema) -> None:
        self._folder = CacheFolder(place, fingerprint)
        self._values = values.remove_metadata()
        self._schema = shard_schema(self._values, fingerprint)
        self._index = KeyIndex()
        self._failed: set[str] = set()

    def __contains__(self, key: bytes) -> bool:
        return key in self._index

    def __enter__(self) -> "RowCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove copies of remote shards."""
        self._folder.place.close()

    def refresh(self) -> None:
        """Update the index with shards that other processes added or removed; reads the keys of new shards.

        Raises:
            DataError: the folder belongs to another fingerprint, or cannot be read.
        """
        for _ in range(ATTEMPTS):
            shards = self._folder.shards(note_use=True)
            known = self._index.shards
            self._index.forget(known - {shard.name for shard in shards})
            new = [shard for shard in shards if shard.name not in known]
            with ThreadPoolExecutor(THREADS) as pool:
                keys_of_new = list(zip(new, pool.map(self._keys_of, new), strict=True))
            self._index.add([(shard.name, keys) for shard, keys in keys_of_new if keys is not None])
            if all(keys is not None for _, keys in keys_of_new):
                return
            # Some vanished after they were listed. If they were merged, the merged shard is missing from that list.

    def _refresh_until_steady(self) -> None:
        """Refresh until two consecutive listings are equal.

        A folder that is listed during a merge may show neither the merged shard, if it appears before the position
        that the listing has reached, nor its sources, if they are removed before the listing reaches them.
        """
        self.refresh()
        for _ in range(ATTEMPTS):
            before = self._index.shards
            self.refresh()
            if self._index.shards == before:
                return

    def _keys_of(self, shard: FileInfo) -> Keys | None:
        """A shard's keys; None if it is gone or set aside."""
        try:
            return read_keys(self._folder.place, shard, self._schema)
        except FileNotFoundError:
            return None
        except NotAShardError as error:
            # It may be damaged, or intact but of other rows; `reader` distinguishes these and sets a damaged one aside.
            if self._folder.reader(shard.name) is not None:
                self._folder.set_aside(shard.name, str(error))
            return None

    def add(self, keys: Sequence[bytes], rows: pa.RecordBatch) -> None:
        """Store the rows of a batch; durable when the call returns.

        Args:
            keys: the key of each row [n].
            rows: the value columns [n].

        Raises:
            DataError: the store cannot be written, or the folder belongs to another fingerprint.
            ValueError: the rows have other columns, or their number differs from that of the keys.
        """
        if not rows.schema.equals(self._values):
            raise ValueError(f"rows of {rows.schema} for a cache of {self._values}")
        if not keys:
            return
        content = encode_shard(keys, rows, self._schema).to_pybytes()
        try:
            name = self._folder.add(content)
        except StoreError as error:
            raise DataError(f"{error}; set {VARIABLE} to a folder or URL that you may write to") from error
        self._index.add([(name, to_keys(keys))])

    def compact(self) -> None:
        """Merge small shards into large ones; see `cache_compaction`."""
        cache_compaction.compact(self._folder)
        self.refresh()

    def gather(self, keys: Sequence[bytes], most_bytes: int = GATHER_BYTES) -> Iterator[pa.RecordBatch]:
        """Read the values of keys, in the given order, repeats included.

        The digests of all required shards are checked before the first batch is yielded.

        Args:
            keys: any number of keys.
            most_bytes: approximate size of the record batches; memory use is about three times that.

        Raises:
            LostRows: keys are missing, or their shard is damaged and now set aside. Add them and gather again.
        """
        wanted = to_keys(keys)
        done = 0
        while done < len(wanted):
            locations = self._locate(wanted[done:])
            for start, stop in self._chunks(locations, most_bytes):
                try:
                    batch = self._read(locations[start:stop], wanted[done : done + stop - start])
                except _ShardLostError:
                    break  # the rest may be in other shards
                yield batch
                del batch  # while the next one is read
                done += stop - start

    def _locate(self, wanted: Keys) -> Rows:
        """The location of each key [n], all in shards whose digests were checked; raises LostRows."""
        refreshed = False
        while True:
            locations = self._index.find(wanted)
            if self._forget_bad_shards(locations[locations >= 0] >> ROW_BITS):
                refreshed = False
            elif (locations >= 0).all():
                return locations
            elif not refreshed:
                self._refresh_until_steady()
                refreshed = True
            else:
                raise LostRows(to_list(np.unique(wanted[locations < 0])), self._folder.place)

    def _forget_bad_shards(self, numbers: Rows) -> bool:
        """Check shards by their numbers; returns whether any had to be forgotten."""
        names = [self._index.name(number) for number in np.unique(numbers)]
        with ThreadPoolExecutor(THREADS) as pool:
            readers = list(pool.map(self._folder.reader, names))
        bad = {name for name, reader in zip(names, readers, strict=True) if reader is None}
        self._index.forget(bad)
        return bool(bad)

    def _chunks(self, locations: Rows, most_bytes: int) -> Iterator[tuple[int, int]]:
        """Split [n] locations into ranges of at most `most_bytes`, or of a single row; yields their bounds."""
        sizes = np.empty(len(locations), dtype=np.int64)
        order = np.argsort(locations, kind="stable")
        for part, number in by_shard(locations[order]):
            reader = self._folder.reader(self._index.name(number))
            rows = locations[order[part]] & ROW_MASK
            sizes[order[part]] = most_bytes if reader is None else reader.bytes_of(rows)
        ends = np.cumsum(sizes)
        start = 0
        while start < len(locations):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + most_bytes, side="right")))
            yield start, stop
            start = stop

    def _read(self, locations: Rows, wanted: Keys) -> pa.RecordBatch:
        """Read the values at locations [n], checking their keys against `wanted`; raises _ShardLostError."""
        unique, first, inverse = np.unique(locations, return_index=True, return_inverse=True)
        pieces = [
            table
            for part, number in by_shard(unique)
            for table in self._rows(self._index.name(number), unique[part] & ROW_MASK, wanted[first[part]])
        ]
        table = pa.concat_tables(pieces).drop_columns(["key"])
        del pieces
        if not np.array_equal(inverse, np.arange(len(unique))):
            table = table.take(pa.array(inverse))
        [batch] = table.combine_chunks().to_batches()
        columns = [from_stored(column, field.type) for column, field in zip(batch.columns, self._values, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self._values)

    def _rows(self, name: str, rows: Rows, wanted: Keys) -> Iterator[pa.Table]:
        """Read rows of a shard, increasing, and verify their keys: the keys in the footer are only a hint."""
        reader = self._folder.reader(name)
        if reader is None:
            self._forget(name)
        done = 0
        try:
            for table in reader.read(rows):
                keys = to_keys(table["key"].to_pylist())
                if not np.array_equal(keys, wanted[done : done + len(keys)]):
                    self._folder.set_aside(name, "its rows have other keys than its footer says")
                    self._forget(name)
                done += len(keys)
                yield table
        except MemoryError:
            raise  # Arrow's MemoryError is an ArrowException too
        except (OSError, pa.ArrowException) as error:
            # It was removed or changed since its check: check it again, but at most once.
            self._folder.distrust(name)
            if name in self._failed and not has_gone(error):
                self._folder.set_aside(name, f"it cannot be read ({error})")
            self._failed.add(name)
            self._forget(name)

    def _forget(self, name: str) -> NoReturn:
        """Locate a shard's rows again, in the same shard if it is still listed."""
        self._index.forget({name})
        raise _ShardLostError


def by_shard(locations: Rows) -> Iterator[tuple[slice, int]]:
    """Split sorted locations [n] by shard; yields each range with the shard's number."""
    numbers, starts = np.unique(locations >> ROW_BITS, return_index=True)
    for number, start, stop in zip(numbers.tolist(), starts, [*starts[1:], len(locations)], strict=True):
        yield slice(int(start), int(stop)), number
