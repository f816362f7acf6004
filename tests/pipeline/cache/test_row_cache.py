"""The row cache: what was added comes back whatever happens, and nothing else ever does."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mmprep.pipeline.cache import compaction as cache_compaction
from mmprep.pipeline.cache.folder import CacheFolder, folder_name
from mmprep.pipeline.cache.key_index import KeyIndex
from mmprep.pipeline.cache.packing import from_stored, stored_type, to_stored
from mmprep.pipeline.cache.row_cache import LostRows, RowCache, cache_place
from mmprep.pipeline.cache.shards import GROUP_BYTES, NAME, Rows, ShardReader, ShardWriter, shard_schema, to_keys
from mmprep.pipeline.errors import DataError
from mmprep.pipeline.storage.local_store import LocalStore
from mmprep.pipeline.storage.open_store import open_store
from mmprep.pipeline.storage.store import FileInfo, Store, StoreError
from mmprep.pipeline.storage.temporary import temporary_name

ROOT = Path(__file__).parents[3]
DIMENSION = 24
VALUES = pa.schema([pa.field("vector", pa.list_(pa.float32(), DIMENSION), nullable=False)])
FINGERPRINT = {"encoder": "org/model", "weights": "abc", "pretrained": True}


def key(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def keys(numbers: Sequence[int]) -> list[bytes]:
    return [key(number) for number in numbers]


def rows(numbers: Sequence[int]) -> pa.RecordBatch:
    """Vectors that tell their number."""
    flat = np.repeat(np.asarray(numbers, dtype=np.float32), DIMENSION)
    return pa.record_batch(
        [pa.FixedSizeListArray.from_arrays(pa.array(flat), type=VALUES.field(0).type)], schema=VALUES
    )


def numbers_of(batches: Sequence[pa.RecordBatch]) -> list[int]:
    vectors = [batch["vector"].flatten().to_numpy().reshape(-1, DIMENSION) for batch in batches]
    assert all((vector == vector[:, :1]).all() for vector in vectors)
    return [int(number) for vector in vectors for number in vector[:, 0]]


def open_cache(place: Store | Path) -> RowCache:
    """As another process would."""
    cache = RowCache(open_store(place) if isinstance(place, Path) else place, FINGERPRINT, VALUES)
    cache.refresh()
    return cache


def fill(place: Store | Path, batches: int = 4, size: int = 5) -> list[int]:
    """Several batches, a shard each; returns their numbers."""
    with open_cache(place) as cache:
        for start in range(0, batches * size, size):
            cache.add(keys(range(start, start + size)), rows(range(start, start + size)))
    return list(range(batches * size))


def gathered(place: Store | Path, numbers: Sequence[int]) -> list[int]:
    with open_cache(place) as cache:
        return numbers_of(list(cache.gather(keys(numbers))))


def folder(path: Path) -> Path:
    return path / folder_name(FINGERPRINT)


def shards(path: Path) -> list[Path]:
    return sorted(each for each in folder(path).glob("*") if NAME.fullmatch(each.name))


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty cache of each kind."""
    yield open_store(tmp_path / "cache" if request.param == "local" else "memory://team/cache")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_rows_come_back_in_any_order_and_as_often_as_asked(place: Store) -> None:
    numbers = fill(place)
    asked: list[int] = np.random.default_rng(0).choice(numbers, 100).tolist()
    with open_cache(place) as cache:
        assert all(each in cache for each in keys(numbers))
        assert key(20) not in cache
        assert numbers_of(list(cache.gather(keys(asked)))) == asked
        assert numbers_of(list(cache.gather(keys(numbers)))) == numbers
        assert list(cache.gather([])) == []
        cache.compact()
        assert numbers_of(list(cache.gather(keys(asked)))) == asked
        [batch] = cache.gather(keys([3]))
        assert batch.schema.equals(VALUES)


