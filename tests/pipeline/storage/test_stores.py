"""Places: files appear whole or not at all, on a disk and behind a URL, and trouble is one line."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.storage import remote_store as remote_places
from mmprep.pipeline.storage.local_store import LocalStore
from mmprep.pipeline.storage.open_store import open_store
from mmprep.pipeline.storage.remote_store import RemoteStore, changed
from mmprep.pipeline.storage.store import Store, StoreError


@pytest.fixture(params=["local", "remote"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty place of each kind."""
    place = open_store(tmp_path / "place" if request.param == "local" else "memory://places/place")
    yield place
    place.close()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def names(place: Store) -> list[str]:
    return [entry.name for entry in place.entries()]


def test_what_is_written_is_listed_and_read(place: Store) -> None:
    assert (names(place), place.folders()) == ([], [])
    place.write("b", b"content")
    place.write("a", b"")
    place.child("inner").write("c", b"x")
    assert names(place) == ["a", "b"]
    assert place.folders() == ["inner"]
    assert [entry.size for entry in place.entries()] == [0, 7]
    assert all(abs(time.time() - (entry.changed or 0)) < 60 for entry in place.entries())
    assert (place.read("b"), place.read("b", 3), place.read("b", 1, 3)) == (b"content", b"tent", b"on")


def test_a_file_is_replaced_moved_and_deleted(place: Store) -> None:
    place.write("a", b"old")
    place.write("a", b"new")
    place.move("a", "aside/a")
    assert (names(place), place.child("aside").read("a")) == ([], b"new")
    place.child("aside").delete("a")
    place.child("aside").delete("a")
    place.child("aside").remove_if_empty()
    assert place.folders() == []


def test_a_folder_with_something_in_it_stays(place: Store) -> None:
    place.write("a", b"a")
    place.remove_if_empty()
    assert names(place) == ["a"]


def test_a_file_that_is_not_there_is_told_apart_from_trouble(place: Store) -> None:
    for call in (lambda: place.read("a"), lambda: place.local_copy("a"), lambda: place.move("a", "b")):
        with pytest.raises(FileNotFoundError):
            call()


def test_a_scratch_file_takes_its_place_and_is_gone(place: Store) -> None:
    scratch = place.scratch()
    scratch.write_bytes(b"content")
    assert "a" not in names(place)
    place.upload(scratch, "a")
    assert not scratch.exists()
    assert (names(place), place.read("a")) == (["a"], b"content")


def test_a_fetched_file_is_local_and_its_copy_goes_with_close(place: Store) -> None:
    place.write("a", b"content")
    path = place.local_copy("a")
    assert path.read_bytes() == b"content"
    place.close()
    assert path.exists() == isinstance(place, LocalStore)
    assert place.local_copy("a").read_bytes() == b"content"


def test_a_copy_is_made_again_once_discarded(place: Store) -> None:
    place.write("a", b"old")
    place.local_copy("a")
    place.write("a", b"new")
    if place.discard_copy("a"):
        assert isinstance(place, RemoteStore)
    assert place.local_copy("a").read_bytes() == b"new"


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_store(tmp_path)
    place.write("a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)"):
        place.write("a", b"new")
    assert (names(place), place.read("a")) == (["a"], b"old")


def test_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(number: int) -> None:
        order.append("sync")
        sync(number)

    def noted_replace(path: Path, target: Path) -> Path:
        order.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    open_store(tmp_path).write("a", b"content")
    assert order == ["sync", "rename", "sync"]


def test_files_have_the_rights_that_the_user_gives_files(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        open_store(tmp_path).write("a", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o664


def test_a_file_in_the_place_of_the_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    place = open_store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"file: cannot be listed \(Not a directory\)"):
        place.entries()
    with pytest.raises(StoreError, match=r"file: cannot be written \(File exists\)"):
        place.write("a", b"")


def test_links_are_no_files_of_a_place(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "file").symlink_to("/etc/hosts")
    assert (names(open_store(tmp_path)), open_store(tmp_path).folders()) == ([], ["there"])


def test_paths_and_file_urls_are_local(tmp_path: Path) -> None:
    assert str(open_store(f"file://{tmp_path}")) == str(open_store(str(tmp_path))) == str(open_store(tmp_path))
    assert str(open_store("~/cache")) == str(Path.home() / "cache")


def test_an_unknown_scheme_is_one_clear_line() -> None:
    with pytest.raises(
        ParamsError, match=r"^ftq://host/x: not a place \(Protocol not known: ftq.*give a folder or a URL"
    ):
        open_store("ftq://user:secret@host/x")


def test_a_missing_library_names_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(ParamsError, match=r"^s3://bucket/x: .*`pip install 'mmprep\[s3\]'`$"):
        open_store("s3://bucket/x")
    with pytest.raises(ParamsError, match=r"^gs://bucket/x: .*Install s3fs to access S3$"):
        open_store("gs://bucket/x")


def test_trouble_with_a_store_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCredentialsError(Exception):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise NoCredentialsError("Unable to locate credentials\nsecond line")

    for method in ("ls", "cat_file", "pipe_file", "rm_file"):
        monkeypatch.setattr(MemoryFileSystem, method, refuse)
    place = open_store("memory://bucket")
    calls = (place.entries, lambda: place.read("a"), lambda: place.write("a", b""), lambda: place.delete("a"))
    for call, verb in zip(calls, ("listed", "read", "written", "changed"), strict=True):
        with pytest.raises(StoreError) as caught:
            call()
        assert str(caught.value) == f"memory://bucket: cannot be {verb} (Unable to locate credentials)"


def test_a_missing_bucket_is_told_when_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("bucket")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", missing)
    with pytest.raises(StoreError, match=r"memory://bucket: a cannot be written \(no such bucket or folder\)"):
        open_store("memory://bucket").write("a", b"")


def test_passwords_are_not_shown() -> None:
    assert remote_places.shown("ftp://me:secret@host/a@b") == "ftp://host/a@b"


@pytest.mark.parametrize(
    "info", [{"mtime": 10.5}, {"LastModified": "1970-01-01T00:00:10.5+00:00"}, {"created": 10.5, "mtime": None}]
)
def test_stores_tell_the_time_in_several_ways(info: dict[str, object]) -> None:
    assert changed(info) == 10.5
    assert changed({"name": "a"}) is None
