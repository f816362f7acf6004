"""The copy of a project, under git and a stand-in for DVC."""

import inspect
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from checkout import AUTHOR
from imports import ROOT

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.stages.experiments.workspace import (
    MADE,
    PLACE,
    ExperimentError,
    ExperimentWorkspace,
    experiments,
    open_workspace,
)

# Notes what it is asked, writes what a stage would, and records an experiment as DVC does: a commit under refs/exps.
DVC = """#!{python}
import json, os, pathlib, subprocess, sys, time
asked = sys.argv[1:]
if asked[:2] == ["cache", "dir"]:
    if len(asked) == 2:
        print({cache!r})
    else:
        pathlib.Path(".dvc/config.local").write_text(asked[3])
    sys.exit()
told = {{"asked": asked, "params": pathlib.Path("params.yaml").read_text(), "path": os.environ["PYTHONPATH"]}}
told["raw"] = pathlib.Path("data/raw/toys/reviews").read_text()
told["left"] = pathlib.Path("data/runs/half").exists()
pathlib.Path("data/runs").mkdir(parents=True, exist_ok=True)
pathlib.Path("data/runs/half").touch()
pathlib.Path("params.yaml").write_text("changed by DVC")
print(json.dumps(told))
if "slow" in asked:
    pathlib.Path("running").write_text(f"{{os.getpid()}}\\n")
    time.sleep(60)
if "broken" in asked:
    print("error: loss is not finite\\nERROR: failed to reproduce 'broken'")
    sys.exit(1)
head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
name = asked[asked.index("--name") + 1]
subprocess.run(["git", "update-ref", f"refs/exps/{{head[:2]}}/{{head[2:]}}/{{name}}", head], check=True)
subprocess.run(["git", "update-ref", "refs/exps/exec/EXEC_HEAD", head], check=True)
"""


NEW = """\
dataset: n  # the folder
train:
  # Random seed.
  seed: 1
"""


