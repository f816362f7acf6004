"""A copy of the project in which experiments run under DVC, so that the user's own files stay unchanged.

In the user's workspace DVC would leave params.yaml, dvc.lock and outputs changed. Its temporary clones lack raw files
that git ignores, and a kill loses them with their unfinished training. In both cases DVC first stashes uncommitted
changes, and a kill leaves them in the stash (treeverse/dvc issue 10655). This copy is made once and kept, so that a
killed training resumes. It shares git's objects, DVC's cache and the raw files with the project, and transfers each
experiment to it, where `dvc exp show` lists it.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import lock_descriptor

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.storage.files import atomic_folder, expand_user, remove
from mmprep.pipeline.storage.temporary import scratch_folder
from mmprep.stages.config.load import DEFAULT_FILE
from mmprep.stages.config.rewrite import rewrite
from mmprep.stages.experiments.dvc_lock import RWLOCK, heal

logger = logging.getLogger(__name__)

PLACE = Path(".dvc/tmp/experiments")
CODE = ("dvc.yaml", "params.yaml", "mmprep", "pipeline", "models", "stages")
# Below data/: outputs of stages and tools. Everything else is input, and is linked.
MADE = {
    *("code", "parameters", "interim", "processed", "features", "graphs", "runs", "metrics", "seeds", "searches"),
    *("denoised", "experiments", "modalities", "plots"),
}
REFS = "refs/exps"
UNFINISHED = f"{REFS}/exec"  # DVC's refs of a running experiment


class ExperimentError(DataError):
    """One experiment failed; the others go on."""


@dataclass(frozen=True)
class Experiment:
    """An experiment recorded by DVC.

    Attributes:
        name: its name in `dvc exp show`.
        revision: its commit.
        ref: its full git ref.
    """

    name: str
    revision: str
    ref: str


@dataclass(frozen=True)
class ExperimentWorkspace:
    """The copy, with the project's state at the start of the command.

    Attributes:
        project: the user's folder.
        baseline: the commit on which experiments are based.
        tree: git tree of all current files, committed or not.
        lock: the open lock file; DVC inherits it, so that an orphaned DVC process still holds the lock.
        dvc: the DVC command.
    """

    project: Path
    baseline: str
    tree: str
    lock: IO[str]
    dvc: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The copy's folder."""
        return self.project / PLACE

    def digest(self, dataset: str, *request: object) -> str:
        """Digest of everything that determines an experiment: code, parameters, raw files and the request."""
        raw = f"data/raw/{dataset}"
        listing = git(self.project, "ls-tree", self.tree, *CODE, raw, f"{raw}.dvc")
        is_tracked = any(line.endswith(f"\t{raw}") for line in listing.splitlines())
        files = [] if is_tracked else sorted(stamps(self.project / raw))
        text = json.dumps([listing, files, *request], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def find(self, digest: str) -> Experiment | None:
        """The experiment whose name ends in a digest, if there is one."""
        return next((found for found in experiments(self.project) if found.name.endswith(f"-{digest}")), None)

    def prepare(self) -> None:
        """Create the copy, or update it."""
        if (self.folder / ".git").is_dir() and not self.has_commit(self.baseline):  # the project was moved
            remove(self.folder)
        if not (self.folder / ".git").is_dir():
            with atomic_folder(self.folder) as fresh:
                git(self.project, "clone", "--quiet", "--shared", "--no-checkout", str(self.project), str(fresh))
        self.reset()
        cache = run_command([*self.dvc, "cache", "dir"], self.project).strip()
        run_command([*self.dvc, "cache", "dir", "--local", self.path_of_cache(self.project / cache)], self.folder)
        link_inputs(self.project, self.folder)

    def path_of_cache(self, cache: Path) -> str:
        """Path of DVC's cache from the copy, in ASCII: DVC writes no other letters to its configuration."""
        path = os.path.relpath(cache.resolve(), self.folder.resolve())
        if path.isascii():
            return path
        link = self.folder.with_suffix(".cache")
        link.unlink(missing_ok=True)
        link.symlink_to(cache.resolve())
        return os.path.relpath(link, self.folder)

    def has_commit(self, revision: str) -> bool:
        """Whether the copy has a commit."""
        try:
            git(self.folder, "cat-file", "-e", revision)
        except DataError:
            return False
        return True

    def reset(self) -> None:
        """Reset the copy's tracked files to the project's; outputs and unfinished trainings stay."""
        for ref in git(self.folder, "for-each-ref", "--format=%(refname)", UNFINISHED).split():
            git(self.folder, "update-ref", "-d", ref)
        git(self.folder, "update-ref", "--no-deref", "HEAD", self.baseline)
        git(self.folder, "read-tree", "--reset", "-u", self.tree)

    def run(self, name: str, values: Mapping[str, Any], target: str, log: Path) -> Experiment:
        """Run an experiment and transfer it to the project.

        Args:
            name: of the experiment.
            values: content of its params.yaml, without the sections that only the user's commands read.
            target: the stage to reproduce, with all outdated stages before it.
            log: file for the output of DVC and the stages.

        Raises:
            ExperimentError: a stage fails; the message is the stage's own.
        """
        self.reset()
        if heal(self.folder):
            logger.warning("%s: damaged, as left by a DVC process that was killed; removed", self.folder / RWLOCK)
        if not self.finished(name):  # it has, if it was killed between its end and its transfer
            rewrite(self.folder / DEFAULT_FILE, values)
            arguments = ["exp", "run", "--name", name, target]
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("w", encoding="utf-8") as file:
                done = subprocess.run(  # noqa: S603 - DVC, by a list of arguments
                    [*self.dvc, *arguments],
                    cwd=self.folder,
                    env=environment(self.project, self.folder),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    pass_fds=(self.lock.fileno(),),
                    check=False,
                )
            if done.returncode:
                raise ExperimentError(f"{reason(log)} (full log: {log})")
        finished = self.finished(name)
        if finished is None:
            raise ExperimentError(f"DVC recorded no experiment {name} (full log: {log})")
        git(
            self.project,
            "fetch",
            "--quiet",
            "--no-write-fetch-head",
            str(self.folder),
            f"+{finished.ref}:{finished.ref}",
        )
        git(self.folder, "update-ref", "-d", finished.ref)
        return finished

    def finished(self, name: str) -> Experiment | None:
        """A finished experiment in the copy; None if there is none of that name."""
        return next((found for found in experiments(self.folder) if found.name == name), None)

    def metrics(self, experiment: Experiment, path: str) -> dict[str, float] | None:
        """The content of an experiment's metrics file; None if it is no longer in DVC's cache."""
        import dvc.api
        from dvc.exceptions import DvcException

        try:
            text = dvc.api.read(path, repo=str(self.project), rev=experiment.revision)
        except (DvcException, OSError):
            return None
        found: dict[str, float] = json.loads(text)
        return found

    def pop_file(self, path: Path) -> bytes | None:
        """Remove a file of the last experiment that DVC does not track; return its content, None if there is none."""
        path_in_copy = self.folder / path
        if not path_in_copy.is_file():
            return None
        content = path_in_copy.read_bytes()
        path_in_copy.unlink()
        return content


@contextmanager
def open_workspace(project: Path, dvc: Sequence[str] = (sys.executable, "-m", "dvc")) -> Iterator[ExperimentWorkspace]:
    """Open the copy of a project in its current state, locked for this process.

    Raises:
        MissingInputError: the project is not under git and DVC, or has no commit.
        DataError: experiments of this project are running.
    """
    project = project.resolve()
    if not (project / ".dvc").is_dir():
        raise MissingInputError(f"{project}: no .dvc folder; run `git init` and `dvc init` first")
    try:
        baseline = git(project, "rev-parse", "--verify", "--quiet", "HEAD").strip()
    except DataError as error:
        raise MissingInputError(
            f"{project}: no commit, on which experiments are based; run `git init`, `git add -A` and `git commit` first"
        ) from error
    folder = project / PLACE
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w", encoding="utf-8") as lock:
        # Not `FileLock`, whose descriptor is private: DVC must inherit this one.
        if not lock_descriptor(lock.fileno(), blocking=False):
            raise DataError(f"{project}: experiments are running here; wait for them or stop them")
        yield ExperimentWorkspace(project, baseline, snapshot(project), lock, tuple(dvc))


def snapshot(project: Path) -> str:
    """Write the current tracked files, new code and dvc.lock as a git tree; nothing else changes. Return its digest."""
    with scratch_folder() as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git(project, "read-tree", "HEAD", environ=index)
        git(project, "add", "--update", ".", environ=index)
        new = [name for name in (*CODE, "dvc.lock", "data") if (project / name).exists()]
        git(project, "add", "--", *new, environ=index)
        return git(project, "write-tree", environ=index).strip()


def link_inputs(project: Path, copy: Path) -> None:
    """Link inputs of stages that git ignores: raw files, weights, and other files beside them."""
    for folder, left_out in ((Path(), {"data"}), (Path("data"), {"raw", *MADE}), (Path("data/raw"), set[str]())):
        (copy / folder).mkdir(exist_ok=True)
        for old in (copy / folder).iterdir():
            if old.is_symlink() and old.readlink() == project / folder / old.name:
                old.unlink()
        for path in (project / folder).glob("[!.]*"):
            link = copy / folder / path.name
            if path.name not in left_out and not link.exists():
                link.symlink_to(path)


def stamps(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Name, size and modification time of each file, to detect changes without reading the content."""
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            yield path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns


def experiments(folder: Path) -> list[Experiment]:
    """Experiments of a repository, newest first."""
    listed = git(folder, "for-each-ref", "--sort=-creatordate", "--format=%(objectname) %(refname)", REFS)
    found = [line.split(" ", 1) for line in listed.splitlines()]
    return [
        Experiment(ref.rpartition("/")[2], revision, ref) for revision, ref in found if not ref.startswith(UNFINISHED)
    ]


def git(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """Run a git command and return its output.

    Raises:
        DataError: it fails, or there is no git.
    """
    return run_command(["git", *arguments], folder, environ)


def run_command(command: Sequence[str], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output.

    Raises:
        DataError: it fails, or there is no such program.
    """
    env = {**without_git(), **(environ or {})}
    try:
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, env=env, capture_output=True, encoding="utf-8", errors="surrogateescape", check=False
        )
    except OSError as error:
        raise DataError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = [*done.stderr.strip().splitlines(), "failed"]
        raise DataError(f"{' '.join(command[:2])} in {folder}: {lines[0]}")
    return done.stdout


def without_git() -> dict[str, str]:
    """The environment in UTF-8, without the variables by which a git hook points git at another repository."""
    bound = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"}
    environ = {key: value for key, value in os.environ.items() if key not in bound}
    # Without UTF-8, DVC prints no path of a folder with other letters than ASCII.
    return {**environ, "PYTHONUTF8": "1"}


def environment(project: Path, copy: Path) -> dict[str, str]:
    """The environment of stages: this interpreter's programs, the copy's code, and the user's row cache."""
    env = without_git()
    cache = env.get("MMPREP_CACHE", "")
    if cache and "://" not in cache:
        env["MMPREP_CACHE"] = str(project / expand_user(cache, "MMPREP_CACHE"))
    programs = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    modules = os.pathsep.join(filter(None, [str(copy), env.get("PYTHONPATH", "")]))
    return {**env, "PATH": programs, "PYTHONPATH": modules}


def reason(log: Path) -> str:
    """Why an experiment failed: the stage's own message, or else DVC's last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error: ")]
    return (errors or lines or ["error: no message"])[0 if errors else -1].split(": ", 1)[-1]
