"""Looking after the cache: it tells what there is, finds damage, and removes what was asked and nothing else."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmprep.pipeline.cache.folder import folder_name
from mmprep.pipeline.cache.row_cache import RowCache
from mmprep.pipeline.storage.local_store import LocalStore
from mmprep.pipeline.storage.open_store import open_store
from mmprep.pipeline.storage.store import Store
from mmprep.pipeline.storage.temporary import temporary_name
from mmprep.stages.maintenance.cache import DAY, Pruned, Verified, prune, stats, verify

VALUES = pa.schema([pa.field("vector", pa.list_(pa.float32(), 2), nullable=False)])
CLIP = {"encoder": "clip", "weights": "abc", "pretrained": True, "precision": "float32"}
BERT = {"encoder": "bert", "weights": "def", "pretrained": False, "precision": "float16"}


def fill(place: Store, fingerprint: dict[str, object], batches: int = 3) -> None:
    with RowCache(place, fingerprint, VALUES) as cache:
        for number in range(batches):
            rows = pa.record_batch([pa.array([[number, 1], [number, 2]], VALUES.field(0).type)], schema=VALUES)
            cache.add([hashlib.sha256(b"%d %d" % (number, row)).digest() for row in range(2)], rows)


def count(place: Store, fingerprint: dict[str, object]) -> int:
    """How many rows can be gathered."""
    keys = [hashlib.sha256(b"%d %d" % (number, row)).digest() for number in range(3) for row in range(2)]
    with RowCache(place, fingerprint, VALUES) as cache:
        cache.refresh()
        return sum(batch.num_rows for batch in cache.gather([key for key in keys if key in cache]))


def tree(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def spoil(path: Path, fingerprint: dict[str, object]) -> str:
    """Change a byte of a shard; returns its name."""
    shard = sorted((path / folder_name(fingerprint)).glob("*.parquet"))[0]
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    return shard.name


@pytest.fixture
def foreign(tmp_path: Path) -> dict[str, bytes]:
    """What others put into the same folder: none of it is ours to read or to remove."""
    alien = tmp_path / "clip-0123456789abcdef"
    for name in ("notes.txt", "thesis/chapter.parquet", f"{alien.name}/{'0' * 64}.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    (alien / "fingerprint.json").write_text(json.dumps(CLIP))
    for name, content in {"list": "[1]", "broken": "{", "number": '{"encoder": NaN}', "deep": "[" * 100_000}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "fingerprint.json").write_text(content)
    (tmp_path / "odd" / "fingerprint.json").mkdir(parents=True)
    return tree(tmp_path)


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty cache of each kind."""
    yield open_store(tmp_path / "cache" if request.param == "local" else "memory://team/cache")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def test_an_empty_cache_has_nothing_to_tell(place: Store) -> None:
    assert stats(place) == []
    assert verify(place) == Verified(0, 0, [])
    assert prune(place, unused_days=0) == Pruned([], 0)


def test_each_folder_tells_what_it_holds(place: Store) -> None:
    fill(place, CLIP)
    fill(place, BERT, batches=1)
    bert, clip = stats(place)
    assert (clip.folder, clip.fingerprint, clip.shards, clip.rows) == (folder_name(CLIP), CLIP, 3, 6)
    assert (bert.fingerprint["pretrained"], bert.shards, bert.rows, bert.damaged) == (False, 1, 2, 0)
    sizes = [entry.size for entry in place.child(clip.folder).entries() if entry.name.endswith(".parquet")]
    assert clip.bytes == sum(sizes)
    assert clip.used is not None
    assert abs(time.time() - clip.used) < 60


def test_looking_is_no_use(tmp_path: Path) -> None:
    place = open_store(tmp_path)
    fill(place, CLIP)
    before = tree(tmp_path)
    stats(place)
    verify(place)
    assert tree(tmp_path) == before


def test_a_whole_cache_is_verified(place: Store) -> None:
    fill(place, CLIP)
    fill(place, BERT)
    assert verify(place) == Verified(6, 12, [])


