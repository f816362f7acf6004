"""Digests of the features and graphs of the modalities that training uses, on which stages of dvc.yaml depend."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from worlds import two_groups, write_vectors, write_world

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.stages.training.modalities import KINDS, require_current, run

ENCODERS = {"image": "vgg16", "text": "minilm"}
UNDER_DVC = {"DVC_STAGE": "train-multimodal@vbpr"}


@pytest.fixture
def toys(tmp_path: Path) -> Layout:
    """Two groups of items with features of photos and texts, and something in the place of their graphs."""
    layout, world = Layout(tmp_path / "data", "toys"), two_groups()
    write_world(world, layout)
    for encoder, modality in (("vgg16", "image"), ("minilm", "text"), ("other", "text")):
        write_vectors(layout, encoder, world.features[modality])
        layout.graph(f"knn/{encoder}").parent.mkdir(parents=True, exist_ok=True)
        layout.graph(f"knn/{encoder}").write_bytes(sorted(layout.features(encoder).iterdir())[0].read_bytes())
    return layout


def written(layout: Layout, kind: str) -> bytes:
    return layout.modalities(kind).read_bytes()


def test_files_of_each_modality_are_listed_with_their_digests(toys: Layout) -> None:
    assert run("features", ENCODERS, toys) == {"image": "vgg16, 1 files", "text": "minilm, 1 files"}
    part = toys.features("vgg16") / "part-00000-of-00001.parquet"
    listed = json.loads(written(toys, "features"))
    assert listed["image"] == {"features/toys/vgg16/part-00000-of-00001.parquet": sha256(part)}
    run("knn", ENCODERS, toys)
    assert set(json.loads(written(toys, "knn"))["text"]) == {"graphs/toys/knn/minilm.parquet"}


def test_without_modalities_nothing_is_listed(toys: Layout) -> None:
    for kind in KINDS:
        assert run(kind, {}, toys) == {}
        assert json.loads(written(toys, kind)) == {}


def test_other_encoders_change_nothing(toys: Layout) -> None:
    for kind in KINDS:
        run(kind, ENCODERS, toys)
    before = [written(toys, kind) for kind in KINDS]
    write_vectors(toys, "other", two_groups().features["image"])
    toys.graph("knn/other").write_bytes(b"other")
    for kind in KINDS:
        run(kind, ENCODERS, toys)
    assert [written(toys, kind) for kind in KINDS] == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_is_named_with_the_command(toys: Layout, kind: str) -> None:
    command = {"features": "mmprep extract --encoder acoustic", "knn": "mmprep graph --graph knn/acoustic"}[kind]
    with pytest.raises(MissingInputError, match=f"run `{command}` first"):
        run(kind, {**ENCODERS, "audio": "acoustic"}, toys)
    assert not toys.modalities(kind).exists()


@pytest.mark.parametrize(
    ("kind", "encoders"),
    [
        ("features", {**ENCODERS, "text": "other"}),
        ("features", {"image": "vgg16"}),
        ("features", {**ENCODERS, "audio": "other"}),
        ("knn", {**ENCODERS, "text": "other"}),
    ],
)
def test_under_dvc_a_stage_refuses_other_modalities_than_recorded(
    toys: Layout, kind: str, encoders: Mapping[str, str]
) -> None:
    for each in KINDS:
        run(each, ENCODERS, toys)
    require_current(KINDS, ENCODERS, toys, UNDER_DVC)
    require_current(KINDS, encoders, toys, {})
    changed = "audio" if "audio" in encoders else "text"
    with pytest.raises(DataError) as caught:
        require_current((kind,), encoders, toys, UNDER_DVC)
    what = f"{toys.modalities(kind)}: {changed} changed since it was written"
    assert str(caught.value) == f"{what}; run `dvc repro modalities-{kind}` first"


def test_under_dvc_a_stage_refuses_other_features_than_recorded(toys: Layout) -> None:
    run("features", ENCODERS, toys)
    write_vectors(toys, "minilm", two_groups().features["image"])
    with pytest.raises(DataError, match=r"features\.json: text changed since it was written"):
        require_current(("features",), ENCODERS, toys, UNDER_DVC)


def test_a_project_without_the_digests_runs(toys: Layout) -> None:
    require_current(KINDS, ENCODERS, toys, UNDER_DVC)
