"""Reads, without importing anything, which of our modules each of our modules imports."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = ("pipeline", "models", "stages")


@cache
def module_files() -> dict[str, Path]:
    """Each module of ours, by dotted name."""
    files = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
    return {
        ".".join(("mmprep", *path.relative_to(ROOT).with_suffix("").parts)): path.relative_to(ROOT) for path in files
    }


@cache
def imports_of(module: str) -> set[str]:
    """The modules of ours that a module imports when it runs, also inside functions."""
    files = module_files()
    tree = ast.parse((ROOT / files[module]).read_text())
    hidden = {id(inner) for node in ast.walk(tree) if is_for_types_alone(node) for inner in ast.walk(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found & files.keys()


def is_for_types_alone(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
