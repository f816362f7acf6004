"""The row cache: what an encoder gave for a photo or a text, kept for everybody who meets the same again.

A key is the SHA-256 of a photo's bytes or of a text. What else a row depends on, the fingerprint, names a folder.
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
ATTEMPTS = 100  # to see a folder that others change all the time at rest
THREADS = 8  # digests and downloads at once
ROW_MASK = (1 << ROW_BITS) - 1


class LostRows(DataError):  # noqa: N818 - what is lost, and to be encoded again, is no fault of the caller's
    """Rows that were in the cache are damaged or gone.

    Attributes:
        keys: theirs, each once.
    """

    def __init__(self, keys: Sequence[bytes], place: Store) -> None:
        super().__init__(f"{place}: {len(keys)} rows were lost; run the command again to encode them anew")
        self.keys = list(keys)


class _ShardLostError(Exception):
    """A shard went, or was set aside, after its rows were located."""


def cache_place(environ: Mapping[str, str]) -> Store:
    """Where the cache is: $MMPREP_CACHE, a folder or a URL, else the user's cache folder.

    Raises:
        ParamsError: no library here knows the URL.
    """
    return open_store(environ.get(VARIABLE) or platformdirs.user_cache_dir("mmprep"))


class RowCache:
    """The rows of one fingerprint. Any number of processes on any machines may have it open; threads may not share one.

    Args:
        place: the cache, of all fingerprints.
        fingerprint: all that a row depends on beside its key, as JSON values; `encoder` is the encoder's name.
        values: the columns of a row beside the key.
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
        """See what others have added or removed since; reads the keys of new shards.

        Raises:
            DataError: the folder is of another fingerprint, or cannot be read.
        """
        for _ in range(ATTEMPTS):
            shards = self._folder.shards(note_use=True)
            known = self._index.shards
            self._index.forget(known - {shard.name for shard in shards})
            new = [shard for shard in shards if shard.name not in known]
            with ThreadPoolExecutor(THREADS) as pool:
                found = list(zip(new, pool.map(self._keys_of, new), strict=True))
            self._index.add([(shard.name, keys) for shard, keys in found if keys is not None])
            if all(keys is not None for _, keys in found):
                return
            # Some went after they were listed. If they were merged, the shard that holds them now is not in that list.

    def _refresh_until_steady(self) -> None:
        """Refresh until twice the same is there.

        A folder that is listed while others merge may show neither the merged shard, which came behind the place where
        the listing was, nor those that it holds, which went before it got there.
        """
        self.refresh()
        for _ in range(ATTEMPTS):
            before = self._index.shards
            self.refresh()
            if self._index.shards == before:
                return

    def _keys_of(self, shard: FileInfo) -> Keys | None:
        """A shard's keys; None if it has gone or is set aside."""
        try:
            return read_keys(self._folder.place, shard, self._schema)
        except FileNotFoundError:
            return None
        except NotAShardError as error:
            # It may be damaged, or whole but of others; `reader` tells, and sets the damaged aside.
            if self._folder.reader(shard.name) is not None:
                self._folder.set_aside(shard.name, str(error))
            return None

    def add(self, keys: Sequence[bytes], rows: pa.RecordBatch) -> None:
        """Keep the rows of a batch, for good when the call returns.

        Args:
            keys: of each row [n].
            rows: the value columns [n].

        Raises:
            DataError: the place cannot be written, or the folder is of another fingerprint.
            ValueError: the rows have other columns, or there are more or fewer than keys.
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
        """The values of some keys, in their order, repeats included.

        Every shard that is needed is checked against its digest before the first batch is given.

        Args:
            keys: any number.
            most_bytes: about so large are the record batches; memory is some three times that.

        Raises:
            LostRows: keys that are not there, or whose shard is damaged and now set aside. Add them and gather again.
        """
        wanted = to_keys(keys)
        done = 0
        while done < len(wanted):
            locations = self._locate(wanted[done:])
            for start, stop in self._chunks(locations, most_bytes):
                try:
                    batch = self._read(locations[start:stop], wanted[done : done + stop - start])
                except _ShardLostError:
                    break  # the rest may be found elsewhere
                yield batch
                del batch  # while the next one is read
                done += stop - start

    def _locate(self, wanted: Keys) -> Rows:
        """The location of each key [n], all in shards that can be trusted; raises LostRows."""
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
        """Check some shards by their numbers; whether any had to be forgotten."""
        names = [self._index.name(number) for number in np.unique(numbers)]
        with ThreadPoolExecutor(THREADS) as pool:
            readers = list(pool.map(self._folder.reader, names))
        bad = {name for name, reader in zip(names, readers, strict=True) if reader is None}
        self._index.forget(bad)
        return bool(bad)

    def _chunks(self, locations: Rows, most_bytes: int) -> Iterator[tuple[int, int]]:
        """Where to cut [n] locations, so that what lies between two cuts takes at most so many bytes, or is one row."""
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
        """The values at some locations [n], whose keys are known; raises _ShardLostError."""
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
        """Some rows of a shard, increasing, after a look at their keys: what tells of keys first is only a hint."""
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
            raise  # which Arrow counts among its own errors
        except (OSError, pa.ArrowException) as error:
            # It went, or changed since it was checked, and is checked again; but not for ever.
            self._folder.distrust(name)
            if name in self._failed and not has_gone(error):
                self._folder.set_aside(name, f"it cannot be read ({error})")
            self._failed.add(name)
            self._forget(name)

    def _forget(self, name: str) -> NoReturn:
        """Look for a shard's rows anew, in the same shard if it is still listed."""
        self._index.forget({name})
        raise _ShardLostError


def by_shard(locations: Rows) -> Iterator[tuple[slice, int]]:
    """The parts of sorted locations [n] that lie in one shard, with the shard's number."""
    numbers, starts = np.unique(locations >> ROW_BITS, return_index=True)
    for number, start, stop in zip(numbers.tolist(), starts, [*starts[1:], len(locations)], strict=True):
        yield slice(int(start), int(stop)), number