def test_rows_can_be_gathered_at_once_by_the_one_who_adds_them(place: Store) -> None:
    with RowCache(place, FINGERPRINT, VALUES) as cache:
        cache.add(keys([1, 2]), rows([1, 2]))
        cache.add([], rows([]))
        assert key(1) in cache
        assert numbers_of(list(cache.gather(keys([2, 1])))) == [2, 1]


def test_token_rows_of_different_lengths_come_back(tmp_path: Path) -> None:
    token = pa.list_(pa.float16(), 8)
    columns = [("vectors", pa.large_list(token)), ("start", pa.list_(pa.int32())), ("end", pa.list_(pa.int32()))]
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])
    lengths = np.random.default_rng(0).integers(0, 300, 100)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(offsets[-1] * 8) % 2000, pa.float16()), type=token)
    vectors = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)
    spans = pa.array([list(range(length)) for length in lengths], pa.list_(pa.int32()))
    batch = pa.record_batch([vectors, spans, spans], schema=schema)
    with RowCache(open_store(tmp_path), FINGERPRINT, schema) as cache:
        for start in (0, 50):
            cache.add(keys(range(start, start + 50)), batch.slice(start, 50))
        cache.compact()
        order = np.random.default_rng(1).permutation(100)
        found = pa.Table.from_batches(cache.gather(keys(order.tolist()), most_bytes=100_000))
    assert found.equals(pa.Table.from_batches([batch]).take(pa.array(order)))
    assert found.schema.equals(schema)


def test_batches_are_of_bounded_size(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=10, size=50)
    with open_cache(tmp_path) as cache:
        batches = list(cache.gather(keys(numbers), most_bytes=4096))
        assert max(batch.nbytes for batch in batches) <= 4096
        assert len(batches) < 20
        assert numbers_of(batches) == numbers
        assert [batch.num_rows for batch in cache.gather(keys(numbers[:5]), most_bytes=1)] == [1] * 5


def test_reading_takes_only_the_row_groups_that_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, batches=2, size=20_000)
    with open_cache(tmp_path) as cache:
        cache.compact()
        reader = cache._folder.reader(shards(tmp_path)[0].name)
        assert reader is not None
        assert len(reader.row_bytes) > 10
        assert (reader.row_bytes * np.diff(reader.starts)).max() < 1.2 * GROUP_BYTES
        taken: list[int] = []
        take = ShardReader._take

        def noted(reader: ShardReader, file: pq.ParquetFile, groups: Rows, rows: Rows) -> pa.Table:
            taken.extend(groups)
            return take(reader, file, groups, rows)

        monkeypatch.setattr(ShardReader, "_take", noted)
        assert numbers_of(list(cache.gather(keys([39_999, 7, 8, 7])))) == [39_999, 7, 8, 7]
        assert taken == [0, len(reader.row_bytes) - 1]


