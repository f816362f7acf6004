"""The README's commands in the order in which they stand, in one fresh checkout, less those of its own-data section."""

import re

import pytest
from checkout import check_out
from readme import README, commands, run_all, section_of_own_data

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each command of the README printed."""
    folder = check_out(tmp_path_factory.mktemp("readme") / "mmprep")
    return run_all(folder, commands(README.replace(section_of_own_data(), "")))


def test_demo_shows_metrics_and_says_where_everything_lies(outputs: dict[str, str]) -> None:
    demo = outputs["make demo"]
    for word in ("recall@20", "bpr", "lightgcn", "vbpr", "data/features/sample/vgg16", "recommendations.parquet"):
        assert word in demo
    assert "vgg16 has random weights" in demo


def test_vbpr_beats_bpr_on_the_sample_as_planted(outputs: dict[str, str]) -> None:
    rows = re.findall(r"│ (\w+)\s+│ \S+\s+│ (\S+)", outputs["make demo"])
    recall = {name: float(value) for name, value in rows}
    popularity = 0.12  # what recommending the same most bought items to all gives
    assert recall["bpr"] > 1.5 * popularity
    assert recall["lightgcn"] > 1.5 * popularity
    assert recall["vbpr"] > 1.15 * recall["bpr"]


def test_freedom_beats_lightgcn_on_the_sample_as_planted(outputs: dict[str, str]) -> None:
    recall = {name: float(value) for name, value in re.findall(r"│ (\w+)\s+│ \S+\s+│ (\S+)", outputs["make demo"])}
    assert recall["freedom"] > 1.05 * recall["lightgcn"]


def test_neighbours_are_shown_and_bought_together_more_often_than_random_pairs(outputs: dict[str, str]) -> None:
    for graph in ("knn/minilm: weights are cosine similarities", "cooccurrence: weights are users", "checked mug"):
        assert graph in outputs["mmprep neighbors B0FY6F7N4B"]
    assert "page: data/neighbors.html" in outputs["mmprep neighbors B0FY6F7N4B --html data/neighbors.html"]
    told = dict(re.findall(r"^  (\S+) +(\S+)$", outputs["mmprep homophily"], flags=re.MULTILINE))
    assert float(told["knn/minilm_times_random"]) > 1.1


def test_a_user_sees_history_and_list(outputs: dict[str, str]) -> None:
    shown = outputs["mmprep recommend '#12' --recommender vbpr"]
    assert "history" in shown
    assert "vbpr: " in shown
    assert "+-" in outputs["mmprep train --recommender bpr --seeds 3"]
    assert "combinations" in outputs["mmprep search --recommender bpr --over regularisation=0.01,0.1"]


def test_second_repro_runs_nothing(outputs: dict[str, str]) -> None:
    assert "Running stage" not in outputs[". .venv/bin/activate && dvc repro"]


def test_readme_table_is_what_the_demo_prints(outputs: dict[str, str]) -> None:
    """To the digits that hold on any machine; the table shows the last ones of the machine that it was made on."""
    written = dict(re.findall(r"│ (\w+)\s+│ \S+\s+│ (\S+)", README))
    printed = dict(re.findall(r"│ (\w+)\s+│ \S+\s+│ (\S+)", outputs["make demo"]))
    assert written.keys() == printed.keys()
    for name, value in written.items():
        assert float(value) == pytest.approx(float(printed[name]), abs=0.03)


def test_colleague_pulls_the_features_and_runs_nothing(outputs: dict[str, str]) -> None:
    pulled = outputs["cd ../colleague && dvc pull && dvc repro"]
    assert "Running stage" not in pulled
    assert "up to date" in pulled


def test_experiments_ran(outputs: dict[str, str]) -> None:
    assert "Running stage 'filter'" in outputs["dvc exp run -S filter.k_core=3"]
    assert "recall@20" in outputs["dvc metrics show"]
