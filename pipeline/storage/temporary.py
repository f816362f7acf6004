"""One naming scheme for temporary files, by which leftovers are told from the files of running writers.

A temporary file is `.NAME.HOST.PROCESS.STARTED.RANDOM.partial`:

- NAME: the file that it becomes;
- HOST: a digest of the machine, its boot and the container, where process numbers mean the same processes;
- PROCESS and STARTED: the writer's number and start time. A number alone is used again: each container has a process 1,
  which would take the files of the process 1 before it for its own;
- RANDOM: since threads of one process may write the same file.
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
LEFTOVER_SECONDS = 24 * 3600
REPEATED_BYTES = 190  # of NAME; file systems allow 255 bytes in all

# Row caches of earlier versions have neither NAME nor STARTED. RANDOM is of 16 characters, or of the 8 of `tempfile`.
TEMPORARY = re.compile(
    r"\.(?:(?P<name>.+)\.)?(?P<host>[0-9a-f]{12})\.(?P<process>\d+)(?:\.(?P<started>\d+))?\.[0-9a-z_]{8,16}\.partial",
    re.DOTALL,
)
# Files beside their targets by earlier versions.
WITHOUT_HOST = re.compile(r"\.(?P<name>.+)\.(?P<process>\d+)\.partial", re.DOTALL)


@dataclass(frozen=True)
class Writer:
    """The process that chose a temporary name.

    Attributes:
        host: as `this_host` gives it; None in a name of an earlier version.
        process: its number.
        started: as `start_time` gives it; 0 if unknown.
    """

    host: str | None
    process: int
    started: int = 0

    def is_running(self) -> bool | None:
        """Whether it runs; None if that cannot be known, since it is or may be of another machine or container."""
        if self.host is None:
            # This process chooses no such names, so its own number is another's.
            return True if self.process != os.getpid() and is_alive(self.process) else None
        return is_alive(self.process, self.started) if self.host == this_host() else None


def temporary_name(name: str) -> str:
    """A hidden name for the file that becomes `name`; no other call in any process of any machine gives it."""
    return f"{temporary_prefix(name)}{os.urandom(8).hex()}{SUFFIX}"


def temporary_prefix(name: str) -> str:
    """A temporary name of this process up to its random part."""
    process = os.getpid()
    return f".{repeated(name)}.{this_host()}.{process}.{start_time(process)}."


def repeated(name: str) -> str:
    """The beginning of a file's name that its temporary names repeat."""
    return os.fsencode(name)[:REPEATED_BYTES].decode(errors="ignore")


def scratch_folder() -> tempfile.TemporaryDirectory[str]:
    """Make an empty folder where the system keeps temporary files; it goes when it is closed, or with this process."""
    system = Path(tempfile.gettempdir())
    # Those of other hosts stay: they may hold what is only read, so that their age says nothing.
    remove_leftovers(system, "mmprep", math.inf)
    return tempfile.TemporaryDirectory(prefix=temporary_prefix("mmprep"), suffix=SUFFIX, dir=system)


def remove_leftovers(folder: Path, name: str | None = None, seconds: float = LEFTOVER_SECONDS) -> None:
    """Remove the temporary files and folders of writers that run no more; those that cannot be removed stay.

    Args:
        folder: where they lie.
        name: the file that they were to become; None for any.
        seconds: those of other machines and containers are removed after so long a time without a write.
    """
    for path in list(folder.glob(f".*{SUFFIX}")):
        found = TEMPORARY.fullmatch(path.name) or WITHOUT_HOST.fullmatch(path.name)
        if found is None or (name is not None and found["name"] not in (name, repeated(name))):
            continue
        if is_abandoned(writer_of(found), partial(last_change, path), seconds):
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):  # it was a folder, is another user's, or another process removes it, too
                path.unlink()


def is_leftover(name: str, changed: float | None) -> bool:
    """Whether a file is temporary and its writer runs no more, or is of another host and a day has passed.

    Args:
        name: the file's.
        changed: when it was written, in seconds since 1970; None if unknown.
    """
    found = TEMPORARY.fullmatch(name)
    return found is not None and is_abandoned(writer_of(found), lambda: changed)


def is_temporary(name: str) -> bool:
    """Whether a name is one that `temporary_name` gives."""
    return TEMPORARY.fullmatch(name) is not None


def writer_of(found: re.Match[str]) -> Writer:
    """The writer that a matched name tells."""
    parts = found.groupdict()
    return Writer(parts.get("host"), int(parts["process"]), int(parts.get("started") or 0))


def is_abandoned(writer: Writer, changed: Callable[[], float | None], seconds: float = LEFTOVER_SECONDS) -> bool:
    """Whether nobody will write a file any more.

    Args:
        writer: the process that chose its name.
        changed: gives the time of its last change, in seconds since 1970, or None if unknown.
        seconds: without a change, after which a writer that may be of another host is taken for dead.
    """
    running = writer.is_running()
    if running is not None:
        return not running
    when = changed()
    return when is not None and time.time() - when > seconds


def last_change(path: Path) -> float | None:
    """When a file, or anything in a folder, was written last, in seconds since 1970; None if it is gone."""
    paths = [path, *(Path(folder, name) for folder, inner, files in os.walk(path) for name in (*inner, *files))]
    times = []
    for each in paths:
        with suppress(OSError):  # gone since it was listed
            times.append(each.lstat().st_mtime)
    return max(times, default=None)


def this_host() -> str:
    """A digest of what tells apart the machines, boots and containers in which process numbers mean other processes."""
    parts = [platform.node()]
    with suppress(OSError):  # only Linux has these; so below
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
    for namespace in ("pid", "time"):  # the second since start times are counted from its zero
        with suppress(OSError):
            parts.append(str(Path(f"/proc/self/ns/{namespace}").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def is_alive(process: int, started: int = 0) -> bool:
    """Whether a process, maybe this one, runs on this host.

    Args:
        process: its number.
        started: its start time, by which it is told from a later process of the same number; 0 if unknown.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return started == 0 or start_time(process) in (0, started)


def start_time(process: int) -> int:
    """When a process of this host began, in clock ticks since the boot; 0 where the system does not tell."""
    try:
        if Path("/proc/self").readlink().name != str(os.getpid()):  # /proc is that of another container
            return 0
        # The second field, the program's name in brackets, may hold brackets and spaces; this is the 22nd.
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
