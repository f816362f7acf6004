"""Leftovers of dead writers go; no file of a running writer does, on whatever machine or in whatever container."""

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mmprep.pipeline.storage import temporary
from mmprep.pipeline.storage.files import atomic_file, atomic_folder
from mmprep.pipeline.storage.temporary import (
    LEFTOVER_SECONDS,
    is_leftover,
    is_temporary,
    remove_leftovers,
    scratch_folder,
    start_time,
    temporary_name,
    this_host,
)

DAY = LEFTOVER_SECONDS + 60
HERE, ELSEWHERE = "0123456789ab", "ba9876543210"


class Process(NamedTuple):
    host: str
    number: int
    started: int


class World:
    """Hosts and processes that a test makes up.

    Attributes:
        running: the processes that run.
        me: the one that runs the code under test.
    """

    def __init__(self, me: Process) -> None:
        self.running = {me}
        self.me = me

    def become(self, process: Process) -> None:
        self.running.add(process)
        self.me = process

    def kill(self, number: int, _signal: int) -> None:
        if not any((other.host, other.number) == (self.me.host, number) for other in self.running):
            raise ProcessLookupError

    def started(self, number: int) -> int:
        found = (other.started for other in self.running if (other.host, other.number) == (self.me.host, number))
        return self.me.started if number == self.me.number else next(found, 0)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(Process(HERE, 1, 100))
    monkeypatch.setattr(os, "getpid", lambda: made.me.number)
    monkeypatch.setattr(os, "kill", made.kill)
    monkeypatch.setattr(temporary, "this_host", lambda: made.me.host)
    monkeypatch.setattr(temporary, "start_time", made.started)
    return made


@pytest.fixture
def living_process() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left(folder: Path, name: str, age: float = 0) -> Path:
    """A file that was written so many seconds ago."""
    path = folder / name
    path.write_text("half")
    grow_old(path, age)
    return path


def grow_old(path: Path, age: float) -> None:
    os.utime(path, (time.time() - age,) * 2)


def write(path: Path) -> None:
    with atomic_file(path) as file:
        file.write_text("whole")


def test_names_are_hidden_never_the_same_and_ignored_by_dvc() -> None:
    found = {temporary_name("file.txt") for _ in range(100)}
    assert len(found) == 100
    start = f".file.txt.{this_host()}.{os.getpid()}.{start_time(os.getpid())}."
    assert all(name.startswith(start) and re.fullmatch(r"[0-9a-f]{16}\.partial", name[len(start) :]) for name in found)
    assert all(map(is_temporary, found))
    assert "*.partial" in (Path(__file__).parents[3] / ".dvcignore").read_text().splitlines()


@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize("started", [100, 200])
def test_two_containers_never_remove_each_others_files(tmp_path: Path, world: World, number: int, started: int) -> None:
    path, tree = tmp_path / "file.txt", tmp_path / "folder"
    with atomic_file(path) as mine, atomic_folder(tree) as my_tree:
        mine.write_text("first")
        (my_tree / "part").write_text("first")
        mine_to_go_on = world.me
        world.become(Process(ELSEWHERE, number, started))
        with atomic_file(path) as other, atomic_folder(tree) as other_tree:
            other.write_text("second")
            (other_tree / "part").write_text("second")
            assert mine.read_text() == (my_tree / "part").read_text() == "first"
            world.become(mine_to_go_on)
            write(path)
            with atomic_folder(tree):
                pass
            assert other.read_text() == (other_tree / "part").read_text() == "second"
            world.become(Process(ELSEWHERE, number, started))
        assert path.read_text() == "second"
        world.become(mine_to_go_on)
    assert path.read_text() == (tree / "part").read_text() == "first"
    assert names(tmp_path) == ["file.txt", "folder"]


def test_running_processes_and_threads_of_one_host_keep_their_files(tmp_path: Path, world: World) -> None:
    path = tmp_path / "file.txt"
    for process in (Process(HERE, 1, 100), Process(HERE, 2, 300)):
        world.become(process)
        left(tmp_path, temporary_name("file.txt"), age=10 * DAY)
    before = names(tmp_path)
    write(path)
    assert names(tmp_path) == [*before, "file.txt"]


