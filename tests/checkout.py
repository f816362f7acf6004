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
        **{key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "DVC_"))},
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
