from pathlib import Path

import pytest
from imports import ROOT

from mmprep.models.recommenders.catalogue import CATALOGUE
from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.params import parse_section, read_yaml
from mmprep.stages.experiments.settings import resolve_point
from mmprep.stages.experiments.spec import (
    AsPublished,
    ExperimentPoint,
    ExperimentSpec,
    Paper,
    find,
    load,
    load_paper,
    match_paper_dataset,
    points,
    select_rows,
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
  - {source: file, set: {train.patience: 7, train.batch_size: 9}}
  - {source: file on Baby, datasets: [baby], set: {train.patience: 8}}
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
    resolve_point(point, VALUES, "toys", path.stem, as_published=False)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_papers_settings_make_valid_parameters_on_each_of_its_datasets(path: Path) -> None:
    file = load(path)
    paper = load_paper(file, path)
    assert set(file.datasets) <= set(paper.datasets)
    assert paper.recommenders.keys() <= CATALOGUE.keys()
    every = [*paper.as_published, *file.as_published, *(each for row in file.rows for each in row.as_published)]
    every += [each for settings in paper.recommenders.values() for each in settings]
    assert {dataset for each in every for dataset in each.datasets} <= set(paper.datasets)
    for dataset in (None, *paper.datasets):
        for point in points(file, AsPublished(paper, dataset)):
            if point.recommender in CATALOGUE:
                resolve_point(point, VALUES, "toys", path.stem, as_published=True)


def published(file: str, label: str, dataset: str) -> dict[str, object]:
    """The settings of a row with --as-published."""
    path = ROOT / "experiments" / f"{file}.yaml"
    spec = load(path)
    chosen = points(spec, AsPublished(load_paper(spec, path), dataset))
    (point,) = [each for each in chosen if each.label == label]
    return {each.key: each.value for each in resolve_point(point, VALUES, "sample", "t", as_published=True).settings}


@pytest.mark.parametrize(
    ("file", "label", "dataset", "expected"),
    [
        # The authors' logs.
        ("da_mrs-table2", "SGL", "baby", {"recommenders.sgl.contrast": 0.01, "train.patience": 20}),
        ("da_mrs-table2", "SGL", "tiktok", {"recommenders.sgl.contrast": 0.001, "train.batch_size": 4096}),
        ("da_mrs-table2", "VBPR", "baby", {"recommenders.vbpr.regularisation": 1.0, "train.batch_size": 256}),
        ("da_mrs-table2", "BM3", "baby", {"recommenders.bm3.learning_rate": 0.001, "train.batch_size": 256}),
        ("da_mrs-table2", "LATTICE", "sports", {"recommenders.lattice.learning_rate": 0.0005}),
        ("da_mrs-table2", "LATTICE", "baby", {"recommenders.lattice.regularisation": 0, "train.batch_size": 256}),
        (
            "da_mrs-table2",
            "DA-MRS + LightGCN",
            "baby",
            {
                "recommenders.da_mrs.learning_rate": 0.001,
                "recommenders.da_mrs.behaviour_k": 2,
                "train.batch_size": 4096,
            },
        ),
        (
            "da_mrs-table2",
            "DA-MRS + LightGCN",
            "tiktok",
            {
                "recommenders.da_mrs.layers": 3,
                "graphs.consistent.k": 5,
                "recommenders.da_mrs.lambda1": 0.1,
                "recommenders.da_mrs.lambda2": 0.005,  # 0.01 in code that halves the loss
            },
        ),
        (
            "da_mrs-table2",
            "DA-MRS + LightGCN, as printed",
            "sports",
            {"recommenders.da_mrs.alpha": 3.0, "recommenders.da_mrs.beta": 3.0, "recommenders.da_mrs.ti_scale": "mean"},
        ),
        # Neighbours are a recommender's own: the baselines' 10 are not AM2HRec's and CAmgr's.
        ("am2hrec-table2", "AM2HRec", "baby", {"graphs.knn.k": 20}),
        ("am2hrec-table2", "MGCN", "baby", {"graphs.knn.k": 10}),
        ("camgr-table2", "CAmgr", "sports", {"graphs.knn.k": 15, "recommenders.camgr.learning_rate": 0.001}),
        ("camgr-table2", "MGCN", "sports", {"graphs.knn.k": 10}),
        ("mdr_chca-table2", "MDR-CHCA", "baby", {"split.rule": "lattice", "encoders.vit_b16_patches.image_size": 256}),
    ],
)
def test_row_runs_with_the_published_settings(file: str, label: str, dataset: str, expected: dict[str, object]) -> None:
    settings = published(file, label, dataset)
    assert {key: settings[key] for key in expected} == expected


def test_no_row_as_published_runs_what_suits_the_sample() -> None:
    fitted = VALUES["overlays"]["sample"]["recommenders"]
    assert published("camgr-table2", "BM3", "clothing")["recommenders.bm3.learning_rate"] == 0.001
    assert published("camgr-table2", "CAmgr", "baby")["recommenders.camgr.learning_rate"] == 0.001
    assert fitted["bm3"]["learning_rate"] == 0.01
    assert fitted["camgr"]["learning_rate"] == 0.003


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
    own = "set: {recommenders.bpr.learning_rate: 0.1}, as_published: [{source: row, set: {train.seed: 3}}]"
    file = parse(TABLE.replace("recommender: bpr", f"recommender: bpr, {own}"), tmp_path)
    general = [{"source": "paper", "set": {"train.patience": 6, "train.max_epochs": 5}}]
    of_bpr = {"bpr": [{"source": "log", "set": {"train.patience": 5, "recommenders.bpr.learning_rate": 0.2}}]}
    paper = parse_section(Paper, {"name": "P", "as_published": general, "recommenders": of_bpr}, "", "t")
    assert [settings.origin for settings in points(file)[0].settings] == ["this table", "this row"]
    assert [settings.origin for settings in points(file, AsPublished(paper, "baby"))[0].settings] == [
        *("paper", "log", "file", "file on Baby", "this table", "this row", "row")
    ]
    assert "log" not in [settings.origin for settings in points(file, AsPublished(paper, "baby"))[1].settings]
    resolved = resolve_point(points(file, AsPublished(paper, "sports"))[0], VALUES, "toys", "t", as_published=True)
    shown = {each.key: (each.value, each.origin) for each in resolved.settings}
    assert shown["train.patience"] == (7, "file")
    assert shown["train.batch_size"] == (64, "this table")
    assert shown["train.max_epochs"] == (5, "paper")
    assert shown["recommenders.bpr.learning_rate"] == (0.1, "this row")
    assert shown["recommenders.bpr.embedding_size"] == (64, "default")
    assert shown["split.rule"] == ("mmrec", "params.yaml")


def test_paper_starts_from_defaults_and_keeps_the_dataset_and_its_features(tmp_path: Path) -> None:
    values = {
        "dataset": "toys",
        "filter": {"k_core": 3},
        "encoders": {"minilm": {"template": "mmrec"}},
        "train": {"patience": 3, "token_memory": 7},
        "graphs": {"knn": {"k": 3}, "encoders": ["minilm", "vgg16"]},
        "recommenders": {"bpr": {"embedding_size": 8}},
        "overlays": {
            "toys": {"train": {"batch_size": 4}, "split": {"rule": "temporal"}, "evaluate": {"mask_val": True}}
        },
    }
    point = points(parse(TABLE.replace("set: {train.batch_size: 64}\n", ""), tmp_path))[0]
    own = resolve_point(point, values, "toys", "t", as_published=False).parameters
    assert (own.sections.train.batch_size, own.sections.train.patience, own.sections.graphs.knn.k) == (4, 3, 3)
    assert (own.recommender("bpr").embedding_size, own.sections.evaluate.mask_val) == (8, True)
    paper = resolve_point(point, values, "toys", "t", as_published=True).parameters
    assert (paper.sections.train.batch_size, paper.sections.train.patience, paper.sections.graphs.knn.k) == (
        2048,
        20,
        10,
    )
    assert (paper.recommender("bpr").embedding_size, paper.sections.evaluate.mask_val) == (64, False)
    for each in (own, paper):
        assert (each.sections.filter.k_core, each.sections.split.rule) == (3, "temporal")
        assert each.sections.train.token_memory == 7
        assert list(each.sections.graphs.encoders) == ["minilm", "vgg16"]
        assert each.sections.encoders == {"minilm": {"template": "mmrec"}}
    other = resolve_point(point, values, "books", "t", as_published=False).parameters
    assert (other.sections.train.batch_size, other.sections.split.rule) == (2048, "mmrec")


def test_a_sweep_is_a_point_a_value_of_all_its_keys(tmp_path: Path) -> None:
    first, second = points(parse(SWEEP, tmp_path))
    assert (first.label, second.label) == ("MGCN, k 5", "MGCN, k 10")
    (settings,) = second.settings
    assert (settings.origin, settings.values) == ("k", {"graphs.knn.k": 10, "graphs.consistent.k": 10})
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
    assert match_paper_dataset(parse(TABLE, tmp_path), Paper(name="P"), dataset, wanted) == found


def test_rows_are_chosen_by_label(tmp_path: Path) -> None:
    file = parse(TABLE, tmp_path)
    assert [row.label for row in select_rows(file, ["MICRO"]).rows] == ["MICRO"]
    assert select_rows(file, []) == file
    with pytest.raises(ParamsError, match=r"^rows: found 'BRP', expected a row; did you mean BPR"):
        select_rows(file, ["BRP"])
    with pytest.raises(ParamsError, match=r"^like: found 'tiktok', expected a dataset of the paper"):
        match_paper_dataset(file, Paper(name="P"), "toys", "tiktok")


def test_a_dataset_of_the_paper_suits_every_file_or_the_message_lists_those_that_have_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(ROOT)

    def match(name: str, like: str) -> str | None:
        file = load(find(name))
        return match_paper_dataset(file, load_paper(file, find(name)), "toys", like)

    for path in SHIPPED:
        for dataset in load_paper(load(path), path).datasets:
            assert match(path.stem, dataset) == dataset
    with pytest.raises(ParamsError) as caught:
        match("mdr_chca-figure4", "tiktok")
    assert str(caught.value) == (
        "like: found 'tiktok', expected a dataset of the paper (allowed: baby, sports, clothing); "
        "files with tiktok: da_mrs-table2, da_mrs-table5"
    )


def test_paper_without_a_file_is_a_title_and_a_name_needs_one(tmp_path: Path) -> None:
    assert load_paper(parse(TABLE, tmp_path), tmp_path / "file.yaml") == Paper(name="P")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "da_mrs.yaml").write_text("name: DA-MRS\n")
    file = parse(TABLE.replace("paper: P", "paper: da_mrs"), tmp_path)
    assert load_paper(file, tmp_path / "file.yaml").name == "DA-MRS"
    file = parse(TABLE.replace("paper: P", "paper: da_mr"), tmp_path)
    with pytest.raises(ParamsError, match=r"paper: found 'da_mr', expected a file under .*; did you mean da_mrs\?"):
        load_paper(file, tmp_path / "file.yaml")


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
        resolve_point(points(file)[0], VALUES, "toys", "t: BPR", as_published=False)
    file = parse(TABLE.replace("train.batch_size", "dataset.batch_size"), tmp_path)
    with pytest.raises(ParamsError, match=r"^t: BPR: dataset.batch_size: no such key, as dataset is no section"):
        resolve_point(points(file)[0], VALUES, "toys", "t: BPR", as_published=False)


def test_a_file_is_found_by_name_and_by_path(in_folder: Path) -> None:
    (in_folder / "experiments").mkdir()
    (in_folder / "experiments" / "p-table1.yaml").write_text(TABLE)
    assert find("p-table1") == find("experiments/p-table1.yaml")
    with pytest.raises(ParamsError, match=r"^p-table2: no such file of experiments; did you mean p-table1"):
        find("p-table2")
