"""The house's rules that no linter knows: three floors, no printing, nothing re-exported."""

import ast

import pytest
from imports import FLOORS, ROOT, imports_of, module_files


def test_no_import_runs_up_a_floor() -> None:
    climbing = {
        f"{module} imports {imported}"
        for module in module_files()
        for imported in imports_of(module)
        if FLOORS.index(imported.split(".")[1]) > FLOORS.index(module.split(".")[1])
    }
    assert climbing == set()


# The command line is these: the commands, and what they show. Stages give values and report progress, so that they run
# as well in a notebook, in a test or on a worker that has no terminal.
COMMAND_LINE = {path.relative_to(ROOT) for path in (ROOT / "stages/cli").glob("*.py") if path.name != "__init__.py"}


def test_only_the_command_line_knows_click_and_prints() -> None:
    assert set(module_files().values()) >= COMMAND_LINE
    for path in set(module_files().values()) - COMMAND_LINE:
        tree = ast.parse((ROOT / path).read_text())
        names = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert "print" not in names, path
        assert not {module.split(".")[0] for module in modules} & {"click", "rich"}, path


def test_no_stage_imports_the_command_line() -> None:
    names = {".".join(("mmprep", *path.with_suffix("").parts)) for path in COMMAND_LINE}
    others = module_files().keys() - names
    assert {module for module in others if imports_of(module) & names} == set()


@pytest.mark.parametrize("path", [path for path in module_files().values() if path.name == "__init__.py"], ids=str)
def test_packages_hold_a_docstring_and_nothing_else(path: str) -> None:
    body = ast.parse((ROOT / path).read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


def test_constraints_pin_every_dependency_and_hold_no_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if "/" in line or "@" in line or line.count("==") != 1] == []
