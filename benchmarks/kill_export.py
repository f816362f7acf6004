"""Kills `mmprep export` at its file operations, over an earlier export, and checks what is left.

Run it in a project that is split and has features of texts: python benchmarks/kill_export.py --kills 51. After each
kill the folder, or the hidden one that stands aside for it, must be the old or the new export whole, and the next run
must give the new one and leave nothing else.
"""

import argparse
import hashlib
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from itertools import count
from pathlib import Path

from mmprep.pipeline.layout import Layout
from mmprep.stages.config.load import DEFAULT_FILE, load
from mmprep.stages.export.export import WRITERS, Target, run

OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir"}
Content = dict[str, str]


def content(folder: Path) -> Content:
    """Digest of each file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def export(target: Target, layout: Layout, out: Path, text: str | None, die_at: int = 0) -> tuple[int, int]:
    """Export in a process of its own.

    Args:
        target: the format.
        layout: the dataset's paths.
        out: the folder.
        text: encoder of texts, in which the old and the new export differ.
        die_at: number of the operation on files beside `out` at which the process is killed; 0 for none.

    Returns:
        The process's status, and the number of operations, 0 if it was killed.
    """
    numbers, place = count(1), str(out.parent)
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            counted = pipe.read()
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), int(counted or 0)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        path = arguments[0] if arguments else None
        if event in OPERATIONS and isinstance(path, (str, Path)) and str(path).startswith(place) and die_at:
            if next(numbers) == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
        elif event in OPERATIONS and isinstance(path, (str, Path)) and str(path).startswith(place):
            next(numbers)

    status = 1
    try:
        sys.addaudithook(audit)
        run(target, layout, out, None, text)
        os.write(writer, str(next(numbers) - 1).encode())
        status = 0
    finally:
        os._exit(status)


def left(out: Path) -> Content:
    """The export under its name or, if the kill came between the two renamings, under the hidden one."""
    if out.exists():
        return content(out)
    aside = list(out.parent.glob(f".{out.name}.*.replaced"))
    return content(aside[0]) if len(aside) == 1 else {}


def outcomes(target: Target, layout: Layout, text: str, scratch: Path, kills: int) -> Counter[str]:
    """Kill one format's export at evenly spread operations."""
    out, old_copy, found = scratch / "out", scratch / "old", Counter[str]()
    export(target, layout, out, None)
    shutil.copytree(out, old_copy)
    old = content(out)
    _, operations = export(target, layout, out, text)
    new = content(out)
    for number in range(kills):
        shutil.rmtree(out)
        shutil.copytree(old_copy, out)
        status, _ = export(target, layout, out, text, die_at=1 + number * operations // kills)
        state = {str(old): "old", str(new): "new"}.get(str(left(out)), "DAMAGED")
        rc, _ = export(target, layout, out, text)
        again = "next run works" if rc == 0 and content(out) == new else "NEXT RUN FAILS"
        beside = len([path for path in scratch.iterdir() if path not in (out, old_copy)])
        how = "killed" if status == -signal.SIGKILL else "ENDED BEFORE"
        found[f"{target}, {how}: {state} export whole; {again}; {beside} leftovers"] += 1
    return found


def main() -> None:
    """Print the outcomes, and fail if one is bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=51, help="number of kills, shared by the three formats")
    parser.add_argument("--text", default="minilm")
    arguments = parser.parse_args()
    layout = Layout(Path("data"), load(DEFAULT_FILE).dataset)
    bad = False
    for target in WRITERS:
        with tempfile.TemporaryDirectory() as scratch:
            found = outcomes(target, layout, arguments.text, Path(scratch), arguments.kills // len(WRITERS))
        for outcome, times in sorted(found.items()):
            print(f"{times:>4} {outcome}")
            bad = bad or any(word in outcome for word in ("DAMAGED", "FAILS", "BEFORE")) or "0 leftovers" not in outcome
    sys.exit(bad)


if __name__ == "__main__":
    main()
