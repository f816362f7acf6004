"""The file of effective parameters: what it holds, and which keys an edit of params.yaml changes in it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.layout import Layout
from mmprep.stages.cli.main import main
from mmprep.stages.config.effective import effective, run
from mmprep.stages.config.load import load, parse

VALUES: dict[str, Any] = {
    "dataset": "toys",
    "filter": {"k_core": 3},
    "extract": {"encoders": ["vgg16", "minilm"]},
    "encoders": {"minilm": {"template": "mmrec"}},
    "recommenders": {"bm3": {"preset": "elec", "cl_weight": 1}},
    "overlays": {"books": {"filter": {"k_core": 2}, "recommenders": {"bm3": {"dropout": 0.4}}}},
}


def leaves(values: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Values by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= leaves(value, f"{place}{key}.") if isinstance(value, dict) and value else {f"{place}{key}": value}
    return found


def changed(changes: dict[str, Any], dataset: str = "toys") -> set[str]:
    """Keys of the effective parameters that differ from those of VALUES."""
    before = leaves(effective(parse(VALUES, "p.yaml", dataset)))
    after = leaves(effective(parse({**VALUES, **changes}, "p.yaml", dataset)))
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def test_the_file_holds_presets_written_keys_and_defaults(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    assert run(parse(VALUES, "p.yaml"), layout) == {"sections": 11, "recommenders": 1}
    found = json.loads((tmp_path / "parameters" / "toys.json").read_text())
    assert found["filter"]["k_core"] == 3
    assert found["train"]["batch_size"] == 2048
    assert found["encoders"] == {"vgg16": {}, "minilm": {"template": "mmrec"}}
    assert found["recommenders"]["bm3"] == {"layers": 2, "dropout": 0.3, "regularisation": 0.1, "cl_weight": 1}
    assert found["recommenders"]["bpr"] == {}
    assert load(layout.parameters).recommender("bm3") == parse(VALUES, "p.yaml").recommender("bm3")


def test_an_edit_changes_the_keys_that_it_means_and_no_others() -> None:
    bm3 = {"layers": 2, "dropout": 0.3, "regularisation": 0.1, "cl_weight": 1}
    assert changed({"recommenders": {"bm3": bm3}}) == set(), "a preset stands for its keys"
    assert changed({"recommenders": {"bm3": {**bm3, "layers": 1}}}) == {"recommenders.bm3.layers"}
    assert changed({"train": {"batch_size": 2048}}) == set(), "a default may be written"
    assert changed({"train": {"batch_size": 8}}) == {"train.batch_size"}
    assert changed({"split": {"redraw": True}}) == {"split.redraw"}
    assert changed({"download": {"retries": 1}, "search": {"bpr": {"embedding_size": [8]}}}) == set()
    overlay = {"books": {**VALUES["overlays"]["books"], "split": {"seed": 1}}}
    assert changed({"overlays": overlay}) == set()
    assert changed({"overlays": overlay}, "books") == {"split.seed"}
    assert changed({"filter": {"k_core": 4}}, "books") == set(), "the overlay goes before it"


def test_preset_that_does_not_exist_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    params = parse({**VALUES, "recommenders": {"bm3": {"preset": "books"}}}, "p.yaml")
    with pytest.raises(ParamsError, match=r"p\.yaml: recommenders\.bm3\.preset: found 'books', expected a preset"):
        run(params, Layout(tmp_path, "toys"))
    assert list(tmp_path.iterdir()) == []


def test_command_that_dvc_runs_takes_the_recorded_parameters(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = in_folder / "params.yaml"
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(VALUES, file)
    shown = CliRunner().invoke(main, ["parameters"])
    assert shown.exit_code == 0, shown.output
    recorded = Path("data/parameters/toys.json")
    text = recorded.read_text()
    recorded.write_text(text.replace('"k_core": 3', '"k_core": 0'))  # so that whoever reads it stops
    missing = CliRunner().invoke(main, ["filter"])
    assert (missing.exit_code, missing.stderr.count("interactions.parquet: not found")) == (3, 1)
    monkeypatch.setenv("DVC_STAGE", "filter")
    refused = CliRunner().invoke(main, ["filter"])
    assert refused.stderr == (
        "error: data/parameters/toys.json: filter.k_core: found 0, expected greater than or equal to 1\n"
    )
    monkeypatch.setenv("DVC_STAGE", "parameters")
    assert CliRunner().invoke(main, ["parameters"]).exit_code == 0
    assert recorded.read_text() == text


def test_command_prints_what_differs_from_defaults_and_warns_of_disagreements(in_folder: Path) -> None:
    lists = {"collaborative": [], "multimodal": ["bm3", "vbpr"], "item_graphs": []}
    values = {**VALUES, "train": lists, "recommenders": {"bm3": {"preset": "elec", "layers": 1}}}
    with (in_folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(values, file)
    shown = CliRunner().invoke(main, ["parameters"])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[3:] == [
        "recommenders",
        "  bm3        dropout 0.3 (params.yaml, preset elec; default 0.5)",
        "  vbpr       defaults",
    ]
    assert shown.stderr == (
        "warning: params.yaml: recommenders.bm3.layers: found 1 beside preset elec, which sets 2; 1 is used; remove "
        "the key to follow the preset\n"
    )
