"""What `mmprep report` collects."""

import json
from pathlib import Path

import polars as pl
import pytest
from configs import CONFIG, DAMAGES

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features.vectors import FeatureSpec
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance
from mmprep.pipeline.tables.schemas import SPLIT_INTERACTIONS
from mmprep.stages.explore.report import METRICS, collect

NUMBERS = {name: place / 10 for place, name in enumerate(METRICS)}


def write_run(layout: Layout, name: str, metrics: dict[str, float]) -> None:
    path = layout.run(name).metrics
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(metrics))


def write_encoder(layout: Layout, name: str, pretrained: bool) -> None:
    encoder = {"pretrained": pretrained, "seed": None if pretrained else 3}
    provenance = Provenance("extract", {}, {}, {}, {"encoder": encoder})
    with write_features(layout.features(name), FeatureSpec("vector", 4), provenance):
        pass


def write_split(layout: Layout, params: dict[str, object]) -> None:
    provenance = Provenance("split", params, {}, {}, {})
    empty = pl.DataFrame(SPLIT_INTERACTIONS.schema.empty_table())
    SPLIT_INTERACTIONS.write(empty, layout.interactions, provenance)


def test_the_metrics_of_every_evaluated_recommender_are_collected_by_name(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "vbpr", NUMBERS)
    write_run(layout, "bpr", NUMBERS | {"recall@10": 0.5})
    write_run(Layout(tmp_path, "books"), "lightgcn", NUMBERS)
    (tmp_path / "runs" / "toys" / "untrained").mkdir()
    found = collect(layout)
    assert list(found.metrics) == ["bpr", "vbpr"]
    assert found.metrics["bpr"]["recall@10"] == 0.5
    assert found.places == [("recommendations", layout.run(name).recommendations) for name in ("bpr", "vbpr")]
    assert found.warnings == []


def test_features_and_graphs_are_listed(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    write_encoder(layout, "minilm", pretrained=True)
    layout.graph("knn/minilm").parent.mkdir(parents=True)
    layout.graph("knn/minilm").touch()
    assert collect(layout).places == [
        ("features", layout.features("minilm")),
        ("graph", layout.graph("knn/minilm")),
        ("recommendations", layout.run("bpr").recommendations),
    ]


def test_random_weights_are_cautioned_against(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    write_encoder(layout, "minilm", pretrained=True)
    write_encoder(layout, "vgg16", pretrained=False)
    assert collect(layout).warnings == ["vgg16 has random weights (seed 3): its features carry no learned meaning"]


def test_pieces_of_vectors_are_cautioned_against(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    for name, more in (("bpr", {}), ("mdr_chca", {"pseudo_tokens": ["vgg16", "minilm"]})):
        write_run(layout, name, NUMBERS)
        layout.run(name).config.write_text(json.dumps(CONFIG | more))
    expected = "mdr_chca read pieces of the vectors of vgg16 and minilm for patches or tokens: a trial, not the model"
    assert collect(layout).warnings == [expected]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_config_is_named(tmp_path: Path, kind: str) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    config = layout.run("bpr").config
    config.write_text(json.dumps(CONFIG))
    damage, reason = DAMAGES[kind]
    damage(config)
    with pytest.raises(DataError) as caught:
        collect(layout)
    assert str(caught.value) == (
        f"{config}: not what training wrote ({reason}); run `mmprep train --recommender bpr` again"
    )


def test_what_a_killed_extract_left_is_not_taken_for_features(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    write_encoder(layout, "minilm", pretrained=True)
    left = tmp_path / "features" / "toys" / ".vgg16.1234567.partial"
    left.mkdir()
    (left / "part-00000.parquet").write_bytes(b"PAR1")
    assert [kind for kind, _ in collect(layout).places] == ["features", "recommendations"]


def test_without_an_evaluated_recommender_the_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError) as caught:
        collect(Layout(tmp_path, "toys"))
    assert str(caught.value) == (
        f"{tmp_path}/runs/toys: no evaluated recommender; run `dvc repro` or `mmprep evaluate` first"
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"rule": "lattice", "seed": 7}, "lattice, seed 7"),
        ({"rule": "given", "seed": 7}, "given"),
        ({"rule": "temporal", "seed": 7}, "temporal"),
        ({}, "rule not known"),
    ],
)
def test_the_rule_and_the_seed_of_the_split_are_named(tmp_path: Path, params: dict[str, object], expected: str) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    assert collect(layout).split == "rule not known"
    write_split(layout, params)
    assert collect(layout).split == expected


def test_a_run_on_another_split_is_cautioned_against(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_split(layout, {"rule": "mmrec", "seed": 0})
    for name in ("bpr", "vbpr"):
        write_run(layout, name, NUMBERS)
        inputs = {layout.relative(layout.interactions): sha256(layout.interactions)}
        layout.run(name).config.write_text(json.dumps(CONFIG | {"inputs": inputs}))
        write_split(layout, {"rule": "mmrec", "seed": 1})
    assert collect(layout).split == "mmrec, seed 1"
    assert collect(layout).warnings == [
        "bpr was trained on another split than the current one; "
        "run `mmprep train --recommender bpr` and `mmprep evaluate --recommender bpr`"
    ]


DEEP = pytest.param("[" * 100_000, id="too deep")


@pytest.mark.parametrize("content", ["", "{", DEEP, "[]", '{"recall@10": 1}', '{"recall@10": "<<<<<<<"}', "\ud800"])
def test_damaged_metrics_name_the_command_that_makes_them(tmp_path: Path, content: str) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    layout.run("bpr").metrics.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(DataError) as caught:
        collect(layout)
    assert str(caught.value) == (
        f"{layout.run('bpr').metrics}: not the metrics of a recommender; run `mmprep evaluate --recommender bpr` again"
    )


def test_features_of_somebody_else_are_named(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "toys")
    write_run(layout, "bpr", NUMBERS)
    layout.features("mine").mkdir(parents=True)
    (layout.features("mine") / "part-00000-of-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"part-00000-of-00001.parquet: not a Parquet file"):
        collect(layout)
