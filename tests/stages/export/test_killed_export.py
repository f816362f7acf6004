"""An export that is killed over an earlier one leaves one of the two whole, and the next run works."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from imports import ROOT
from worlds import write_vectors

from mmprep.pipeline.layout import Layout

SCRIPT = ROOT / "benchmarks" / "kill_export.py"


@pytest.fixture
def project(in_folder: Path) -> Path:
    """A small dataset after its split, with features of texts."""
    (in_folder / "params.yaml").write_text("dataset: toys\nfilter: {k_core: 1}\ningest: {max_reject_fraction: 0.5}\n")
    command = "from mmprep.stages.cli.main import main; main()"
    for arguments in (
        ["sample", "data/raw/toys", "--users", "10", "--items", "20", "--reviews", "50"],
        *(["ingest"], ["filter"], ["split"]),
    ):
        subprocess.run([sys.executable, "-c", command, *arguments], check=True, capture_output=True)
    layout = Layout(Path("data"), "toys")
    from mmprep.pipeline.tables.schemas import ITEMS

    write_vectors(layout, "minilm", np.ones((len(ITEMS.read(layout.items)), 2), dtype=np.float32))
    return in_folder


@pytest.mark.long
@pytest.mark.parametrize("kills", [30])
def test_a_killed_export_leaves_the_old_or_the_new_one_and_can_be_run_again(project: Path, kills: int) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--kills", str(kills)],
        cwd=project,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    assert sum(int(line.split()[0]) for line in lines) == kills
    assert all("export whole; next run works; 0 leftovers" in line for line in lines)
