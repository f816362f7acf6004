"""The graphs of items are found on the disk, told what their weights are, and read an item at a time."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from worlds import made_by_hand

from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables import table as tables
from mmprep.pipeline.tables.schemas import EDGES
from mmprep.stages.graphs.item_graphs import ItemGraph, item_graphs, weighing


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path, "toy")


def write(layout: Layout, name: str, edges: list[tuple[int, int, float]], params: Mapping[str, Any] = {}) -> None:
    columns = [np.array(column) for column in zip(*edges, strict=True)] or [np.zeros(0)] * 3
    frame = Edges(columns[0].astype("i4"), columns[1].astype("i4"), columns[2].astype("f4")).to_frame()
    EDGES.write(frame, layout.graph(name), replace(made_by_hand(layout), params=dict(params)))


def only(layout: Layout) -> ItemGraph:
    (graph,) = item_graphs(layout)
    return graph


def test_graphs_of_items_alone_are_found_in_the_order_of_the_catalogue(layout: Layout) -> None:
    items = ["knn/minilm", "knn/vgg16", "mixed", "consistent/image", "consistent/text", "cooccurrence"]
    for name in ["user_user", "interaction/symmetric", "intra_item/vit", *reversed(items)]:
        write(layout, name, [])
    (layout.graph("knn/x").parent / ".clip.parquet.1.partial").touch()
    (layout.graph("knn/x").parent / ".left.parquet").touch()
    assert [str(graph.name) for graph in item_graphs(layout)] == items
    commands = ["knn/minilm", "knn/vgg16", "mixed", "consistent", "consistent", "cooccurrence"]
    assert [graph.made_by for graph in item_graphs(layout)] == [f"mmprep graph --graph {each}" for each in commands]


def test_without_a_graph_of_items_the_command_is_named(layout: Layout) -> None:
    write(layout, "user_user", [])
    with pytest.raises(MissingInputError) as caught:
        item_graphs(layout)
    assert str(caught.value) == f"{layout.root}/graphs/toy: no graph of items; run `mmprep graph` first"


def test_an_items_own_edges_are_read_in_their_order(layout: Layout) -> None:
    write(layout, "mixed", [(0, 1, 1.0), (2, 3, 0.5), (2, 0, 0.5), (2, 1, 0.25), (3, 2, 1.0)])
    assert only(layout).edges_of(2).rows() == [(3, 0.5), (0, 0.5), (1, 0.25)]
    assert only(layout).edges_of(1).rows() == []
    assert only(layout).edges_of(9).rows() == []


def test_only_the_row_groups_that_may_have_an_items_edges_are_read(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 4)
    write(layout, "mixed", [(item, other, 1 / (1 + other)) for item in range(9) for other in range(3)])
    path = layout.graph("mixed")
    with pq.ParquetFile(path) as file:
        assert file.num_row_groups == 7
        targets = file.metadata.row_group(1).column(1)  # of items 1 and 2
    content = bytearray(path.read_bytes())
    content[targets.data_page_offset + targets.total_compressed_size - 1] ^= 0xFF
    path.write_bytes(content)
    for item in (0, 3, 8):
        assert [target for target, _ in only(layout).edges_of(item).rows()] == [0, 1, 2]
    for item in (1, 2):
        with pytest.raises(DataError, match=r"damaged .*; remove it and run `mmprep graph --graph mixed`"):
            only(layout).edges_of(item)


def test_an_empty_graph_has_no_edges_of_any_item(layout: Layout) -> None:
    write(layout, "mixed", [])
    assert only(layout).edges_of(0).rows() == []


def test_files_of_others_are_refused_in_one_line(layout: Layout) -> None:
    write(layout, "mixed", [])
    layout.graph("cooccurrence").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"cooccurrence.parquet: not a Parquet file"):
        item_graphs(layout)


def test_a_graph_that_does_not_tell_its_inputs_is_refused(layout: Layout) -> None:
    bad = replace(made_by_hand(layout), notes={"inputs": ["x"]})
    write(layout, "mixed", [])
    EDGES.write(EDGES.read(layout.graph("mixed")), layout.graph("mixed"), bad)
    with pytest.raises(DataError) as caught:
        item_graphs(layout)
    assert str(caught.value) == (
        f"{layout.graph('mixed')}: damaged provenance: no inputs; remove it and run `mmprep graph`"
    )


def test_parameters_stand_in_the_place_of_their_names(layout: Layout) -> None:
    write(layout, "cooccurrence", [], {"k": 7, "min_count": 3})
    assert only(layout).rule == "the 7 items with most common users, at least 3"
    write(layout, "cooccurrence", [])
    assert only(layout).rule == "the k items with most common users, at least min_count"


@pytest.mark.parametrize(
    ("kind", "params", "name", "meaning"),
    [
        ("knn", {}, "cosine", "weights are cosine similarities of the vectors"),
        ("knn", {"weight": "cosine", "normalise": "none"}, "cosine", "weights are cosine similarities of the vectors"),
        (
            "knn",
            {"weight": "cosine", "normalise": "row"},
            "weight",
            "weights are cosine similarities of the vectors, normalised by row",
        ),
        (
            "knn",
            {"weight": "binary", "normalise": "none"},
            "weight",
            "weights are 1 for each neighbour, so the order says nothing about similarity",
        ),
        ("consistent", {"k": 10}, "cosine", "weights are cosine similarities of the vectors"),
        ("cooccurrence", {"k": 10}, "common users", "weights are users who have both items in train"),
        (
            "mixed",
            {"image_weight": 0.1, "weight": "binary", "normalise": "sym_out"},
            "weight",
            "weights are the sum over modalities of 1 for each neighbour, normalised by sym_out, the image's times 0.1",
        ),
    ],
)
def test_what_a_weight_is_differs_by_graph(kind: str, params: dict[str, Any], name: str, meaning: str) -> None:
    found = weighing(kind, params)
    assert (found.name, found.meaning) == (name, meaning)