@pytest.fixture(autouse=True)
def author(monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("AUTHOR", "COMMITTER"):
        for key, value in AUTHOR.items():
            monkeypatch.setenv(f"GIT_{role}_{key}", value)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a commit, a change that is not committed, and raw files that git ignores."""
    folder = tmp_path / "project"
    (folder / "data" / "raw" / "toys").mkdir(parents=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / ".gitignore").write_text("tmp\nconfig.local\n")
    (folder / ".gitignore").write_text("/data/?*\n")
    (folder / "params.yaml").write_text("dataset: old\n")
    (folder / "notes").write_text("old")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        git(folder, *command)
    (folder / "params.yaml").write_text(NEW)
    (folder / "notes").write_text("new")
    (folder / "data" / "raw" / "toys" / "reviews").write_text("good")
    return folder


@pytest.fixture
def copy(project: Path) -> Iterator[ExperimentWorkspace]:
    with open_workspace(project, stand_in(project)) as found:
        yield found


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def stand_in(project: Path) -> list[str]:
    path = project.parent / "dvc"
    path.write_text(DVC.format(python=sys.executable, cache=str(project / ".dvc" / "cache")))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


def run(copy: ExperimentWorkspace, name: str = "a", target: str = "evaluate@bpr") -> dict[str, object]:
    log = copy.project / "data" / "logs" / f"{name}.log"
    copy.run(name, {"dataset": name, "train": {"seed": 1}}, target, log)
    told: dict[str, object] = json.loads(log.read_text())
    return told


def test_an_experiment_sees_the_files_as_they_are_and_leaves_them_so(copy: ExperimentWorkspace) -> None:
    status = git(copy.project, "status", "--porcelain")
    copy.prepare()
    told = run(copy)
    assert told["asked"] == ["exp", "run", "--name", "a", "evaluate@bpr"]
    assert (told["params"], told["raw"]) == (NEW.replace("dataset: n", "dataset: a"), "good")
    assert (copy.folder / "notes").read_text() == "new"
    assert str(told["path"]).split(os.pathsep)[0] == str(copy.folder)
    assert (copy.project / "params.yaml").read_text() == NEW
    assert git(copy.project, "status", "--porcelain") == status
    cache = (copy.folder / ".dvc" / "config.local").read_text()
    assert (copy.folder / cache).resolve() == copy.project / ".dvc" / "cache"


def test_the_next_experiment_begins_with_the_same_files_and_what_was_half_done(copy: ExperimentWorkspace) -> None:
    copy.prepare()
    assert run(copy)["left"] is False
    told = run(copy, "b")
    assert (told["params"], told["left"]) == (NEW.replace("dataset: n", "dataset: b"), True)


def test_a_file_that_dvc_does_not_know_is_taken_once(copy: ExperimentWorkspace) -> None:
    copy.prepare()
    left = copy.folder / "data" / "runs" / "training_cost.json"
    left.parent.mkdir(parents=True)
    left.write_text("{}")
    assert [copy.pop_file(Path("data/runs/training_cost.json")) for _ in range(2)] == [b"{}", None]
    assert not left.exists()


def test_experiments_are_handed_to_the_project_and_found_by_their_digest(copy: ExperimentWorkspace) -> None:
    copy.prepare()
    run(copy, "row-12345678")
    found = copy.find("12345678")
    assert found is not None
    assert (found.name, found.revision) == ("row-12345678", copy.baseline)
    assert copy.find("87654321") is None
    assert experiments(copy.folder) == []


def test_one_that_was_killed_before_it_was_handed_over_is_not_run_again(copy: ExperimentWorkspace) -> None:
    copy.prepare()
    git(copy.folder, "update-ref", f"refs/exps/{copy.baseline[:2]}/{copy.baseline[2:]}/a", copy.baseline)
    log = copy.project / "a.log"
    assert copy.run("a", [], "evaluate@bpr", log).name == "a"
    assert not log.exists()


def test_what_dvc_notes_of_a_killed_experiment_is_forgotten(copy: ExperimentWorkspace) -> None:
    copy.prepare()
    run(copy)
    assert "EXEC_HEAD" in git(copy.folder, "for-each-ref")
    copy.reset()
    assert "EXEC_HEAD" not in git(copy.folder, "for-each-ref")


def test_a_failure_tells_the_stages_own_words_and_where_the_rest_is(copy: ExperimentWorkspace) -> None:
    copy.prepare()
    with pytest.raises(ExperimentError, match=r"^loss is not finite \(full log: .*a\.log\)$"):
        run(copy, target="broken")


def test_a_digest_changes_with_parameters_raw_files_and_what_is_asked_and_else_stays(project: Path) -> None:
    def digest(*asked: object) -> str:
        with open_workspace(project, stand_in(project)) as copy:
            return copy.digest("toys", *asked)

    first = digest("x")
    assert digest("x") == first
    (project / "README.md").write_text("words")
    assert digest("x") == first
    found = {first, digest("y")}
    (project / "data" / "raw" / "toys" / "reviews").write_text("better")
    found.add(digest("x"))
    (project / "params.yaml").write_text("newer")
    found.add(digest("x"))
    (project / "models").mkdir()
    (project / "models" / "new.py").write_text("")
    found.add(digest("x"))
    assert len(found) == 5


def test_a_project_that_was_moved_gets_a_new_copy(project: Path) -> None:
    with open_workspace(project, stand_in(project)) as copy:
        copy.prepare()
    moved = project.rename(project.parent / "moved")
    with open_workspace(moved, stand_in(moved)) as copy:
        copy.prepare()
        assert run(copy)["raw"] == "good"


def test_two_commands_do_not_run_at_once(copy: ExperimentWorkspace) -> None:
    with pytest.raises(DataError, match="experiments are running here"), open_workspace(copy.project):
        pass


def test_dvc_that_lost_its_parent_keeps_others_out(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mmprep.stages.experiments.workspace import open_workspace\n"
        "with open_workspace(Path(sys.argv[1]), sys.argv[2:]) as copy:\n"
        "    copy.prepare()\n"
        "    copy.run('a', {}, 'slow', Path(sys.argv[1]) / 'log')\n"
    )
    note = project / PLACE / "running"
    with subprocess.Popen([sys.executable, "-c", code, str(project), *stand_in(project)]) as parent:
        while not (note.exists() and note.read_text().endswith("\n")):
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    number = int(note.read_text())
    with pytest.raises(DataError, match="experiments are running here"), open_workspace(project):
        pass
    os.kill(number, signal.SIGKILL)
    wait_for_the_lock(project)


def wait_for_the_lock(project: Path) -> None:
    for _ in range(200):
        with suppress(DataError), open_workspace(project):
            return
        time.sleep(0.05)
    pytest.fail("the lock outlived the process")


def test_a_project_without_dvc_or_commits_is_told_what_to_do(tmp_path: Path) -> None:
    with (
        pytest.raises(MissingInputError, match=r"no \.dvc folder; run `git init` and `dvc init` first"),
        open_workspace(tmp_path),
    ):
        pass
    (tmp_path / ".dvc").mkdir()
    with pytest.raises(MissingInputError, match="no commit, on which experiments are based"), open_workspace(tmp_path):
        pass
    git(tmp_path, "init", "-q")
    with pytest.raises(MissingInputError, match="no commit, on which experiments are based"), open_workspace(tmp_path):
        pass
    assert not (tmp_path / PLACE).exists()


def test_every_folder_that_mmprep_writes_is_told_from_inputs_and_can_be_cleaned() -> None:
    named = set(re.findall(r'self\.root / "(\w+)"', inspect.getsource(Layout)))
    assert named - {"raw"} | {"code"} == MADE
    assert set(re.findall(r"data/(\w+)", (ROOT / "Makefile").read_text())) == MADE


@pytest.mark.parametrize("place", [".dvc/cache", "../größer/cache"])
@pytest.mark.parametrize("utf8", ["0", "1"])
def test_a_folder_of_any_letters_is_prepared_in_any_locale(
    project: Path, monkeypatch: pytest.MonkeyPatch, place: str, utf8: str
) -> None:
    renamed = project.rename(project.parent / "größe")
    cache = (renamed / place).resolve()
    cache.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "-f"], cwd=renamed, check=True)
    (renamed / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache}\n", encoding="utf-8")
    for name, value in (("LC_ALL", "C"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", utf8)):
        monkeypatch.setenv(name, value)
    with open_workspace(renamed) as copy:
        for _ in range(2):
            copy.prepare()
        monkeypatch.setenv("PYTHONUTF8", "1")
        shown = subprocess.run(
            [sys.executable, "-m", "dvc", "cache", "dir"], cwd=copy.folder, capture_output=True, check=True
        ).stdout.decode()
        assert (copy.folder / shown.strip()).resolve() == cache


def test_a_damaged_lock_of_the_copy_is_removed(copy: ExperimentWorkspace, caplog: pytest.LogCaptureFixture) -> None:
    copy.prepare()
    lock = copy.folder / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    copy.run("one", {"dataset": "n"}, "target", copy.project / "log")
    assert not lock.exists()
    assert f"{lock}: damaged, as left by a DVC process that was killed; removed" in caplog.text
