"""Rules of the architecture that no linter knows, and that the contracts of import-linter hold what they say."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from imports import FLOORS, ROOT, module_files


def test_contracts_name_every_room() -> None:
    """import-linter holds the floors and rooms (`make lint`); a room that no contract names would be held by none."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    command_line = next(each for each in contracts if each["name"] == "Only the command line knows click and rich")
    rooms = {f"mmprep.stages.{path.parent.name}" for path in (ROOT / "stages").glob("*/__init__.py")}
    assert set(command_line["source_modules"]) == {"mmprep.pipeline", "mmprep.models", *rooms} - {"mmprep.stages.cli"}


@pytest.mark.parametrize(
    ("importer", "imported", "contract"),
    [
        ("pipeline/text.py", "mmprep.models.device", "Three floors"),
        ("pipeline/storage/files.py", "mmprep.pipeline.tables.table", "Rooms of the ground floor"),
        ("models/layers/losses.py", "mmprep.models.training.metrics", "Rooms of the middle floor"),
        ("models/encoders/weights/hub.py", "mmprep.models.encoders.image_encoder", "Encoders"),
        ("models/layers/camgr/row_attention.py", "mmprep.models.layers.da_mrs.backbones", "Layers of one system"),
        ("stages/extract/inputs.py", "mmprep.stages.training.train", "Rooms of the top floor"),
        ("stages/explore/report.py", "rich", "Only the command line"),
        ("models/training/metrics.py", "mmprep.models.training.trainer", "No circles"),
    ],
)
def test_contracts_catch_an_import_against_them(tmp_path: Path, importer: str, imported: str, contract: str) -> None:
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / "mmprep" / floor, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mmprep" / "__init__.py", tmp_path / "mmprep")
    path = tmp_path / "mmprep" / importer
    path.write_text(path.read_text() + f"\nimport {imported}\n")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()"]
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, *config], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert done.returncode == 1, done.stdout
    assert any(line.startswith(contract) for line in broken), broken


@pytest.mark.parametrize("path", [path for path in module_files().values() if path.name == "__init__.py"], ids=str)
def test_packages_hold_a_docstring_and_nothing_else(path: str) -> None:
    body = ast.parse((ROOT / path).read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)


def test_constraints_pin_every_dependency_and_hold_no_address() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if "/" in line or "@" in line or line.count("==") != 1] == []
