"""The scripts in examples/, each run as a user runs it on a small dataset."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import run
from imports import ROOT
from trainable import write_trainable

from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.graphs.params import GraphsParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import ITEMS
from mmprep.stages.graphs import graph
from mmprep.stages.ingest import ingest
from mmprep.stages.prepare import filter as filter_
from mmprep.stages.prepare import split

EXAMPLES = ROOT / "examples"


def run_example(name: str, layout: Layout, *more: str) -> str:
    """What an example printed about a dataset."""
    return run(layout.root, sys.executable, str(EXAMPLES / f"{name}.py"), str(layout.root), layout.dataset, *more)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Two groups of users who each buy their own group's items, with features and graphs."""
    layout = Layout(tmp_path_factory.mktemp("toy"), "toy")
    write_trainable(layout, ["lattice"])
    return layout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_raw: Path) -> Layout:
    """A generated dataset with photos, split; neither features nor graphs."""
    layout = Layout(tmp_path_factory.mktemp("shop"), "tiny")
    shutil.copytree(tiny_raw, layout.raw)
    ingest.run(ingest.IngestParams(max_reject_fraction=0.1), layout)
    filter_.run(filter_.FilterParams(), layout)
    split.run(split.SplitParams(), layout)
    return layout


def test_every_example_is_tested_and_short() -> None:
    paths = sorted(EXAMPLES.glob("*.py"))
    assert [path.stem for path in paths] == ["features_in_a_notebook", "own_encoder", "own_recommender"]
    assert all(len(path.read_text().splitlines()) < 60 for path in paths)


def test_features_in_a_notebook(toy: Layout) -> None:
    printed = run_example("features_in_a_notebook", toy)
    assert "train (40, 60): 400 interactions; val 40, test 40" in printed
    assert "minilm (60, 4): 60 items with a vector" in printed
    assert "knn/minilm (60, 60): 600 edges" in printed
    popular, *neighbours = [int(item) for item in re.findall(r"i(\d+) Item", printed)]
    cosines = [float(cosine) for cosine in re.findall(r"^  (\d\.\d+) ", printed, flags=re.MULTILINE)]
    assert neighbours[0] == popular  # itself
    assert cosines == sorted(cosines, reverse=True)
    # Items 0 to 29 are bought by one group, 30 to 59 by the other, and features tell them apart.
    assert [item // 30 for item in neighbours] == [popular // 30] * 5


@pytest.mark.long
def test_own_encoder_encodes_each_photo_once_and_what_it_writes_is_like_other_features(shop: Layout) -> None:
    names = ITEMS.read(shop.items, ["image"])["image"].drop_nulls()
    shutil.copy(shop.raw / names[0], shop.raw / names[1])
    distinct = {(shop.raw / name).read_bytes() for name in names}
    assert len(distinct) < len(names)
    assert run_example("own_encoder", shop) == f"{len(names)} photos, {len(distinct)} of them through the network\n"
    first = FeatureSet.of(shop, "own").vectors()
    assert first.vectors[0].tolist() == first.vectors[1].tolist()
    assert len(np.unique(first.vectors, axis=0)) == len(distinct)

    assert run_example("own_encoder", shop) == f"{len(names)} photos, 0 of them through the network\n"
    np.testing.assert_array_equal(FeatureSet.of(shop, "own").vectors().vectors, first.vectors)

    graph.run("knn/own", GraphsParams(), {}, shop)
    printed = run_example("features_in_a_notebook", shop, "own", "knn/own")
    assert f"own ({len(ITEMS.read(shop.items))}, 48): {len(names)} items with a vector" in printed
    options = ["--data", str(shop.root), "--dataset", shop.dataset, "--params", str(ROOT / "params.yaml")]
    run(shop.root, "mmprep", "verify", *options)  # fails where features are not of the photos that there are


def test_own_recommender_learns_the_groups(toy: Layout) -> None:
    printed = dict(re.findall(r"^(\S+): (\d\.\d+)$", run_example("own_recommender", toy), flags=re.MULTILINE))
    assert float(printed["recall@20"]) >= 0.9
    assert printed.keys() >= {"recall@10", "ndcg@20", "precision@50"}