@pytest.mark.parametrize("dead", [Process(HERE, 2, 300), Process(HERE, 1, 99)], ids=["gone", "number in use again"])
def test_what_a_dead_process_of_this_host_left_goes_at_once(tmp_path: Path, world: World, dead: Process) -> None:
    me = world.me
    world.become(dead)
    left(tmp_path, temporary_name("file.txt"))
    (tmp_path / temporary_name("folder") / "inner").mkdir(parents=True)
    (tmp_path / temporary_name("folder")).symlink_to(tmp_path.parent)
    world.running = {me}
    world.become(me)
    write(tmp_path / "file.txt")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert names(tmp_path) == ["file.txt", "folder"]
    assert tmp_path.parent.exists(), "a link is removed, not what it points to"


def test_what_another_host_left_goes_when_nothing_was_written_for_a_day(tmp_path: Path, world: World) -> None:
    me = world.me
    world.become(Process(ELSEWHERE, 5, 1))
    young, old = (left(tmp_path, temporary_name("file.txt"), age) for age in (DAY - 120, DAY))
    busy, idle = (tmp_path / temporary_name("folder") for _ in range(2))
    for folder, age in ((busy, 0), (idle, DAY)):
        folder.mkdir()
        left(folder, "part", age)
        grow_old(folder, DAY)
    world.become(me)
    write(tmp_path / "file.txt")
    with atomic_folder(tmp_path / "folder"):
        pass
    assert not old.exists()
    assert not idle.exists()
    assert names(tmp_path) == sorted([young.name, busy.name, "file.txt", "folder"])


def test_leftovers_of_other_files_stay(tmp_path: Path, world: World) -> None:
    me = world.me
    world.become(Process(HERE, 2, 300))
    others = [left(tmp_path, temporary_name(name)) for name in ("other.txt", "file.txt.gz", "a.file.txt", "file")]
    others += [
        left(tmp_path, name, DAY) for name in (".file.txt.partial", "file.txt.2.partial", ".file.txt.x.2.partial")
    ]
    world.running = {me}
    world.become(me)
    write(tmp_path / "file.txt")
    assert names(tmp_path) == sorted([*(path.name for path in others), "file.txt"])
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([".file.txt.partial", "file.txt", "file.txt.2.partial"])


def test_what_earlier_versions_left_goes_after_a_day_unless_its_process_runs(
    tmp_path: Path, dead_process: int, living_process: int
) -> None:
    for age, others in ((DAY, [living_process]), (DAY - 120, [living_process, dead_process, os.getpid()])):
        folder = tmp_path / str(age)
        folder.mkdir()
        for number in (living_process, dead_process, os.getpid()):
            left(folder, f".file.txt.{number}.partial", age)
        write(folder / "file.txt")
        assert names(folder) == sorted([*(f".file.txt.{number}.partial" for number in others), "file.txt"])