PEAK = """
import hashlib, resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from mmprep.pipeline.cache.row_cache import RowCache
from mmprep.pipeline.storage.open_store import open_store

count, dimension = int(sys.argv[2]), 150_000
values = pa.schema([pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False)])
keys = [hashlib.sha256(b"%d" % number).digest() for number in range(count)]
with RowCache(open_store(Path(sys.argv[1])), {"encoder": "wide"}, values) as cache:
    for number in range(count):
        flat = pa.array(np.full(dimension, number, dtype=np.float32))
        vector = pa.FixedSizeListArray.from_arrays(flat, type=values.field(0).type)
        cache.add(keys[number : number + 1], pa.record_batch([vector], schema=values))
    cache.compact()
    for number, batch in enumerate(cache.gather(keys, most_bytes=1_000_000)):
        assert batch.num_rows == 1 and batch["vector"].flatten()[0].as_py() == number
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_kilobytes(path: Path, count: int) -> int:
    command = [sys.executable, "-c", PEAK, str(path), str(count)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    few, many = (peak_kilobytes(tmp_path / str(count), count) for count in (30, 180))
    assert many - few < 30_000  # the rows between them take 90,000


def test_the_index_takes_less_than_100_bytes_a_key() -> None:
    import tracemalloc

    all_keys = np.frombuffer(np.random.default_rng(0).bytes(32 * 50_000), dtype="S32")
    tracemalloc.start()
    try:
        index = KeyIndex()
        for number, start in enumerate(range(0, 50_000, 32)):
            index.add([(f"{number:064x}.parquet", all_keys[start : start + 32].copy())])
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 100 * 50_000
    assert (index.find(all_keys) >= 0).all()


def test_keys_that_end_in_zeros_are_told_apart(tmp_path: Path) -> None:
    close = [bytes(32), bytes(31) + b"\1", b"\1" + bytes(31), b"\1" * 31 + b"\0"]
    with open_cache(tmp_path) as cache:
        cache.add(close, rows(range(4)))
        cache.add(keys(range(10, 5010)), rows(range(10, 5010)))
    with open_cache(tmp_path) as cache:
        assert [each in cache for each in (*close, b"\1" * 32)] == [True] * 4 + [False]
        assert numbers_of(list(cache.gather(close))) == [0, 1, 2, 3]


def test_equal_rows_give_the_same_shard(tmp_path: Path) -> None:
    for name in ("a", "b"):
        fill(tmp_path / name)
    assert [each.name for each in shards(tmp_path / "a")] == [each.name for each in shards(tmp_path / "b")]


def test_of_a_key_in_several_shards_the_smallest_name_counts(tmp_path: Path) -> None:
    with open_cache(tmp_path) as cache:
        for number in (1, 2, 3):
            cache.add(keys([0]), rows([number]))
    by_name = {path.name: path for path in shards(tmp_path)}
    [first] = gathered(tmp_path, [0])
    by_name[min(by_name)].unlink()
    [second] = gathered(tmp_path, [0])
    assert first != second
    assert gathered(tmp_path, [0]) == [second]


# Damage


@pytest.mark.parametrize("where", [0.0, 0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_flipped_byte_anywhere_is_never_served(place: Store, where: float, caplog: pytest.LogCaptureFixture) -> None:
    numbers = fill(place)
    cache_folder = place.child(folder_name(FINGERPRINT))
    bad = next(entry for entry in cache_folder.entries() if NAME.fullmatch(entry.name))
    content = bytearray(cache_folder.read(bad.name))
    content[int(where * bad.size)] ^= 4
    cache_folder.write(bad.name, bytes(content))

    with open_cache(place) as cache, pytest.raises(LostRows) as lost:
        list(cache.gather(keys(numbers)))
    lost_numbers = [number for number in numbers if key(number) in lost.value.keys]
    assert len(lost_numbers) == len(lost.value.keys) == 5
    rest = [number for number in numbers if number not in lost_numbers]
    assert gathered(place, rest) == rest
    assert [entry.name for entry in cache_folder.child("damaged").entries()] == [bad.name]
    assert f"{bad.name}: damaged, " in caplog.text

    with open_cache(place) as cache:
        assert not any(each in cache for each in lost.value.keys)
        cache.add(keys(lost_numbers), rows(lost_numbers))
        assert numbers_of(list(cache.gather(keys(numbers)))) == numbers


@examples(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_to_a_shard_only_right_rows_are_served(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary)
        numbers = fill(path, batches=2, size=3)
        bad = shards(path)[data.draw(st.integers(0, 1))]
        size = bad.stat().st_size
        if data.draw(st.booleans()):
            flip(bad, data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, 7)))
        else:
            bad.write_bytes(bad.read_bytes()[: data.draw(st.integers(0, size - 1))])
        with open_cache(path) as cache, pytest.raises(LostRows) as lost:
            list(cache.gather(keys(numbers)))
        rest = [number for number in numbers if key(number) not in lost.value.keys]
        assert len(rest) == 3
        assert gathered(path, rest) == rest


def test_damage_after_a_shard_was_checked_is_found_too(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=1)
    with open_cache(tmp_path) as cache:
        assert numbers_of(list(cache.gather(keys(numbers)))) == numbers
        flip(shards(tmp_path)[0], 300)
        with pytest.raises(LostRows):
            list(cache.gather(keys(numbers)))


def test_damage_that_hides_its_time_is_found_by_the_page_checksums(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=1)
    [shard] = shards(tmp_path)
    with open_cache(tmp_path) as cache:
        list(cache.gather(keys(numbers)))
        state = shard.stat()
        content = shard.read_bytes()
        at = content.index(np.float32(3).tobytes() * DIMENSION)
        with shard.open("r+b") as file:
            file.seek(at)
            file.write(b"\1")
        os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))
        with pytest.raises(LostRows):
            list(cache.gather(keys(numbers)))


def test_a_shard_of_another_folder_is_not_served(tmp_path: Path) -> None:
    with RowCache(open_store(tmp_path), {"encoder": "other"}, VALUES) as other:
        other.add(keys([1]), rows([100]))
    [shard] = (tmp_path / folder_name({"encoder": "other"})).glob("[0-9a-f]*.parquet")
    fill(tmp_path, batches=1)
    shard.rename(folder(tmp_path) / shard.name)
    assert gathered(tmp_path, [1]) == [1]
    assert (folder(tmp_path) / "damaged" / shard.name).exists()


def plant(path: Path, content: bytes) -> None:
    """A file whose name is its digest, whatever it holds."""
    fill(path, batches=1)
    (folder(path) / f"{hashlib.sha256(content).hexdigest()}.parquet").write_bytes(content)


def test_a_shard_that_is_no_parquet_is_set_aside(tmp_path: Path) -> None:
    plant(tmp_path, b"no parquet")
    assert gathered(tmp_path, [1, 2]) == [1, 2]
    assert len(list((folder(tmp_path) / "damaged").iterdir())) == 1


def test_a_footer_that_names_other_keys_than_the_rows_is_not_believed(tmp_path: Path) -> None:
    sink = pa.BufferOutputStream()
    schema = shard_schema(VALUES, FINGERPRINT)
    writer = ShardWriter(sink, schema)
    vectors = to_stored(rows([7]).column(0))
    writer.append(pa.record_batch([pa.array(keys([7]), pa.binary(32)), vectors], schema=schema))
    writer._keys = [key(8)]
    writer.close()
    plant(tmp_path, sink.getvalue().to_pybytes())
    with open_cache(tmp_path) as cache:
        assert key(8) in cache
        with pytest.raises(LostRows):
            list(cache.gather(keys([8])))
    assert len(list((folder(tmp_path) / "damaged").iterdir())) == 1


def test_keys_that_were_never_added_are_lost_rows(tmp_path: Path) -> None:
    fill(tmp_path)
    with open_cache(tmp_path) as cache, pytest.raises(LostRows, match="2 rows were lost") as lost:
        list(cache.gather(keys([100, 1, 101, 100])))
    assert sorted(lost.value.keys) == sorted(keys([100, 101]))


def test_rows_of_a_damaged_shard_are_taken_from_another_that_has_them(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=1)
    with open_cache(tmp_path) as cache:
        cache.add(keys([*numbers, 100]), rows([*numbers, 100]))
    for shard in shards(tmp_path):
        original = shard.read_bytes()
        flip(shard, 200)
        assert gathered(tmp_path, numbers) == numbers
        shard.write_bytes(original)


def test_damage_on_the_way_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_store("memory://team/way")
    numbers = fill(place, batches=1)
    fetched: list[Path] = []
    get_file = MemoryFileSystem.get_file

    def bad_line(files: MemoryFileSystem, source: str, target: str) -> None:
        get_file(files, source, target)
        if not fetched:
            flip(Path(target), 100)
        fetched.append(Path(target))

    monkeypatch.setattr(MemoryFileSystem, "get_file", bad_line)
    assert gathered(place, numbers) == numbers
    assert len(fetched) == 2
    assert not any(path.exists() for path in fetched)
    MemoryFileSystem.store.clear()


def test_a_lost_network_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_store("memory://team/network")
    numbers = fill(place, batches=1)

    def lost(*_: object, **__: object) -> None:
        raise OSError("connection reset")

    with monkeypatch.context() as patch, open_cache(place) as cache:
        patch.setattr(MemoryFileSystem, "get_file", lost)
        with pytest.raises(StoreError, match=r"cannot be read \(connection reset\)"):
            list(cache.gather(keys(numbers)))
    assert gathered(place, numbers) == numbers
    MemoryFileSystem.store.clear()


def test_another_fingerprint_in_the_folder_is_refused(place: Store) -> None:
    fill(place, batches=1)
    inner = place.child(folder_name(FINGERPRINT))
    assert json.loads(inner.read("fingerprint.json")) == FINGERPRINT
    for content in (json.dumps(FINGERPRINT | {"weights": "x"}).encode(), b"{", b"\xff"):
        inner.write("fingerprint.json", content)
        cache = RowCache(place, FINGERPRINT, VALUES)
        with pytest.raises(DataError, match=r"fingerprint.json: does not match the fingerprint"):
            cache.refresh()
        with pytest.raises(DataError, match=r"fingerprint.json: does not match"):
            cache.add(keys([50]), rows([50]))


def test_folders_are_named_safely_and_apart() -> None:
    found = [folder_name({"encoder": name}) for name in ("a/b", "a_b", "../../etc", "", "x" * 500, "é")]
    assert len(set(found)) == len(found)
    assert found[0].startswith("a_b-")
    assert all(len(name) < 120 and not set(name) & set("/\\é") and not name.startswith(".") for name in found)
    assert folder_name({"a": 1, "b": 2}) == folder_name({"b": 2, "a": 1})


def test_rows_of_other_columns_are_the_callers_mistake(tmp_path: Path) -> None:
    cache = open_cache(tmp_path)
    with pytest.raises(ValueError, match="rows of"):
        cache.add(keys([1]), pa.record_batch({"vector": [[1.0]]}))
    with pytest.raises(ValueError, match="32 bytes"):
        list(cache.gather([b"short"]))
    assert not folder(tmp_path).exists()


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A filled cache that this process may read but not change, even if it is root's."""
    path = Path(tempfile.mkdtemp())
    fill(path, batches=2)
    (folder(path) / "used").unlink(missing_ok=True)
    for each in (folder(path), path):
        each.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield path
    finally:
        os.seteuid(user)
        for each in (path, folder(path)):
            each.chmod(0o755)
        subprocess.run(["rm", "-r", str(path)], check=True)


