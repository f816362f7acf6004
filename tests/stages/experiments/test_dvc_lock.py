"""DVC's lock file, as a killed process leaves it."""

import fcntl
import sys
from pathlib import Path

import pytest
from checkout import fail, run

from mmprep.stages.experiments.dvc_lock import RWLOCK, heal

INFO = '{"read": {"/p/x": [{"pid": 1, "cmd": "dvc repro"}]}, "write": {}}'
DAMAGED = ["", "{", INFO[:-1], INFO[: len(INFO) // 2], "[]", "null", '{"read": []}', '{"other": {}}', "\0" * 8]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / RWLOCK
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_lock_is_removed(tmp_path: Path, lock: Path, content: str) -> None:
    lock.write_text(content)
    assert heal(tmp_path)
    assert not lock.exists()
    assert not heal(tmp_path)


@pytest.mark.parametrize("content", [INFO, "{}", '{"write": {}}'])
def test_a_whole_lock_is_kept(tmp_path: Path, lock: Path, content: str) -> None:
    lock.write_text(content)
    assert not heal(tmp_path)
    assert lock.read_text() == content


def test_a_lock_that_is_being_written_is_kept(tmp_path: Path, lock: Path) -> None:
    lock.touch()
    with lock.with_name("rwlock.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        assert not heal(tmp_path)
    assert lock.exists()


def test_dvc_runs_again_after_the_lock_is_healed(tmp_path: Path) -> None:
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    (tmp_path / "dvc.yaml").write_text("stages: {touch: {cmd: touch out, outs: [out]}}\n")
    (tmp_path / RWLOCK).parent.mkdir(exist_ok=True)
    (tmp_path / RWLOCK).touch()
    assert "JSON structure is corrupted" in fail(tmp_path, "dvc", "repro")
    command = [sys.executable, "-m", "mmprep.stages.experiments.dvc_lock"]
    assert run(tmp_path, *command) == (".dvc/tmp/rwlock: damaged, as left by a DVC process that was killed; removed\n")
    assert run(tmp_path, *command) == ""
    run(tmp_path, "dvc", "repro")
    assert (tmp_path / "out").exists()
