"""Removal of a damaged `.dvc/tmp/rwlock`, with which every `dvc repro` fails.

DVC rewrites the file in place, so that a kill can leave it empty or cut off. `make demo` and experiments remove it
before they start DVC. By hand, in the project's folder: `python -m mmprep.stages.experiments.dvc_lock`.
"""

import json
import sys
from pathlib import Path

from filelock import lock_descriptor

RWLOCK = Path(".dvc/tmp/rwlock")
KEYS = {"read", "write"}


def heal(project: Path) -> bool:
    """Remove the file if it is damaged and no DVC process is writing it; return whether it was removed."""
    path = project / RWLOCK
    if not is_damaged(path):
        return False
    # DVC holds this lock while it writes.
    with path.with_name(f"{path.name}.lock").open("a", encoding="utf-8") as guard:
        if not lock_descriptor(guard.fileno(), blocking=False) or not is_damaged(path):
            return False
        path.unlink()
    return True


def is_damaged(path: Path) -> bool:
    """Whether the file exists and holds something else than DVC's JSON object."""
    if not path.is_file():
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    return not (isinstance(content, dict) and content.keys() <= KEYS and all(map(is_mapping, content.values())))


def is_mapping(value: object) -> bool:
    """Whether a JSON value is an object."""
    return isinstance(value, dict)


if __name__ == "__main__" and heal(Path.cwd()):
    sys.stderr.write(f"{RWLOCK}: damaged, as left by a DVC process that was killed; removed\n")
