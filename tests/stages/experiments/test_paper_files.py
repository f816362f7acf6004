"""experiments/papers: the settings of the papers' rows, as data."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from imports import ROOT

from mmprep.models.recommenders.catalogue import CATALOGUE
from mmprep.pipeline.params import read_yaml
from mmprep.stages.config.load import overridden, parse

FOLDER = ROOT / "experiments"
PAPERS = {path.stem: read_yaml(path) for path in sorted((FOLDER / "papers").glob("*.yaml"))}
FILES = {path.stem: read_yaml(path) for path in sorted(FOLDER.glob("*.yaml"))}
DEFAULTS = {**read_yaml(ROOT / "params.yaml"), "recommenders": {}}
LOGGED = [
    ("bpr", "baby", "recommenders.bpr.embedding_size", 128),
    ("bpr", "sports", "recommenders.bpr.regularisation", 0.1),
    ("bpr", "tiktok", "recommenders.bpr.regularisation", 1.0),
    ("ngcf", "clothing", "recommenders.ngcf.regularisation", 0.01),
    ("lightgcn", "baby", "recommenders.lightgcn.regularisation", 0.0),
    ("lightgcn", "baby", "train.patience", 20),
    ("sgl", "baby", "recommenders.sgl.contrast", 0.01),
    ("sgl", "clothing", "recommenders.sgl.contrast", 0.1),
    ("sgl", "tiktok", "recommenders.sgl.contrast", 0.001),
    ("sgl", "tiktok", "recommenders.sgl.layers", 2),
    ("simgcl", "sports", "recommenders.simgcl.noise", 0.05),
    ("vbpr", "baby", "recommenders.vbpr.regularisation", 1.0),
    ("vbpr", "baby", "train.batch_size", 256),
    ("vbpr", "baby", "train.text", ""),
    ("vbpr", "clothing", "train.batch_size", 4096),
    ("bm3", "baby", "recommenders.bm3.layers", 2),
    ("bm3", "sports", "recommenders.bm3.regularisation", 0.0),
    ("bm3", "tiktok", "train.batch_size", 4096),
    ("lattice", "baby", "recommenders.lattice.learning_rate", 0.0005),
    ("lattice", "sports", "recommenders.lattice.learning_rate", 0.0005),
    ("lattice", "tiktok", "recommenders.lattice.learning_rate", 0.001),
    ("lattice", "baby", "recommenders.lattice.regularisation", 0.0),
    ("da_mrs", "baby", "recommenders.da_mrs.learning_rate", 0.001),
    ("da_mrs", "baby", "graphs.cooccurrence.k", 10),
    ("da_mrs", "baby", "recommenders.da_mrs.behaviour_k", 2),
    ("da_mrs", "tiktok", "recommenders.da_mrs.behaviour_k", 2),
    ("da_mrs", "baby", "recommenders.da_mrs.norm_of", "final"),
    ("da_mrs", "baby", "train.patience", 25),
    ("da_mrs", "tiktok", "recommenders.da_mrs.layers", 3),
    ("da_mrs", "tiktok", "recommenders.da_mrs.lambda1", 0.1),
    ("da_mrs", "tiktok", "recommenders.da_mrs.lambda2", 0.005),
    ("da_mrs", "tiktok", "graphs.consistent.k", 5),
]
OWN_NEIGHBOURS = [
    ("am2hrec", "am2hrec", {"baby": 20, "sports": 10, "clothing": 15}),
    ("am2hrec", "mgcn", {"baby": 10, "sports": 10, "clothing": 10}),
    ("camgr", "camgr", {"baby": 20, "sports": 15, "clothing": 15}),
    ("camgr", "mgcn", {"baby": 10, "sports": 10, "clothing": 10}),
]


def lists(file: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The lists of settings in a file of a paper or of a table, with their places."""
    yield "as_published", file.get("as_published", [])
    yield from file.get("recommenders", {}).items()
    yield from ((row["label"], row.get("as_published", [])) for row in file.get("rows", []))


def settings(paper: str, recommender: str, dataset: str) -> dict[str, Any]:
    """Settings of a recommender's rows: the paper's, then the recommender's, of which later ones win."""
    file = PAPERS[paper]
    return chosen([*file.get("as_published", []), *file["recommenders"].get(recommender, [])], dataset)


def chosen(entries: list[dict[str, Any]], dataset: str) -> dict[str, Any]:
    """Settings for a dataset in a list of entries, of which later ones win."""
    return {
        key: value
        for entry in entries
        if dataset in entry.get("datasets", [dataset])
        for key, value in entry["set"].items()
    }


@pytest.mark.parametrize("name", sorted({*PAPERS, *FILES}))
def test_settings_have_a_source_and_datasets_of_the_paper(name: str) -> None:
    file = PAPERS.get(name) or FILES[name]
    datasets = PAPERS[file.get("paper", name)]["datasets"].keys()
    for place, entries in lists(file):
        for entry in entries:
            assert entry.keys() <= {"source", "datasets", "set"}, place
            assert entry["source"].strip(), place
            assert entry["set"], place
            assert set(entry.get("datasets", datasets)) <= datasets, place


