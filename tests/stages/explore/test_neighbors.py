"""What `mmprep neighbors` finds: an item's neighbours in each graph, and what must be known of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worlds import World, binary, made_by_hand, write_items, write_world

from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.features.vectors import FeatureSpec, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import EDGES
from mmprep.stages.explore.item_lookup import Item
from mmprep.stages.explore.neighbors import GraphNeighbours, ItemNeighbours, find

KNN = {"k": 3, "include_self": True, "weight": "cosine", "normalise": "none"}
Weighted = list[tuple[int, int, float]]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Items i0 to i4 and a graph of texts, in which item 3 has no neighbours but itself and item 4 has no edge."""
    layout = Layout(tmp_path / "data", "toy")
    none = binary([], (2, 5))
    write_world(World(none, none, none), layout)
    write_items(layout, [{"title": f"Shirt {n}", "brand": "Acme", "image": f"images/{n}.png"} for n in range(5)])
    write_encoder(layout, "minilm")
    edges = [(0, 0, 1.0), (0, 2, 0.75), (0, 1, 0.5), (1, 1, 1.0), (1, 0, 0.5), (1, 2, 0.25), (3, 3, 1.0)]
    write_graph(layout, "knn/minilm", edges, [*parts(layout, "minilm"), layout.items], KNN)
    return layout


def write_encoder(layout: Layout, name: str, seed: int | None = None, value: float = 1) -> None:
    provenance = made_by_hand(layout, [layout.items], encoder={"pretrained": seed is None, "seed": seed})
    with write_features(layout.features(name), FeatureSpec("vector", 2), provenance) as writer:
        writer.append(np.arange(5, dtype=np.int32), VectorBatch(np.full((5, 2), value, dtype=np.float32)))


def parts(layout: Layout, encoder: str) -> list[Path]:
    return sorted(layout.features(encoder).glob("part-*.parquet"))


def write_graph(
    layout: Layout, name: str, edges: Weighted, inputs: list[Path], params: dict[str, Any] | None = None
) -> None:
    columns = [np.array([edge[n] for edge in edges]) for n in range(3)]
    frame = Edges(columns[0].astype("i4"), columns[1].astype("i4"), columns[2].astype("f4")).to_frame()
    provenance = made_by_hand(layout, inputs, graph=name, shape=[5, 5])
    EDGES.write(frame, layout.graph(name), replace(provenance, params=params or {}))


def graph_of(found: ItemNeighbours, name: str = "knn/minilm") -> GraphNeighbours:
    (graph,) = (graph for graph in found.graphs if graph.graph == name)
    return graph


def ids(graph: GraphNeighbours) -> list[str]:
    return [each.item.item_id for each in graph.neighbours]


def test_neighbours_come_in_the_order_of_ranks_without_the_item_itself(layout: Layout) -> None:
    found = find(layout, "i0")
    assert found.item == Item(0, "i0", "Shirt 0", "Acme", "", "images/0.png")
    graph = graph_of(found)
    assert [(each.item.item_id, each.weight) for each in graph.neighbours] == [("i2", 0.75), ("i1", 0.5)]
    assert graph.rule == "the 3 most similar items by cosine, itself among them (not shown)"
    assert (graph.lack, graph.notes, found.notes) == ("", (), ())


def test_what_is_printed_of_a_graph(layout: Layout) -> None:
    write_items(layout, [{"title": "\x1b[31mred\n" if n == 2 else f"Shirt {n}"} for n in range(5)])
    graph = graph_of(find(layout, "#0"))
    assert graph.title == "knn/minilm: weights are cosine similarities of the vectors"
    assert graph.columns == ("rank", "item", "title", "cosine")
    assert graph.rows() == [("1", "i2", r"\x1b[31mred\n", "0.7500"), ("2", "i1", "Shirt 1", "0.5000")]


def test_common_users_are_whole_numbers(layout: Layout) -> None:
    write_graph(layout, "cooccurrence", [(0, 4, 12.0)], [], {"k": 3, "min_count": 2})
    graph = graph_of(find(layout, "i0"), "cooccurrence")
    assert graph.columns[-1] == "common users"
    assert graph.rows() == [("1", "i4", "Shirt 4", "12")]
    assert graph.rule == "the 3 items with most common users, at least 2"


def test_no_more_neighbours_are_given_than_asked_for(layout: Layout) -> None:
    assert ids(graph_of(find(layout, "i0", k=1))) == ["i2"]
    with pytest.raises(ParamsError, match="k: found 0, expected 1 or more"):
        find(layout, "i0", k=0)