def test_a_cache_that_may_only_be_read_serves_and_says_why_it_keeps_nothing(read_only: Path) -> None:
    with open_cache(read_only) as cache:
        assert numbers_of(list(cache.gather(keys(range(10))))) == list(range(10))
        cache.compact()
        with pytest.raises(DataError, match=r"cannot be written \(Permission denied\); set MMPREP_CACHE to a folder"):
            cache.add(keys([50]), rows([50]))
        assert numbers_of(list(cache.gather(keys(range(10))))) == list(range(10))


def test_damage_in_a_cache_that_may_only_be_read_is_not_served(
    read_only: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = shards(read_only)[0].name
    right = LocalStore.local_copy
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / bad
        copy.write_bytes((folder(read_only) / bad).read_bytes())
        flip(copy, 300)
        monkeypatch.setattr(LocalStore, "local_copy", lambda place, name: copy if name == bad else right(place, name))
        with open_cache(read_only) as cache, pytest.raises(LostRows) as lost:
            list(cache.gather(keys(range(10))))
        assert len(lost.value.keys) == 5
        assert f"{bad}: damaged, its bytes do not match the digest in its name; ignored, but not moved" in caplog.text


# Compaction and company


def test_compaction_merges_small_shards_and_keeps_every_row(place: Store) -> None:
    numbers = fill(place, batches=12)
    with open_cache(place) as cache:
        cache.add(keys([0, 100]), rows([0, 100]))
        cache.compact()
        assert numbers_of(list(cache.gather(keys([*numbers, 100])))) == [*numbers, 100]
        [merged] = cache._folder.shards()
        reader = cache._folder.reader(merged.name)
        assert reader is not None
        assert reader.rows == 61
        cache.compact()
        assert cache._folder.shards() == [merged]
    assert gathered(place, numbers) == numbers


def test_large_shards_stay_and_merged_ones_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = fill(tmp_path, batches=6, size=20)
    size = max(path.stat().st_size for path in shards(tmp_path))
    monkeypatch.setattr(cache_compaction, "LARGE_BYTES", 3 * size)
    with open_cache(tmp_path) as cache:
        cache.compact()
    assert len(shards(tmp_path)) == 2
    monkeypatch.setattr(cache_compaction, "SMALL_BYTES", size)
    before = shards(tmp_path)
    with open_cache(tmp_path) as cache:
        cache.compact()
    assert shards(tmp_path) == before
    assert gathered(tmp_path, numbers) == numbers


def test_merged_rows_lie_in_the_order_in_which_they_were_added(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=8)
    with open_cache(tmp_path) as cache:
        cache.compact()
        reader = cache._folder.reader(shards(tmp_path)[0].name)
        assert reader is not None
        [table] = reader.read(np.arange(len(numbers)))
    assert table["key"].to_pylist() == keys(numbers)


def test_compaction_does_not_take_damage_over(tmp_path: Path) -> None:
    numbers = fill(tmp_path)
    bad = shards(tmp_path)[1]
    flip(bad, 300)
    with open_cache(tmp_path) as cache:
        cache.compact()
        assert sum(key(number) in cache for number in numbers) == 15
    assert (folder(tmp_path) / "damaged" / bad.name).exists()


def test_a_compaction_killed_before_it_tidies_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = fill(tmp_path)

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    for method in ("upload", "delete"):
        with monkeypatch.context() as patch, open_cache(tmp_path) as cache:
            patch.setattr(LocalStore, method, killed)
            with pytest.raises(KilledError):
                cache.compact()
        assert gathered(tmp_path, numbers) == numbers
    with open_cache(tmp_path) as cache:
        cache.compact()
    assert len(shards(tmp_path)) == 1
    assert gathered(tmp_path, numbers) == numbers


def test_a_reader_whose_files_are_merged_away_goes_on(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=6)
    with open_cache(tmp_path) as reader, open_cache(tmp_path) as other:
        batches = reader.gather(keys(numbers), most_bytes=1000)
        found = [next(batches)]
        other.compact()
        found += batches
    assert numbers_of(found) == numbers


@pytest.mark.parametrize("is_gathering", [False, True])
def test_a_merge_between_listing_and_reading_hides_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gathering: bool
) -> None:
    numbers = fill(tmp_path)
    listing = CacheFolder.shards

    def then_merged(where: CacheFolder, *, note_use: bool = False) -> list[FileInfo]:
        found = listing(where, note_use=note_use)
        monkeypatch.setattr(CacheFolder, "shards", listing)
        with open_cache(tmp_path) as other:
            other.compact()
        return found

    with RowCache(open_store(tmp_path), FINGERPRINT, VALUES) as cache:
        monkeypatch.setattr(CacheFolder, "shards", then_merged)
        if is_gathering:
            assert numbers_of(list(cache.gather(keys(numbers)))) == numbers
        cache.refresh()
        assert all(each in cache for each in keys(numbers))


