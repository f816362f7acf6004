from pathlib import Path

import pytest
from imports import ROOT

from mmprep.models.recommenders.catalogue import CATALOGUE
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import read_yaml
from mmprep.stages.experiments.runner import checked
from mmprep.stages.experiments.spec import (
    ExperimentPoint,
    ExperimentSpec,
    find,
    load,
    match_paper_dataset,
    points,
    select_rows,
    settings,
)

SHIPPED = sorted((ROOT / "experiments").glob("*.yaml"))
VALUES = read_yaml(ROOT / "params.yaml")
PAPERS = {"am2hrec", "camgr", "da_mrs", "mdr_chca", "mgnm"}
TABLE = """
paper: P
source: Table 1
shows: two
metrics: [recall@20, ndcg@20]
set: {train.batch_size: 64}
as_published:
  every: {train.patience: 7, train.batch_size: 9}
  baby: {train.patience: 8}
rows:
  - {label: BPR, recommender: bpr, published: {baby: [0.05, null], sports: [0.1, 0.2]}}
  - {label: MICRO, published: {baby: [0.08, 0.04]}, note: ours it is not}
"""
SWEEP = """
paper: P
source: Figure 2
shows: a sweep
metrics: [recall@20, ndcg@20]
x: {name: k, keys: [graphs.knn.k, graphs.consistent.k], values: [5, 10]}
rows:
  - {label: MGCN, recommender: mgcn, curves: {baby: {ndcg@20: [null, 0.04]}}}
"""


def parse(text: str, folder: Path) -> ExperimentSpec:
    path = folder / "file.yaml"
    path.write_text(text)
    return load(path)


def runnable() -> list[tuple[Path, ExperimentPoint]]:
    """The experiments of all shipped files whose recommender is in the catalogue."""
    return [(path, point) for path in SHIPPED for point in points(load(path)) if point.recommender in CATALOGUE]


def test_every_shipped_file_has_numbers_of_one_paper_and_only_recommenders_that_are_known_or_to_come() -> None:
    assert {path.stem.split("-")[0] for path in SHIPPED} == PAPERS
    for path in SHIPPED:
        named = {row.recommender for row in load(path).rows if row.recommender}
        assert named <= CATALOGUE.keys() | PAPERS, path


def test_each_seed_draws_its_own_noise() -> None:
    noisy = {path.stem: load(path).seeded for path in SHIPPED if "noise." in path.read_text()}
    figures = {f"da_mrs-figure{each}" for each in ("3a", "3b", "4a", "4b")}
    assert noisy == dict.fromkeys(figures, ("train.seed", "noise.seed"))


@pytest.mark.parametrize(
    ("path", "point"), [pytest.param(*each, id=f"{each[0].stem}-{each[1].label}") for each in runnable()]
)
def test_every_row_makes_valid_parameters(path: Path, point: ExperimentPoint) -> None:
    checked(point, VALUES, path.stem)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_papers_settings_make_valid_parameters(path: Path) -> None:
    file = load(path)
    for dataset in (None, *file.datasets):
        wanted = settings(file, dataset)
        if {key.split(".")[1] for key in wanted if key.startswith("recommenders.")} <= CATALOGUE.keys():
            for point in points(file, wanted):
                if point.recommender in CATALOGUE:
                    checked(point, VALUES, path.stem)


def test_published_numbers_stand_as_the_papers_print_them() -> None:
    rows = {(path.stem, row.label): row for path in SHIPPED for row in load(path).rows}
    assert rows["da_mrs-table2", "DA-MRS + LightGCN"].published["clothing"] == (0.0963, 0.0050, 0.0433)
    assert rows["da_mrs-table2", "VBPR"].published["sports"] == (0.0856, 0.0048, 0.0384)
    assert rows["da_mrs-table5", "MF, T-CE"].published["tiktok"] == (0.0302, 0.0015, 0.0097)
    assert rows["am2hrec-table2", "MGCN"].published["sports"] == (0.0729, 0.1106, 0.0394, 0.0496)
    assert rows["mgnm-table1", "MGNM"].published["video"][2] == 0.2056
    assert rows["mgnm-table3", "w/o image"].published["beauty"][-1] == 0.0853
    assert rows["mgnm-table5", "delta = 0.001"].published["video"][0] == 0.0928
    assert rows["camgr-table4", "CAmgr"].curves["clothing"]["recall@20"] == (0.1039, 0.1075, 0.1102, 0.0580, 0.0584)
    assert rows["mdr_chca-table2", "MDR-CHCA"].published["sports"] == (0.1093, 0.0491, 0.0055)


def test_a_point_has_the_papers_settings_below_the_files_and_the_rows(tmp_path: Path) -> None:
    file = parse(TABLE, tmp_path)
    assert points(file)[0].overrides == {"train.batch_size": 64}
    assert points(file, settings(file, "baby"))[0].overrides == {"train.batch_size": 64, "train.patience": 8}
    assert points(file, settings(file, "sports"))[0].overrides["train.patience"] == 7


