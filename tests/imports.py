"""Where our modules lie."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("pipeline", "models", "stages")


def module_files() -> dict[str, Path]:
    """Each module of ours, by dotted name."""
    files = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
    return {
        ".".join(("mmprep", *path.relative_to(ROOT).with_suffix("").parts)): path.relative_to(ROOT) for path in files
    }