def test_a_listing_that_others_change_meanwhile_loses_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = fill(tmp_path)
    listing = CacheFolder.shards
    torn: list[slice] = []

    def listed(where: CacheFolder, *, note_use: bool = False) -> list[FileInfo]:
        part = torn.pop(0) if torn else slice(None)
        return listing(where, note_use=note_use)[part]

    monkeypatch.setattr(CacheFolder, "shards", listed)
    for parts in ([slice(1)], [slice(1), slice(1, 2)], [slice(1, 2), slice(3), slice(0, 3, 2)]):
        with RowCache(open_store(tmp_path), FINGERPRINT, VALUES) as cache:
            torn[:] = [slice(0), *parts]
            cache.refresh()
            assert numbers_of(list(cache.gather(keys(numbers)))) == numbers


def test_a_change_of_a_checked_shard_is_seen_wherever_it_is(tmp_path: Path) -> None:
    fill(tmp_path, batches=1)
    [shard] = shards(tmp_path)
    with open_cache(tmp_path) as cache:
        list(cache.gather(keys([0])))
        flip(shard, shard.read_bytes().index(base64.b64encode(key(0))[:20]))
        with pytest.raises(LostRows):
            list(cache.gather(keys([0])))


def test_damage_under_a_reader_is_told_with_the_keys(tmp_path: Path) -> None:
    numbers = fill(tmp_path, batches=6)
    with open_cache(tmp_path) as cache:
        batches = cache.gather(keys(numbers), most_bytes=1000)
        next(batches)
        for shard in shards(tmp_path):
            flip(shard, 200)
        with pytest.raises(LostRows):
            list(batches)