@pytest.mark.parametrize(("item", "lack"), [("i3", "joins this item to no other"), ("i4", "has no edge of this item")])
def test_a_graph_without_neighbours_of_the_item_says_so(layout: Layout, item: str, lack: str) -> None:
    graph = graph_of(find(layout, item))
    assert (graph.neighbours, graph.rows(), graph.lack) == ((), [], lack)


def test_an_unknown_item_is_one_line_with_the_closest_ids(layout: Layout) -> None:
    with pytest.raises(DataError) as caught:
        find(layout, "i01")
    hint = "did you mean i1 or i0?"
    assert str(caught.value) == f"item: found 'i01', expected an id of {layout.items}, or # and an index; {hint}"


def test_without_a_graph_the_command_is_named(layout: Layout) -> None:
    layout.graph("knn/minilm").unlink()
    with pytest.raises(MissingInputError, match="no graph of items; run `mmprep graph` first"):
        find(layout, "i0")


def test_a_stale_graph_is_a_note_and_its_neighbours_are_shown(layout: Layout) -> None:
    write_encoder(layout, "minilm", value=2)
    graph = graph_of(find(layout, "i0"))
    (part,) = parts(layout, "minilm")
    assert graph.notes == (
        f"stale, so it may join other items: made of another {part}; run `mmprep graph --graph knn/minilm`",
    )
    assert ids(graph) == ["i2", "i1"]


def test_a_graph_whose_inputs_are_gone_is_a_note(layout: Layout) -> None:
    (part,) = parts(layout, "minilm")
    part.unlink()
    part.parent.rmdir()
    found = find(layout, "i0")
    expected = (
        f"stale, so it may join other items: made of {part}, which is gone; run `mmprep graph --graph knn/minilm`"
    )
    assert graph_of(found).notes == (expected,)
    assert found.notes == ()


def test_a_graph_made_of_a_stale_one_is_stale(layout: Layout) -> None:
    write_graph(layout, "mixed", [(0, 1, 1.0)], [layout.graph("knn/minilm")])
    assert graph_of(find(layout, "i0"), "mixed").notes == ()
    write_encoder(layout, "minilm", value=2)
    (note,) = graph_of(find(layout, "i0"), "mixed").notes
    assert f"made of {layout.graph('knn/minilm')}, which was made of another" in note


def test_a_graph_that_names_files_elsewhere_reads_none_of_them(layout: Layout) -> None:
    provenance = replace(made_by_hand(layout), inputs={"/dev/zero": "0"})
    EDGES.write(EDGES.read(layout.graph("knn/minilm")), layout.graph("mixed"), provenance)
    (note,) = graph_of(find(layout, "i0"), "mixed").notes
    assert "made of /dev/zero, which is none of this dataset's" in note


def test_neighbours_that_the_dataset_does_not_have_are_counted(layout: Layout) -> None:
    write_graph(layout, "mixed", [(0, 9, 1.0), (0, 1, 0.5)], [])
    graph = graph_of(find(layout, "i0"), "mixed")
    assert ids(graph) == ["i1"]
    expected = "1 of the neighbours left out, as the dataset has no such items; run `mmprep graph --graph mixed`"
    assert graph.notes == (expected,)


def test_random_weights_are_told_once_with_the_graphs_that_they_are_in(layout: Layout) -> None:
    write_encoder(layout, "vgg16", seed=3)
    write_graph(layout, "knn/vgg16", [], parts(layout, "vgg16"), KNN)
    write_graph(layout, "mixed", [], [layout.graph("knn/minilm"), layout.graph("knn/vgg16")])
    write_graph(layout, "consistent/text", [], [*parts(layout, "minilm"), *parts(layout, "vgg16")])
    assert find(layout, "i0").notes == (
        "vgg16 has random weights (seed 3): its features carry no learned meaning "
        "(in knn/vgg16, mixed, consistent/text)",
    )


def test_damaged_features_do_not_hide_the_neighbours(layout: Layout) -> None:
    (part,) = parts(layout, "minilm")
    part.write_bytes(b"PAR1")
    found = find(layout, "i0")
    assert ids(graph_of(found)) == ["i2", "i1"]
    assert f"{part}, which is damaged; fix that first" in graph_of(found).notes[0]
    assert "not a Parquet file" in found.notes[0]


def test_an_invented_dataset_is_told(layout: Layout, tiny_raw: Path) -> None:
    layout.raw.mkdir(parents=True)
    (layout.raw / "README.md").write_text("# My photos\n")
    assert find(layout, "i0").notes == ()
    (layout.raw / "README.md").write_bytes((tiny_raw / "README.md").read_bytes())
    assert find(layout, "i0").notes == ("toy is an invented dataset: there are no such products",)
