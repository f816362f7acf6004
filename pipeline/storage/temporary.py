"""Naming scheme for temporary files that distinguishes leftovers of dead processes from files being written.

A temporary file is `.NAME.HOST.PROCESS.STARTED.RANDOM.partial`:

- NAME: the file that it becomes;
- HOST: a digest of machine, boot and container, within which a PID identifies a process;
- PROCESS and STARTED: the writer's PID and start time. PIDs alone are reused: each container has a PID 1, which would
  take the files of an earlier PID 1 for its own;
- RANDOM: since threads of one process may write the same file.

A folder that is being replaced is renamed to such a name with the ending `.replaced`, until the new one has its place.
"""

import hashlib
import math
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SUFFIX = ".partial"
REPLACED = ".replaced"
LEFTOVER_SECONDS = 24 * 3600
REPEATED_BYTES = 190  # of NAME; file systems allow 255 bytes in all

# Row caches of earlier versions have neither NAME nor STARTED. RANDOM has 16 characters, or the 8 of `tempfile`.
TEMPORARY = re.compile(
    r"\.(?:(?P<name>.+)\.)?(?P<host>[0-9a-f]{12})\.(?P<process>\d+)(?:\.(?P<started>\d+))?\.[0-9a-z_]{8,16}\.(?:partial|replaced)",
    re.DOTALL,
)
# Temporary files beside their targets, by earlier versions.
WITHOUT_HOST = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.partial", re.DOTALL)


@dataclass(frozen=True)
class Writer:
    """The process that chose a temporary name.

    Attributes:
        host: digest from `this_host`; None in names of earlier versions.
        process: PID.
        started: start time from `start_time`; 0 if unknown.
    """

    host: str | None
    process: int
    started: int = 0

    def is_running(self) -> bool | None:
        """Whether it is running; None if unknown, since it is or may be on another machine or in another container."""
        if self.host is None:
            # This process chooses no such names, so a name with its own PID is another process's.
            return True if self.process != os.getpid() and is_alive(self.process) else None
        return is_alive(self.process, self.started) if self.host == this_host() else None


def temporary_name(name: str) -> str:
    """A hidden name for the file that becomes `name`, unique among all calls, processes and machines."""
    return f"{temporary_prefix(name)}{os.urandom(8).hex()}{SUFFIX}"


def replaced_name(name: str) -> str:
    """A hidden name for the folder `name` while another takes its place, unique as those of `temporary_name`."""
    return f"{temporary_name(name).removesuffix(SUFFIX)}{REPLACED}"


def abandoned_replacements(folder: Path, name: str) -> list[Path]:
    """Folders in `folder` that had the name `name`, and whose writers died while another folder took their place."""
    matches = {path: TEMPORARY.fullmatch(path.name) for path in sorted(folder.glob(f".*{REPLACED}"))}
    of_name = {path: match for path, match in matches.items() if match and match["name"] in (name, repeated(name))}
    return [path for path, match in of_name.items() if is_abandoned(writer_of(match), partial(last_change, path))]


def temporary_prefix(name: str) -> str:
    """This process's temporary name for `name` up to the random part."""
    process = os.getpid()
    return f".{repeated(name)}.{this_host()}.{process}.{start_time(process)}."


def repeated(name: str) -> str:
    """The part of a file's name that its temporary names contain: the first REPEATED_BYTES."""
    return os.fsencode(name)[:REPEATED_BYTES].decode(errors="ignore")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Create an empty folder in the system's temporary folder, removed on close or when this process ends."""
    system = Path(tempfile.gettempdir())
    # Those of other hosts are kept: they may be in use although nothing is written, so their age says nothing.
    remove_leftovers(system, "mmprep", math.inf)
    return tempfile.TemporaryDirectory(prefix=temporary_prefix("mmprep"), suffix=SUFFIX, dir=system)


def remove_leftovers(folder: Path, name: str | None = None, seconds: float = LEFTOVER_SECONDS) -> None:
    """Remove temporary files and folders of dead writers; skip those that cannot be removed.

    Args:
        folder: folder to search.
        name: target file of the temporary files; None for any.
        seconds: time without a write after which files of other machines and containers are removed.
    """
    for path in list(folder.glob(f".*{SUFFIX}")):
        match = TEMPORARY.fullmatch(path.name) or WITHOUT_HOST.fullmatch(path.name)
        if match is None or (name is not None and match["name"] not in (name, repeated(name))):
            continue
        if is_abandoned(writer_of(match), partial(last_change, path), seconds):
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # it was a folder, is another user's, or another process removes it, too
                path.unlink()


def is_leftover(name: str, changed: float | None) -> bool:
    """Whether a file is temporary and its writer is dead, or on another host and silent for a day.

    Args:
        name: the file's name.
        changed: time of the last change, in seconds since 1970; None if unknown.
    """
    match = TEMPORARY.fullmatch(name)
    return match is not None and is_abandoned(writer_of(match), lambda: changed)


def is_temporary(name: str) -> bool:
    """Whether a file name is one of `temporary_name`."""
    return TEMPORARY.fullmatch(name) is not None


def writer_of(match: re.Match[str]) -> Writer:
    """The writer encoded in a temporary name."""
    parts = match.groupdict()
    return Writer(parts.get("host"), int(parts["process"]), int(parts.get("started") or 0))


def is_abandoned(writer: Writer, changed: Callable[[], float | None], seconds: float = LEFTOVER_SECONDS) -> bool:
    """Whether a temporary file's writer is dead, or presumed dead.

    Args:
        writer: the process that chose its name.
        changed: returns the time of its last change, in seconds since 1970, or None if unknown.
        seconds: time without a change after which a writer that may be on another host is presumed dead.
    """
    running = writer.is_running()
    if running is not None:
        return not running
    when = changed()
    return when is not None and time.time() - when > seconds


def last_change(path: Path) -> float | None:
    """Last modification time of a file, or of anything in a folder, in seconds since 1970; None if it is gone."""
    paths = [path, *(Path(folder, name) for folder, inner, files in os.walk(path) for name in (*inner, *files))]
    times = []
    for each in paths:
        with suppress(OSError):  # gone since it was listed
            times.append(each.lstat().st_mtime)
    return max(times, default=None)


def this_host() -> str:
    """Digest that identifies machine, boot and container, the scope within which a PID identifies a process."""
    parts = [platform.node()]
    with suppress(OSError):  # on Linux only; so below
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    for namespace in ("pid", "time"):  # time, since start times are counted from its zero
        with suppress(OSError):
            parts.append(str(Path(f"/proc/self/ns/{namespace}").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def is_alive(process: int, started: int = 0) -> bool:
    """Whether a process, possibly this one, is running on this host.

    Args:
        process: PID.
        started: start time, which distinguishes it from a later process with the same PID; 0 if unknown.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return started == 0 or start_time(process) in (0, started)


def start_time(process: int) -> int:
    """Start time of a process on this host, in clock ticks since boot; 0 if the system does not report it."""
    try:
        if Path("/proc/self").readlink().name != str(os.getpid()):  # /proc belongs to another container
            return 0
        # Split behind the second field, the program's name in brackets, which may contain brackets and spaces; the
        # start time is the 22nd field.
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