def test_a_removed_folder_is_lost_rows_and_filled_anew(tmp_path: Path) -> None:
    numbers = fill(tmp_path)
    with open_cache(tmp_path) as cache:
        subprocess.run(["rm", "-r", str(folder(tmp_path))], check=True)
        with pytest.raises(LostRows) as lost:
            list(cache.gather(keys(numbers)))
        assert len(lost.value.keys) == 20
        cache.add(keys(numbers), rows(numbers))
        assert numbers_of(list(cache.gather(keys(numbers)))) == numbers
        assert (folder(tmp_path) / "fingerprint.json").exists()


def test_compaction_removes_leftovers_of_the_dead_only(tmp_path: Path) -> None:
    fill(tmp_path)
    mine = temporary_name("x")
    dead = mine.replace(f".{os.getpid()}.", ".999999999.")
    for name in (mine, dead, "notes.txt"):
        (folder(tmp_path) / name).write_bytes(b"x")
    with open_cache(tmp_path) as cache:
        cache.compact()
    assert {path.name for path in folder(tmp_path).iterdir()} >= {mine, "notes.txt"}
    assert not (folder(tmp_path) / dead).exists()


def test_a_use_is_noted_but_not_all_the_time(place: Store) -> None:
    fill(place, batches=1)
    inner = place.child(folder_name(FINGERPRINT))
    assert [entry.size for entry in inner.entries() if entry.name == "used"] == [0]
    if isinstance(inner, LocalStore):
        used = inner.folder / "used"
        for age, is_noted in ((1800, False), (4000, True)):
            before = time.time() - age
            os.utime(used, (before, before))
            open_cache(place)
            assert (used.stat().st_mtime > before + 1) == is_noted