def test_verify_sets_damaged_shards_aside(tmp_path: Path) -> None:
    place = open_store(tmp_path)
    fill(place, CLIP)
    fill(place, BERT)
    name = spoil(tmp_path, BERT)
    assert verify(place) == Verified(5, 10, [f"{folder_name(BERT)}/{name}"])
    assert verify(place) == Verified(5, 10, [])
    assert stats(place)[0].damaged == 1
    assert (count(place, BERT), count(place, CLIP)) == (4, 6)


def test_a_damaged_footer_counts_no_rows(tmp_path: Path) -> None:
    fill(open_store(tmp_path), CLIP)
    shard = sorted((tmp_path / folder_name(CLIP)).glob("*.parquet"))[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    [clip] = stats(open_store(tmp_path))
    assert (clip.shards, clip.rows) == (3, 4)


def test_what_others_put_there_is_passed_over_and_stays(tmp_path: Path, foreign: dict[str, bytes]) -> None:
    place = open_store(tmp_path)
    fill(place, CLIP)
    assert len(stats(place)) == 1
    assert verify(place).shards == 3
    inner = tmp_path / folder_name(CLIP) / "notes.txt"
    inner.write_text("mine")
    assert prune(place, unused_days=1).folders == []
    assert prune(place, encoder="clip").folders == [folder_name(CLIP)]
    assert tree(tmp_path) == foreign | {str(inner.relative_to(tmp_path)): b"mine"}


def test_prune_tidies_up_and_keeps_every_row(place: Store) -> None:
    fill(place, CLIP)
    inner = place.child(folder_name(CLIP))
    dead = temporary_name("x").replace(f".{os.getpid()}.", ".999999999.")
    inner.write(dead, b"x" * 1000)
    inner.child("damaged").write(f"{'0' * 64}.parquet", b"x" * 500)
    freed = prune(place)
    assert freed.folders == []
    assert freed.bytes > 1500
    assert stats(place)[0].shards == 1
    assert place.child(folder_name(CLIP)).folders() == []
    assert dead not in [entry.name for entry in inner.entries()]
    assert count(place, CLIP) == 6


def test_prune_removes_an_encoders_folders(place: Store) -> None:
    fill(place, CLIP)
    fill(place, CLIP | {"precision": "float16"})
    fill(place, BERT)
    removed = prune(place, encoder="clip")
    assert len(removed.folders) == 2
    assert removed.bytes > 0
    assert [folder.fingerprint for folder in stats(place)] == [BERT]
    assert (count(place, CLIP), count(place, BERT)) == (0, 6)


def age(path: Path, fingerprint: dict[str, object], days: float) -> None:
    for each in (path / folder_name(fingerprint)).iterdir():
        os.utime(each, (time.time() - days * DAY,) * 2)


def test_prune_removes_folders_that_were_not_used_for_so_long(tmp_path: Path) -> None:
    place = open_store(tmp_path)
    for fingerprint, days in ((CLIP, 40), (BERT, 20)):
        fill(place, fingerprint)
        age(tmp_path, fingerprint, days)
    assert prune(place, unused_days=30, encoder="bert").folders == []
    assert prune(place, unused_days=41).folders == []  # this merges shards, which is no use of them
    assert prune(place, unused_days=30).folders == [folder_name(CLIP)]
    assert [folder.name for folder in tmp_path.iterdir()] == [folder_name(BERT)]


def test_reading_keeps_a_folder(tmp_path: Path) -> None:
    place = open_store(tmp_path)
    fill(place, CLIP)
    age(tmp_path, CLIP, 40)
    count(place, CLIP)
    assert prune(place, unused_days=30).folders == []


def test_a_removal_that_was_cut_short_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_store(tmp_path)
    fill(place, CLIP)
    delete = LocalStore.delete
    left = [2]

    def killed(where: LocalStore, name: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        delete(where, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(place, encoder="clip")
    assert len(list((tmp_path / folder_name(CLIP)).iterdir())) == 3
    assert prune(place, encoder="clip").folders == [folder_name(CLIP)]
    assert list(tmp_path.iterdir()) == []
