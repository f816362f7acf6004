"""Fresh checkouts of the repository, in which commands run as a user would run them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from imports import ROOT

AUTHOR = {"NAME": "A Tester", "EMAIL": "tester@example.com"}


def environment() -> dict[str, str]:
    """The environment of a user who has activated the virtual environment that runs the tests."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_", "MAKE"))},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VENV": sys.prefix,
        # `make` must not install the checkout into the environment that runs the tests.
        "INSTALLED": sys.executable,
        "HF_HUB_OFFLINE": "1",
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in AUTHOR.items()},
    }


def run(folder: Path, *command: str) -> str:
    """Run a command in a folder and return what it printed; a failure fails the test."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def fail(folder: Path, *command: str) -> str:
    """Run a command that must fail in a folder and return what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode != 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def check_out(target: Path) -> Path:
    """A new git repository with the working tree's files, tracked or not, less those that git ignores."""
    files = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
    run(target, "git", "init", "-q", "-b", "main")
    run(target, "git", "add", "-A")
    run(target, "git", "commit", "-q", "-m", "checkout")
    return target


def change(folder: Path, old: str, new: str) -> None:
    """Change one key of params.yaml."""
    path = folder / "params.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def add_tiny(folder: Path) -> None:
    """Give a checkout the dataset `tiny`, of 60 users and 40 items, with parameters by which its stages are quick."""
    run(folder, "mmprep", "sample", "data/raw/tiny", "--users", "60", "--items", "40", "--reviews", "800")
    change(folder, "dataset: sample", "dataset: tiny")
    change(folder, "max_epochs: 1000", "max_epochs: 5")
    change(folder, "max_reject_fraction: 0.05", "max_reject_fraction: 0.1")  # 3 of its 38 photos are bad
    alexnet_for_vgg16(folder)


def alexnet_for_vgg16(folder: Path) -> None:
    """Encode photos by the network whose vectors are as long and that takes a tenth of the time."""
    path = folder / "params.yaml"
    path.write_text(path.read_text().replace("vgg16", "alexnet"))


def copy(source: Path, target: Path) -> Path:
    """A copy of a checkout that a test may change, with all that was run in it."""
    shutil.copytree(source, target, symlinks=True)
    return target


def share(folder: Path, remote: str, *settings: tuple[str, str]) -> None:
    """Push what the pipeline has made to a remote."""
    run(folder, "dvc", "remote", "add", "-d", "team", remote)
    for name, value in settings:
        run(folder, "dvc", "remote", "modify", "team", name, value)
    run(folder, "dvc", "push")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "features")


def assert_second_clone_runs_nothing(first: Path, second: Path) -> None:
    run(first, "git", "clone", "-q", str(first), str(second))
    run(second, "dvc", "pull", "data/raw/tiny.dvc", "extract@minilm", "graph-cooccurrence", "--with-deps")
    made = sorted(path.relative_to(first) for path in (first / "data/features/tiny/minilm").iterdir())
    assert made
    for path in made:
        assert (second / path).read_bytes() == (first / path).read_bytes()
    output = run(second, "dvc", "repro", "extract@minilm", "graph-cooccurrence")
    assert "Running stage" not in output
    assert "all" in run(second, "mmprep", "verify").splitlines()[-1]