WORKER = """
import hashlib, random, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from mmprep.pipeline.cache.row_cache import LostRows, RowCache
from mmprep.pipeline.storage.open_store import open_store

where, seed, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
values = pa.schema([pa.field("vector", pa.list_(pa.float32(), 24), nullable=False)])
draw = random.Random(seed)


def key(number):
    return hashlib.sha256(b"%d" % number).digest()


def rows(numbers):
    flat = pa.array(np.repeat(np.asarray(numbers, dtype=np.float32), 24))
    return pa.record_batch([pa.FixedSizeListArray.from_arrays(flat, type=values.field(0).type)], schema=values)


fingerprint = {"encoder": "org/model", "weights": "abc", "pretrained": True}
with RowCache(open_store(Path(where)), fingerprint, values) as cache:
    print("ready", flush=True)
    for start in range(first, last, 4):
        cache.refresh()
        numbers = [number for number in range(start, start + 4) if key(number) not in cache]
        cache.add([key(number) for number in numbers], rows(numbers))
        if draw.random() < 0.3:
            cache.compact()
        asked = [draw.randrange(first, start + 4) for _ in range(20)]
        found = pa.Table.from_batches(cache.gather([key(number) for number in asked], most_bytes=500))
        got = np.concatenate([chunk.flatten().to_numpy() for chunk in found["vector"].chunks])[::24]
        assert got.astype(int).tolist() == asked
print("done", flush=True)
"""


