"""Names of temporary files: host, process and a random part, so that no writer removes the live file of another."""

import hashlib
import os
import platform
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

from mmprep.pipeline.storage.store import Entry

LEFTOVER_SECONDS = 24 * 3600

TEMPORARY = re.compile(r"\.(?P<host>[0-9a-f]{12})\.(?P<process>\d+)\.[0-9a-f]{16}\.partial")


def temporary_name() -> str:
    """A name that no other process of any machine chooses, and that tells whether its process still runs."""
    return f".{this_host()}.{os.getpid()}.{secrets.token_hex(8)}.partial"


def this_host() -> str:
    """What tells this machine from others, where process numbers mean others: since its boot, and per container."""
    parts = [platform.node()]
    with suppress(OSError):  # only Linux has these
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def is_leftover(entry: Entry) -> bool:
    """Whether a file is what a writer left that runs no more: a dead process of this machine, or a day has passed."""
    found = TEMPORARY.fullmatch(entry.name)
    if found is None:
        return False
    if found["host"] == this_host() and not is_alive(int(found["process"])):
        return True
    return entry.changed is not None and time.time() - entry.changed > LEFTOVER_SECONDS


def is_alive(process: int) -> bool:
    """Whether a process of this number, maybe this one, runs on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
