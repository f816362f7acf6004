from pathlib import Path

import numpy as np
import pytest
from trainable import TOKEN_ENCODERS
from worlds import two_groups, write_items, write_tokens, write_vectors, write_world

from mmprep.models.recommenders.catalogue import describe
from mmprep.models.recommenders.da_mrs import DAMRS, DAMRSParams
from mmprep.models.training.trainer import build
from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features.reader import FeatureSet, part_paths
from mmprep.pipeline.graphs.params import CooccurrenceParams, GraphsParams, KnnParams
from mmprep.pipeline.layout import Layout
from mmprep.stages.graphs import graph
from mmprep.stages.training.training_data import read_training_data

ENCODERS = {"image": "vgg16", "text": "minilm"}
BINARY = GraphsParams(knn=KnnParams(weight="binary"))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout, world = Layout(tmp_path / "data", "toy"), two_groups()
    write_world(world, layout)
    for modality, encoder in ENCODERS.items():
        write_vectors(layout, encoder, world.features[modality])
        graph.run(f"knn/{encoder}", GraphsParams(), ENCODERS, layout)
    graph.run("interaction", GraphsParams(), ENCODERS, layout)
    return layout


def test_recommender_gets_the_graphs_that_it_asks_for_by_modality(layout: Layout) -> None:
    read = read_training_data(describe("lattice"), ENCODERS, layout, 0)
    parts = {f"interaction/{part}" for part in ("symmetric", "user_mean", "item_mean")}
    assert set(read.data.graphs) == {*parts, "knn/image", "knn/text"}
    assert set(read.data.features) == set(ENCODERS)
    assert {layout.graph("knn/vgg16"), layout.graph("interaction/symmetric")} <= set(read.inputs)
    alone = read_training_data(describe("bpr"), ENCODERS, layout, 0)
    assert (alone.data.graphs, alone.data.features) == ({}, {})


def test_graphs_come_with_the_number_of_neighbours_that_they_were_built_with(layout: Layout) -> None:
    params = GraphsParams(knn=KnnParams(k=7), cooccurrence=CooccurrenceParams(min_count=1, k=2))
    for name in ("knn/vgg16", "cooccurrence", "consistent"):
        graph.run(name, params, ENCODERS, layout)
    data = read_training_data(describe("da_mrs"), ENCODERS, layout, 0).data
    assert data.graph_k == {
        **{"knn/image": 7, "knn/text": 10, "consistent/image": 10, "consistent/text": 10, "cooccurrence": 2}
    }
    build(DAMRS, data, DAMRSParams(behaviour_k=2), 0)
    with pytest.raises(DataError, match=r"da_mrs\.behaviour_k: found 3, expected at most 2, the k of graph"):
        build(DAMRS, data, DAMRSParams(behaviour_k=3), 0)


def test_neighbours_without_their_cosines_are_refused(layout: Layout) -> None:
    graph.run("knn/vgg16", BINARY, ENCODERS, layout)
    with pytest.raises(DataError, match="found weight binary, expected cosine"):
        read_training_data(describe("lattice"), ENCODERS, layout, 0)


def test_graph_that_is_not_built_is_missed_before_training(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match=r"mixed\.parquet: not found; run `mmprep graph` first"):
        read_training_data(describe("freedom"), ENCODERS, layout, 0)


def test_patches_and_tokens_come_with_their_graphs(layout: Layout) -> None:
    write_tokens(layout, two_groups().features, TOKEN_ENCODERS)
    for encoder in TOKEN_ENCODERS.values():
        with pytest.raises(MissingInputError, match=rf"intra_item/{encoder}\.parquet: not found; run `mmprep graph`"):
            read_training_data(describe("mdr_chca"), TOKEN_ENCODERS, layout, 0)
        graph.run(f"intra_item/{encoder}", GraphsParams(), ENCODERS, layout)
    read = read_training_data(describe("mdr_chca"), TOKEN_ENCODERS, layout, 7)
    assert {part: source.vectors.gather([3]).dimension for part, source in read.data.tokens.items()} == {
        "patches": 6,
        "words": 6,
    }
    assert [source.memory for source in read.data.tokens.values()] == [7, 7]
    assert {layout.graph(f"intra_item/{encoder}") for encoder in TOKEN_ENCODERS.values()} <= set(read.inputs)
    assert part_paths(layout.features("vit_b16_patches"))[0] in read.inputs


def test_pieces_of_vectors_come_where_the_graph_is_of_them(layout: Layout) -> None:
    write_vectors(layout, "wide", np.random.default_rng(0).normal(size=(60, 128)).astype(np.float32))
    write_tokens(layout, two_groups().features, TOKEN_ENCODERS)
    encoders = {"patches": "wide", "words": TOKEN_ENCODERS["words"]}
    params = GraphsParams.model_validate({"intra_item": {"pseudo_tokens": True}})
    for encoder in encoders.values():
        graph.run(f"intra_item/{encoder}", params, ENCODERS, layout)
    with pytest.raises(DataError, match="wide: found one vector an item, expected patches or tokens"):
        graph.run("intra_item/wide", GraphsParams(), ENCODERS, layout)
    read = read_training_data(describe("mdr_chca"), encoders, layout, 0)
    assert read.pseudo_tokens == ["wide"]
    rows = read.data.tokens["patches"].vectors.gather([3])
    assert rows.vectors.shape == (8, 16)
    assert read.data.tokens["words"].vectors.gather([3]).dimension == 6


def test_patches_of_other_items_are_refused(layout: Layout) -> None:
    write_tokens(layout, two_groups().features, TOKEN_ENCODERS)
    write_items(layout, [{}] * 3)
    with pytest.raises(DataError, match="vit_b16_patches: made of another"):
        FeatureSet.of(layout, "vit_b16_patches")
