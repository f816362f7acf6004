"""Checks across sections and files when params.yaml is loaded: external features, and a graph for each modality."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mmprep.pipeline.errors import MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.stages.cli.main import main
from mmprep.stages.config.load import check_external_files, parse

STAGES = ("code", "parameters", "ingest", "filter", "split", "extract", "graph", "modalities", "train")


@pytest.mark.parametrize("command", STAGES)
def test_missing_external_features_stop_every_stage_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    names = "[vgg16, minilm, theirs]"
    section = "{library: file, path: image_feat.npy, modality: image}"
    Path("params.yaml").write_text(
        f"dataset: toys\nextract: {{encoders: {names}}}\ngraphs: {{encoders: {names}}}\n"
        f"encoders: {{theirs: {section}}}\n"
    )
    Path("data/raw/toys").mkdir(parents=True)
    result = CliRunner().invoke(main, [command])
    assert (result.exit_code, result.stderr) == (
        3,
        "error: data/raw/toys/image_feat.npy: not found, expected the features of theirs in extract.encoders; put the "
        "file there, or take theirs out of the list\n",
    )
    assert [path.name for path in Path("data").iterdir()] == ["raw"]


def test_files_of_external_features_are_not_asked_for_where_there_is_no_raw_folder(tmp_path: Path) -> None:
    external = {"theirs": {"library": "file", "path": "x.npy", "modality": "image"}}
    listed = {"dataset": "toys", "extract": {"encoders": ["vgg16", "minilm", "theirs"]}, "encoders": external}
    params = parse(listed, "params.yaml")
    layout = Layout(tmp_path, "toys")
    check_external_files(params, layout)
    layout.raw.mkdir(parents=True)
    with pytest.raises(MissingInputError, match="expected the features of theirs"):
        check_external_files(params, layout)
    (layout.raw / "x.npy").touch()
    check_external_files(params, layout)


@pytest.mark.parametrize("command", ["code", "parameters"])
def test_under_dvc_every_modality_needs_a_graph_whatever_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(
        "dataset: toys\ngraphs: {encoders: [vgg16]}\ntrain: {multimodal: [], item_graphs: []}\n"
    )
    assert CliRunner().invoke(main, [command]).exit_code == 0
    monkeypatch.setenv("DVC_STAGE", command)
    result = CliRunner().invoke(main, [command])
    message = "error: params.yaml: train.text: found 'minilm', expected one of graphs.encoders (vgg16)\n"
    assert (result.exit_code, result.stderr) == (2, message)
