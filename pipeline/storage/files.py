"""Atomic writes of files and folders, SHA-256 digests and JSON."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmprep.pipeline.errors import MissingInputError, ParamsError
from mmprep.pipeline.storage.temporary import (
    abandoned_replacements,
    remove_leftovers,
    replaced_name,
    temporary_name,
)

TRIES = 10


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block raises nothing.

    A killed block or a power cut leaves the old file or none. Leftovers of killed processes are removed.
    """
    temporary = temporary_beside(path)
    try:
        with named_in_errors(path):
            yield temporary
            sync(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; replace `path` by it if the block raises nothing.

    A killed block leaves the old folder or the new one, possibly under a hidden name from which `restore` takes it.
    """
    with temporary_folder(path) as temporary, named_in_errors(path):
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file() and not file.is_symlink():
                sync(file)
        replace_folder(temporary, path)


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Add the path of a file or folder being written to system errors without one, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        elif error.filename is None and str(path) not in str(error):  # NumPy's, which has no number
            raise OSError(f"{path}: {error}") from error
        raise


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, removed with its content when the block ends."""
    temporary = temporary_beside(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        remove(temporary)


def replace_folder(temporary: Path, path: Path) -> None:
    """Rename a folder to `path`, replacing a folder of that name.

    A folder cannot be renamed over a non-empty one, so `path` is renamed aside first and removed at the end. As another
    process may create it in between, the renaming is retried.
    """
    aside = path.parent / replaced_name(path.name)
    for tries_left in reversed(range(TRIES)):
        with suppress(FileNotFoundError):  # there is none, or another process renames it, too
            path.rename(aside)
        try:
            temporary.rename(path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not tries_left:
                if aside.exists() and not path.exists():
                    aside.rename(path)
                raise
        else:
            remove(aside)
            return
        remove(aside)  # the other process's folder stands in its place


def restore(path: Path) -> None:
    """Give a folder its name back if a process was killed while it replaced the folder, and remove what it left."""
    for aside in abandoned_replacements(path.parent, path.name):
        if path.exists():
            remove(aside)
        else:
            with suppress(OSError):  # another process does the same
                aside.rename(path)


def sync(path: Path) -> None:
    """Write a file's content to the disk, on file systems that can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def temporary_beside(path: Path) -> Path:
    """A temporary path to rename to `path` later; creates the parent folder and removes leftovers of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    restore(path)
    remove_leftovers(path.parent, path.name)
    return path.parent / temporary_name(path.name)


def expand_user(text: str, place: str) -> Path:
    """Path with a leading `~` or `~USER` replaced by the user's home folder.

    Args:
        text: the path.
        place: the parameter or variable that it comes from, for the message.

    Raises:
        ParamsError: there is no such user, or the user has no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ParamsError(f"{place}: found {text!r}, expected the home folder of a user of this machine") from error


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_exists(path: Path, made_by: str) -> Path:
    """Return `path` if it exists.

    Raises:
        MissingInputError: it does not; the message names the command that makes it.
    """
    if not path.exists():
        raise MissingInputError(f"{path}: not found; run `{made_by}` first")
    return path


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        ValueError: the file is not JSON, or not an object; the message is a phrase without the path.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(values, dict):
        raise ValueError(f"found {type(values).__name__}, expected an object")
    return values
