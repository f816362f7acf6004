"""Files appear whole or not at all, whatever kills the process that writes them."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from itertools import chain, repeat
from pathlib import Path

import pytest

from mmprep.pipeline.errors import MissingInputError
from mmprep.pipeline.storage.files import (
    atomic_file,
    atomic_folder,
    read_json,
    remove,
    require_exists,
    restore,
    sha256,
    temporary_folder,
    write_json,
)

WRITE_AND_WAIT = """
import sys, time
from pathlib import Path
from mmprep.pipeline.storage.files import {context}
with {context}(Path(sys.argv[1])) as temporary:
    ({target}).write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def kill_in_the_middle(context: str, target: str, path: Path) -> None:
    """Kill -9 a process inside the block of an atomic write to `path`."""
    code = WRITE_AND_WAIT.format(context=context, target=target)
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
        process.wait()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_atomic_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename is atomic within one folder alone"
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def test_atomic_file_keeps_the_old_one_when_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_atomic_file_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    kept = tmp_path / "cache"
    kept.write_text("shared")
    path = tmp_path / "file.txt"
    path.symlink_to(kept)
    with atomic_file(path) as temporary:
        temporary.write_text("new")
    assert (kept.read_text(), path.read_text(), path.is_symlink()) == ("shared", "new", False)


def test_atomic_folder_replaces_the_whole_folder(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    with atomic_folder(path) as temporary:
        (temporary / "new.txt").write_text("new")
        assert names(path) == ["old.txt"]
    assert names(path) == ["new.txt"]
    assert names(tmp_path) == ["folder"]


def test_atomic_folder_keeps_the_old_one_when_the_block_raises(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    with pytest.raises(RuntimeError, match="in the middle"), atomic_folder(path) as temporary:
        (temporary / "new.txt").touch()
        raise RuntimeError("in the middle")
    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["folder"]


def test_atomic_folder_leaves_none_where_none_was(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_folder(tmp_path / "folder"):
        raise RuntimeError
    assert names(tmp_path) == []


def test_killed_write_of_a_file_leaves_the_old_one_and_is_swept_up_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    kill_in_the_middle("atomic_file", "temporary", path)
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    with atomic_file(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["file.txt"]


def test_killed_write_of_a_folder_leaves_the_old_one_and_is_swept_up_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    kill_in_the_middle("atomic_folder", "temporary / 'new.txt'", path)
    assert names(path) == ["old.txt"]
    assert len(names(tmp_path)) == 2
    with atomic_folder(path):
        pass
    assert names(tmp_path) == ["folder"]


KILLED_WHILE_REPLACING = """
import os, signal, sys
from pathlib import Path
from mmprep.pipeline.storage import files
meant, when = Path.rename, sys.argv[2]

def rename(self, target):
    if when == "before" and self.name.endswith(".partial"):
        os.kill(os.getpid(), signal.SIGKILL)
    meant(self, target)

def remove(path):
    os.kill(os.getpid(), signal.SIGKILL)

Path.rename, files.remove = rename, remove
with files.atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "new.txt").touch()
"""


@pytest.mark.parametrize(("when", "left"), [("before", "old.txt"), ("after", "new.txt")])
def test_process_killed_while_it_replaces_a_folder_leaves_one_of_both(tmp_path: Path, when: str, left: str) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").touch()
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_REPLACING, str(path), when], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.exists() == (when == "after")
    restore(path)
    assert names(path) == [left]
    with atomic_folder(path) as temporary:
        assert names(path) == [left]
        (temporary / "newer.txt").touch()
    assert (names(path), names(tmp_path)) == (["newer.txt"], ["folder"])


def test_folder_that_cannot_be_replaced_has_its_name_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, meant = tmp_path / "folder", Path.rename
    path.mkdir()
    (path / "old.txt").touch()

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise PermissionError(errno.EACCES, "no")
        return meant(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), atomic_folder(path):
        pass
    assert (names(path), names(tmp_path)) == (["old.txt"], ["folder"])


def test_content_is_on_the_disk_before_the_name_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_text())
        assert path.read_text() == "old"
        if len(synced) == 2:
            raise OSError(errno.EIO, "disk")
        if len(synced) == 3:
            raise OSError(errno.EINVAL, "a file system without it")

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_file(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(OSError, match="disk"), atomic_file(path) as temporary:
        temporary.write_text("lost")
    assert path.read_text() == "old"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
    assert (path.read_text(), synced) == ("new", ["old", "lost", "new"])
    assert names(tmp_path) == ["file.txt"]


def test_threads_that_write_one_file_at_once_have_a_name_each(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "folder") as one, atomic_folder(tmp_path / "folder") as other:
        (one / "part").touch()
        assert names(other) == []
    assert names(tmp_path / "folder") == ["part"], "the last to end"


def test_temporary_folder_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), temporary_folder(tmp_path / "new" / "file") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "part").touch()
        raise RuntimeError
    assert names(tmp_path / "new") == []


def test_remove_takes_links_and_not_what_they_point_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file.txt").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for path in (tmp_path / "link", tmp_path / "nothing"):
        remove(path)
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == ["file.txt"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_require_names_the_command_that_makes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "core.parquet"
    with pytest.raises(MissingInputError) as caught:
        require_exists(path, "mmprep filter")
    assert str(caught.value) == f"{path}: not found; run `mmprep filter` first"
    path.touch()
    assert require_exists(path, "mmprep filter") == path


def test_write_json_is_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", {"b": 1, "a": {"c": 0.5}})
    text = (tmp_path / "m.json").read_text()
    assert text == '{\n  "b": 1,\n  "a": {\n    "c": 0.5\n  }\n}\n'
    assert json.loads(text) == {"b": 1, "a": {"c": 0.5}}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_write_json_refuses_what_is_not_a_number_and_keeps_the_old_file(tmp_path: Path, value: float) -> None:
    path = tmp_path / "m.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": value})
    assert json.loads(path.read_text()) == {"a": 1}
    assert names(tmp_path) == ["m.json"]


def test_what_write_json_wrote_is_read_back(tmp_path: Path) -> None:
    values = {"b": 1, "a": {"c": 0.5}, "d": ["é", None]}
    write_json(tmp_path / "m.json", values)
    found = read_json(tmp_path / "m.json")
    assert (found, list(found)) == (values, ["b", "a", "d"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b'{"a": ', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "found list, expected an object"),
        (b"null", "found NoneType, expected an object"),
    ],
)
def test_file_without_a_json_object_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}$"):
        read_json(tmp_path / "m.json")


def test_a_folder_that_two_processes_write_at_once_is_one_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, meant = tmp_path / "vgg16", Path.rename
    meddled = chain([True, True], repeat(False))

    def rename_after_another(self: Path, target: Path) -> Path:
        if next(meddled):
            path.mkdir()
            (path / "part").write_text("another's")
        return meant(self, target)

    monkeypatch.setattr(Path, "rename", rename_after_another)
    with atomic_folder(path) as temporary:
        (temporary / "part").write_text("ours")
    assert (path / "part").read_text() == "ours"
    assert [each.name for each in tmp_path.iterdir()] == ["vgg16"]