def test_a_sweep_is_a_point_a_value_of_all_its_keys(tmp_path: Path) -> None:
    first, second = points(parse(SWEEP, tmp_path))
    assert (first.label, second.label) == ("MGCN, k 5", "MGCN, k 10")
    assert second.overrides == {"graphs.knn.k": 10, "graphs.consistent.k": 10}
    assert (first.published, second.published) == ({}, {"baby": (None, 0.04)})


@pytest.mark.parametrize(
    ("dataset", "wanted", "found"),
    [
        ("baby", None, "baby"),
        ("Baby_2014_split", None, "baby"),
        ("Sports_and_Outdoors", None, "sports"),
        ("babysitter", None, None),
        ("baby-sports", None, None),
        ("sample", "sports", "sports"),
        ("baby", "sports", "sports"),
    ],
)
def test_a_dataset_is_like_the_papers_that_its_name_has_as_a_word(
    tmp_path: Path, dataset: str, wanted: str | None, found: str | None
) -> None:
    assert match_paper_dataset(parse(TABLE, tmp_path), dataset, wanted) == found


def test_rows_are_chosen_by_label(tmp_path: Path) -> None:
    file = parse(TABLE, tmp_path)
    assert [row.label for row in select_rows(file, ["MICRO"]).rows] == ["MICRO"]
    assert select_rows(file, []) == file
    with pytest.raises(ParamsError, match=r"^rows: found 'BRP', expected a row; did you mean BPR"):
        select_rows(file, ["BRP"])
    with pytest.raises(ParamsError, match=r"^like: found 'tiktok', expected a dataset of the paper"):
        match_paper_dataset(file, "toys", "tiktok")


def test_a_dataset_of_the_paper_suits_every_file_or_the_message_lists_those_that_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)
    assert match_paper_dataset(load(find("mdr_chca-figure4")), "toys", "baby") == "baby"
    with pytest.raises(ParamsError) as caught:
        match_paper_dataset(load(find("mgnm-table5")), "toys", "baby")
    assert str(caught.value) == (
        "like: found 'baby', expected a dataset of the paper (allowed: video); files with baby: mgnm-table1, "
        "mgnm-table3, mgnm-table4"
    )
    with pytest.raises(ParamsError) as caught:
        match_paper_dataset(load(find("mdr_chca-figure4")), "toys", "tiktok")
    assert str(caught.value) == (
        "like: found 'tiktok', expected a dataset of the paper (allowed: baby, sports, clothing); "
        "files with tiktok: da_mrs-table2, da_mrs-table5"
    )


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (TABLE, "shows: two", "shows: two\nshow: two", "show: no such key; did you mean shows?"),
        (TABLE, "label: BPR,", "label: BPR, seed: 3,", "rows.0.seed: no such key"),
        (TABLE, "recall@20,", "recall@30,", 'metrics.0: found "recall@30", expected '),
        (TABLE, "[0.05, null]", "[5.0, null]", "BPR: published.baby: recall@20: found 5.0, expected at most 1"),
        (SWEEP, "[null, 0.04]", "[null, 4]", "MGCN: curves.baby.ndcg@20: ndcg@20: found 4.0, expected at most 1"),
        (TABLE, "[0.05, null]", "[0.05]", "BPR: published.baby: found 1 numbers, expected 2"),
        (TABLE, "label: MICRO", "label: BPR", "rows: found 'BPR' twice, expected each label once"),
        (TABLE, "published: {baby: [0.08, 0.04]}", "curves: {baby: {ndcg@20: [0.1]}}", "found without x"),
        (SWEEP, "[null, 0.04]", "[0.04]", "MGCN: curves.baby.ndcg@20: found 1 numbers, expected 2"),
        (SWEEP, "{ndcg@20: [null", "{ndcg@10: [null", "MGCN: curves.baby.ndcg@10: not among metrics"),
        (SWEEP, "curves: {baby: {ndcg@20: [null, 0.04]}}", "published: {baby: [0.1, 0.2]}", "found beside x"),
    ],
)
def test_a_mistake_has_one_line(tmp_path: Path, text: str, old: str, new: str, message: str) -> None:
    assert text.count(old) == 1
    with pytest.raises(ParamsError) as raised:
        parse(text.replace(old, new), tmp_path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_row_with_wrong_parameters_is_named(tmp_path: Path) -> None:
    file = parse(TABLE.replace("train.batch_size: 64", "train.batch_sice: 64"), tmp_path)
    with pytest.raises(ParamsError, match=r"^t: BPR: train.batch_sice: no such key; did you mean batch_size"):
        checked(points(file)[0], VALUES, "t")
    file = parse(TABLE.replace("train.batch_size", "dataset.batch_size"), tmp_path)
    with pytest.raises(ParamsError, match=r"^t: BPR: dataset.batch_size: no such key, as dataset is no section"):
        checked(points(file)[0], VALUES, "t")


def test_a_file_is_found_by_name_and_by_path(in_folder: Path) -> None:
    (in_folder / "experiments").mkdir()
    (in_folder / "experiments" / "p-table1.yaml").write_text(TABLE)
    assert find("p-table1") == find("experiments/p-table1.yaml")
    with pytest.raises(ParamsError, match=r"^p-table2: no such file of experiments; did you mean p-table1"):
        find("p-table2")