def start_worker(path: Path, seed: int, first: int, last: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", WORKER, str(path), str(seed), str(first), str(last)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def assert_whole(path: Path) -> None:
    for shard in shards(path):
        assert hashlib.sha256(shard.read_bytes()).hexdigest() == shard.stem
    assert not (folder(path) / "damaged").exists()


def test_processes_add_gather_and_compact_at_once(tmp_path: Path) -> None:
    # Each shares half of its rows with the next one.
    workers = [start_worker(tmp_path, seed, 40 * seed, 40 * seed + 80) for seed in range(3)]
    for worker in workers:
        _, errors = worker.communicate(timeout=60)
        assert (worker.returncode, errors) == (0, "")
    assert_whole(tmp_path)
    assert gathered(tmp_path, range(160)) == list(range(160))


def test_a_killed_writer_leaves_a_whole_cache_and_is_followed_by_another(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for seed in range(4):
        worker = start_worker(tmp_path, seed, 0, 4000)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0.05, 0.3))
        worker.kill()
        worker.communicate()
        assert_whole(tmp_path)
    worker = start_worker(tmp_path, 9, 0, 80)
    assert worker.communicate(timeout=60) == ("ready\ndone\n", "")
    assert_whole(tmp_path)
    assert gathered(tmp_path, range(80)) == list(range(80))


def test_the_cache_is_where_the_environment_says(tmp_path: Path) -> None:
    assert str(cache_place({"MMPREP_CACHE": str(tmp_path)})) == str(tmp_path)
    assert str(cache_place({"MMPREP_CACHE": "memory://team/cache"})) == "memory://team/cache"
    assert str(cache_place({})).endswith("mmprep")
    assert str(cache_place({"MMPREP_CACHE": ""})) == str(cache_place({}))


def test_keys_are_arrays_of_32_bytes() -> None:
    assert to_keys(keys([1, 2])).tobytes() == key(1) + key(2)
    assert len(to_keys([])) == 0


def test_vectors_are_stored_as_their_bytes_without_a_copy() -> None:
    vector = pa.list_(pa.float16(), 3)
    array = pa.array([[[1, 2, 3]], [], [[4, 5, 6], [7, 8, 9]], [[0, 0, 0]]], pa.list_(vector)).slice(1, 2)
    stored = to_stored(array)
    assert stored.type == stored_type(array.type) == pa.list_(pa.binary(6))
    assert stored.to_pylist() == [[], [np.array(each, np.float16).tobytes() for each in ([4, 5, 6], [7, 8, 9])]]
    assert from_stored(stored, array.type).equals(array)
    plain = array.flatten().slice(1)
    assert from_stored(to_stored(plain).slice(0, 1), vector).to_pylist() == [[7, 8, 9]]
    assert to_stored(plain).buffers()[1].address == array.values.values.buffers()[1].address + 3 * 3 * 2 - 6
    assert from_stored(to_stored(plain[:0]), vector).to_pylist() == []


@pytest.mark.parametrize("value", [None, [1.0, None]])
def test_nulls_are_no_vectors(value: list[float | None] | None) -> None:
    with pytest.raises(ValueError, match="null"):
        to_stored(pa.array([[1.0, 2.0], value], pa.list_(pa.float32(), 2)))
