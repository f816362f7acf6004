"""A file of experiments on a small generated dataset, in a fresh checkout that has never run anything."""

import csv
import json
import re
from pathlib import Path

import pytest
from checkout import check_out, run

FILE = """
paper: Toys
source: Figure 1
shows: two recommenders
metrics: [recall@20, ndcg@20, epoch_seconds, peak_memory_mb]
set: {train.max_epochs: 3}
x:
  name: d
  keys: [recommenders.bpr.embedding_size, recommenders.lightgcn.embedding_size]
  values: [8]
rows:
  - {label: BPR, recommender: bpr, curves: {tiny: {recall@20: [0.5]}}}
  - {label: LightGCN, recommender: lightgcn}
"""
# tests/stages/experiments/ has each part of it with a DVC that runs nothing.
pytestmark = pytest.mark.long
COMMAND = ("mmprep", "experiment", "toys.yaml", "--dataset", "tiny")


@pytest.fixture(autouse=True)
def own_cache() -> None:
    """One row cache for the whole file, in the place of one for each test."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with changes that are not committed, raw files that git ignores, and half of the figure run."""
    folder = check_out(tmp_path_factory.mktemp("experiment") / "project")
    run(folder, "mmprep", "sample", "data/raw/tiny", "--users", "60", "--items", "40", "--reviews", "800")
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("max_reject_fraction: 0.05", "max_reject_fraction: 0.1"))
    (folder / "toys.yaml").write_text(FILE)
    return folder


def state(folder: Path) -> dict[str, bytes]:
    """All files of the user's, less what the command is for."""
    made = (".git", ".dvc", "data/experiments", "data/plots")
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in named.items() if not name.startswith(made)}


def test_each_row_is_an_experiment_and_the_workspace_stays_as_it_was(project: Path) -> None:
    before, status = state(project), run(project, "git", "status", "--porcelain")
    shown = run(project, *COMMAND, "--rows", "BPR")
    assert "ours, tiny" in shown
    assert "published, tiny" in shown
    assert state(project) == before
    assert run(project, "git", "status", "--porcelain") == status
    assert run(project, "git", "stash", "list") == ""


def test_the_rest_runs_beside_what_has_run_and_a_second_time_nothing_runs(project: Path) -> None:
    run(project, *COMMAND)
    logs = sorted((project / "data/experiments/tiny/toys").glob("*.log"))
    assert len(logs) == 2
    times = [log.stat().st_mtime_ns for log in logs]
    table = (project / "data/experiments/tiny/toys.csv").read_bytes()
    run(project, *COMMAND)
    assert [log.stat().st_mtime_ns for log in logs] == times
    assert (project / "data/experiments/tiny/toys.csv").read_bytes() == table
    ran = [set(re.findall(r"Running stage '([^']+)'", log.read_text())) for log in logs]
    assert set.union(*ran) >= {"ingest", "train@bpr", "evaluate@bpr", "train@lightgcn", "evaluate@lightgcn"}
    assert sum("ingest" in stages for stages in ran) == 1
    assert (project / "data/plots/tiny/toys.png").read_bytes().startswith(b"\x89PNG")


def test_dvc_lists_the_experiments_with_their_parameters_and_the_numbers_of_the_table(project: Path) -> None:
    listed = json.loads(run(project, "dvc", "exp", "show", "--json"))
    experiments = [each["revs"][0] for baseline in listed for each in baseline["experiments"] or []]
    assert len(experiments) == 2
    with (project / "data/experiments/tiny/toys.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["seeds"]]
    ours = {(row["row"].lower(), row["d"]): row["recall@20"] for row in rows}
    assert all(0 < float(row["epoch_seconds"]) < 60 and float(row["peak_memory_mb"]) > 50 for row in rows)
    for each in experiments:
        params = each["data"]["params"]["params.yaml"]["data"]
        (name,) = (*params["train"]["collaborative"], *params["train"]["multimodal"], *params["train"]["item_graphs"])
        metrics = each["data"]["metrics"][f"data/runs/tiny/{name}/metrics.json"]["data"]
        size = params["recommenders"][name]["embedding_size"]
        assert float(ours[name, str(size)]) == metrics["recall@20"] > 0
