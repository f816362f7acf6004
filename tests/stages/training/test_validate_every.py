"""`evaluate.every` on its way from params.yaml to each command that trains."""

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from worlds import one_thread, two_groups, write_world

from mmprep.pipeline.layout import Layout
from mmprep.stages.cli.main import main

PARAMS = """dataset: toys
train: {collaborative: [bpr], max_epochs: 5, batch_size: 128}
recommenders: {bpr: {embedding_size: 8}}
evaluate: {every: 2}
"""


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    root, name = logging.getLogger(), logging.getLevelName(logging.WARNING)
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.addLevelName(logging.WARNING, name)


@pytest.mark.parametrize(
    "options",
    [
        ["train", "--recommender", "bpr"],
        ["train", "--recommender", "bpr", "--seeds", "0,1"],
        ["search", "--recommender", "bpr", "--over", "regularisation=0.1,0.2"],
    ],
    ids=["train", "seeds", "search"],
)
def test_every_training_validates_when_params_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_world(two_groups(), Layout(Path("data"), "toys"))
    Path("params.yaml").write_text(PARAMS)
    with one_thread():
        result = CliRunner().invoke(main, options)
    assert result.exit_code == 0, result.output
    runs = [path.parent for path in Path("data").rglob("config.json")]
    assert len(runs) == (1 if len(options) == 3 else 2)
    for run in runs:
        assert json.loads((run / "config.json").read_text())["evaluate"] == {"every": 2}
        with (run / "history.csv").open(newline="") as file:
            assert [row["epoch"] for row in csv.DictReader(file) if row["recall@20"]] == ["2", "4", "5"]