def test_published_numbers_are_of_datasets_in_the_papers_table_of_datasets() -> None:
    for name, file in FILES.items():
        named = {dataset for row in file["rows"] for key in ("published", "curves") for dataset in row.get(key, {})}
        assert named <= PAPERS[file["paper"]]["datasets"].keys(), name


def test_every_recommender_that_a_file_runs_has_settings_in_its_paper() -> None:
    for name, file in FILES.items():
        run = {row["recommender"] for row in file["rows"] if row.get("recommender")} & CATALOGUE.keys()
        missing = run - PAPERS[file["paper"]]["recommenders"].keys()
        # MDR-CHCA states none of its baselines.
        assert not missing or (file["paper"], missing) == ("mdr_chca", {"vbpr", "lattice", "bm3"}), name


@pytest.mark.parametrize(
    ("paper", "recommender"),
    [(paper, name) for paper, file in PAPERS.items() for name in file["recommenders"] if name in CATALOGUE],
)
def test_every_setting_of_a_paper_is_a_valid_key(paper: str, recommender: str) -> None:
    for dataset in PAPERS[paper]["datasets"]:
        values = overridden(DEFAULTS, settings(paper, recommender, dataset), paper)
        parse(values, paper).recommender(recommender)


@pytest.mark.parametrize(("recommender", "dataset", "key", "value"), LOGGED)
def test_da_mrs_rows_have_the_settings_of_the_authors_logs(
    recommender: str, dataset: str, key: str, value: object
) -> None:
    assert settings("da_mrs", recommender, dataset)[key] == value


@pytest.mark.parametrize(("paper", "recommender", "neighbours"), OWN_NEIGHBOURS)
def test_neighbours_of_a_papers_recommender_are_not_those_of_its_baselines(
    paper: str, recommender: str, neighbours: dict[str, int]
) -> None:
    assert {name: settings(paper, recommender, name)["graphs.knn.k"] for name in neighbours} == neighbours


def test_penalty_of_mgnm_is_a_hundred_times_larger_on_beauty() -> None:
    delta = "recommenders.mgnm.delta"
    assert [settings("mgnm", "mgnm", name)[delta] for name in ("baby", "video", "beauty")] == [1e-4, 1e-4, 1e-2]


def test_mdr_chca_has_256_patches_and_the_split_that_its_counts_come_from() -> None:
    found = settings("mdr_chca", "mdr_chca", "baby")
    assert found["encoders.vit_b16_patches.image_size"] == 256
    assert found["split.rule"] == "lattice"


@pytest.mark.parametrize(("dataset", "exponent"), [("baby", 1.5), ("sports", 3.0), ("clothing", 1.5)])
def test_row_as_printed_of_da_mrs_is_the_preset_with_the_printed_exponents(dataset: str, exponent: float) -> None:
    (row,) = (row for row in FILES["da_mrs-table2"]["rows"] if row["label"] == "DA-MRS + LightGCN, as printed")
    values = {**chosen(row["as_published"], dataset), **row["set"]}
    keys = {key.removeprefix("recommenders.da_mrs."): value for key, value in values.items()}
    preset = {**CATALOGUE["da_mrs"].load().params_type.presets["paper"], "alpha": exponent, "beta": exponent}
    assert {key: keys[key] for key in preset} == preset


def test_sweep_of_k_varies_the_graphs_of_modalities_alone() -> None:
    assert FILES["da_mrs-sweep_k"]["x"]["keys"] == ["graphs.consistent.k"]
    assert FILES["da_mrs-sweep_behaviour_k"]["x"] == {
        "name": "behaviour k",
        "keys": ["recommenders.da_mrs.behaviour_k"],
        "values": [2, 10, 30],
    }


def test_graph_of_the_sweep_of_behaviour_k_has_as_many_neighbours_as_its_last_point() -> None:
    file = FILES["da_mrs-sweep_behaviour_k"]
    assert [row["set"]["graphs.cooccurrence.k"] for row in file["rows"]] == [max(file["x"]["values"])] * 2


def test_settings_of_da_mrs_contain_its_preset_of_the_authors_code() -> None:
    found, preset = settings("da_mrs", "da_mrs", "baby"), CATALOGUE["da_mrs"].load().params_type.presets["official"]
    assert {key: found[f"recommenders.da_mrs.{key}"] for key in preset} == preset


def test_ablations_of_am2hrec_without_user_item_graph_have_no_views_of_users() -> None:
    rows = {row["label"]: row.get("set", {}) for row in FILES["am2hrec-table3"]["rows"]}
    dropped = {label for label, keys in rows.items() if keys.get("recommenders.am2hrec.u_ablation_drops_eq19")}
    without = {label for label, keys in rows.items() if keys.get("recommenders.am2hrec.use_ui_graph") is False}
    assert dropped == without == {"AM2HRec (-U)", "AM2HRec (-2H)"}
