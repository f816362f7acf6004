"""Kills `mmprep export` at moments spread over its run, over an earlier export, and checks what is left.

Run it in a project whose features are made: python benchmarks/kill_export.py --kills 50. After each kill the folder, or
the hidden one that stands aside for it, must be the old or the new export whole, and the next run must give the new one.
"""

import argparse
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ENTRY = "from mmprep.stages.cli.main import main; main()"
Content = dict[str, str]


def command(out: Path, text: str) -> list[str]:
    """The export that is killed; the modality `text` makes the old and the new one differ."""
    options = ["--to", "numpy", str(out), "--image", "", "--text", text]
    return [sys.executable, "-c", ENTRY, "export", *options]


def content(folder: Path) -> Content:
    """Digest of each file by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def export(out: Path, text: str) -> Content:
    """Export whole, and return what it wrote."""
    subprocess.run(command(out, text), check=True, capture_output=True)
    return content(out)


def kill_after(seconds: float, out: Path, text: str) -> bool:
    """Start an export and kill it after a time; return whether it was still running."""
    process = subprocess.Popen(command(out, text), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return running


def left(out: Path) -> Content:
    """The export under its name or, if the kill came between the two renamings, under the hidden one."""
    if out.exists():
        return content(out)
    aside = list(out.parent.glob(f".{out.name}.*.replaced"))
    return content(aside[0]) if len(aside) == 1 else {}


def main() -> None:
    """Print the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--text", default="minilm")
    kills, text = (lambda parsed: (parsed.kills, parsed.text))(parser.parse_args())
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        out = Path(scratch) / "out"
        old = export(out, "")
        shutil.rmtree(out)
        start = time.monotonic()
        new = export(out, text)
        whole = time.monotonic() - start
        outcomes: Counter[str] = Counter()
        for number in range(kills):
            shutil.rmtree(out)
            export(out, "")
            # Half of the kills in the last tenth, when files are written and renamed.
            share = number / kills * 2 if number % 2 else 0.85 + 0.15 * number / kills
            running = kill_after(whole * min(share, 1.0), out, text)
            state = {str(old): "old", str(new): "new"}.get(str(left(out)), "DAMAGED")
            again = "next run gives the new one" if export(out, text) == new else "NEXT RUN FAILS"
            leftovers = len([path for path in out.parent.iterdir() if path != out])
            outcomes[f"{'killed' if running else 'ended before'}: {state} export whole; {again}; {leftovers} left"] += 1
    for outcome, count in outcomes.most_common():
        print(f"{count:>4} {outcome}")


if __name__ == "__main__":
    main()