def test_what_cannot_be_removed_stops_nobody(tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    me = world.me
    world.become(Process(HERE, 2, 300))
    stays = left(tmp_path, temporary_name("file.txt"))
    world.running = {me}
    world.become(me)
    meant = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == stays:
            raise PermissionError
        meant(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    write(tmp_path / "file.txt")
    assert names(tmp_path) == [stays.name, "file.txt"]


@pytest.mark.parametrize(
    "name", ["x" * 255, "x" + "é" * 127, "[a]*?", "two\nlines", ".hidden", "..partial", "a.1.partial"]
)
def test_any_file_name_has_temporary_names_whose_leftovers_go(tmp_path: Path, world: World, name: str) -> None:
    me = world.me
    world.become(Process(HERE, 4_194_304, 10**11))
    left(tmp_path, temporary_name(name))
    world.running = {me}
    world.become(me)
    write(tmp_path / name)
    assert names(tmp_path) == [name]


def test_a_listed_file_is_a_leftover_once_its_writer_is_dead_or_a_day_has_passed(world: World) -> None:
    mine = temporary_name("x")
    world.become(Process(ELSEWHERE, 1, 100))
    foreign = temporary_name("x")
    world.become(Process(HERE, 2, 300))
    dead = temporary_name("x")
    world.running = {Process(HERE, 1, 100)}
    world.become(Process(HERE, 1, 100))
    now = time.time()
    assert is_leftover(dead, now)
    assert is_leftover(dead, None)
    assert not is_leftover(mine, now - DAY)
    assert not is_leftover(foreign, now)
    assert is_leftover(foreign, now - DAY)
    assert not is_leftover(foreign, None), "a store that does not tell"
    for other in ("notes.partial", ".notes.2.partial", f"{dead}.gz", dead[1:]):
        assert not is_leftover(other, now - DAY)


def test_leftovers_of_earlier_row_caches_are_known(world: World) -> None:
    for host, number, when, expected in (
        (HERE, 2, time.time(), True),
        (HERE, 1, time.time() - DAY, False),
        (ELSEWHERE, 2, time.time(), False),
        (ELSEWHERE, 2, time.time() - DAY, True),
    ):
        assert is_leftover(f".{host}.{number}.{'0' * 16}.partial", when) == expected
    assert world.me.host == HERE


def test_the_names_of_a_real_process_tell_when_it_is_dead() -> None:
    code = (
        "from mmprep.pipeline.storage.temporary import temporary_name; print(temporary_name('x'), flush=True); input()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert name.split(".")[2:5] == [this_host(), str(process.pid), str(start_time(process.pid))]
        assert not is_leftover(name, None)
        process.communicate("\n")
    assert is_leftover(name, None)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells when a process began")
def test_a_process_began_after_its_parent_and_before_now(living_process: int) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert 0 < start_time(os.getpid()) <= start_time(living_process) <= uptime * ticks + ticks


def test_a_start_time_is_read_behind_a_name_with_brackets_and_of_ones_own_host_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = " ".join(["S", *map(str, range(4, 53))])
    monkeypatch.setattr(Path, "read_bytes", lambda _: f"7 (a) b (c)) {fields}\n".encode())
    monkeypatch.setattr(Path, "readlink", lambda _: Path(str(os.getpid())))
    assert start_time(7) == 22
    monkeypatch.setattr(Path, "readlink", lambda _: Path("31337"))
    assert start_time(7) == 0, "/proc is another container's, where 7 is another process"
    monkeypatch.undo()
    assert start_time(999_999_999) == 0


@pytest.mark.parametrize("changed", ["name", "boot_id", "pid", "time"])
def test_a_host_is_a_machine_a_boot_and_a_container(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    told = {"name": "a", "boot_id": "b", "pid": "pid:[1]", "time": "time:[1]"}
    monkeypatch.setattr(platform, "node", lambda: told["name"])
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: told[path.name])  # noqa: ARG005
    monkeypatch.setattr(Path, "readlink", lambda path: Path(told[path.name]))
    before = this_host()
    assert re.fullmatch("[0-9a-f]{12}", before)
    assert this_host() == before
    told[changed] += "'"
    assert this_host() != before


def test_a_scratch_folder_goes_and_takes_those_of_the_dead_along(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    me = world.me
    kept = []
    for process in (Process(HERE, 2, 300), Process(ELSEWHERE, 2, 300)):
        world.become(process)
        folder = tmp_path / temporary_name("mmprep")
        folder.mkdir()
        left(folder, "copy", DAY)
        grow_old(folder, DAY)
        kept = [folder.name]
    world.running = {me}
    world.become(me)
    with scratch_folder() as one, scratch_folder() as other:
        assert is_temporary(Path(one).name)
        assert Path(one).stat().st_mode & 0o777 == 0o700
        assert names(tmp_path) == sorted([Path(one).name, Path(other).name, *kept])
    assert names(tmp_path) == kept, "what another host only reads may be old"
