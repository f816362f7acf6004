import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from worlds import World, binary, write_vectors, write_world

from pipeline.errors import DataError, MissingInputError, ParamsError
from pipeline.files import sha256
from pipeline.graph_params import CooccurrenceParams, GraphsParams, KnnParams
from pipeline.layout import Layout
from pipeline.provenance import read_provenance
from pipeline.tables import EDGES
from stages.graph import graph_names, run

PARAMS = GraphsParams(knn=KnnParams(k=2), cooccurrence=CooccurrenceParams(min_count=2, k=2))

# Users 0 to 3 over items 0 to 4. In train: items 0 and 1 share three users, 0 and 2 two, 1 and 2 two, 2 and 3 one.
TRAIN = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 2), (3, 3)]

# Items at 0, 10, 90 and 100 degrees; item 3 has no vector.
ANGLES = {0: 0.0, 1: 10.0, 2: 90.0, 4: 100.0}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    # Were val or test read, items 3 and 4 would share users too.
    val, test = [(0, 3), (1, 3), (2, 3)], [(0, 4), (1, 4), (2, 4)]
    write_world(World(*(binary(pairs, (4, 5)) for pairs in (TRAIN, val, test))), layout)
    radians = np.radians(list(ANGLES.values()))
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1) * np.array([[1.0], [5.0], [0.1], [2.0]])
    write_vectors(layout, "minilm", vectors.astype(np.float32), ANGLES)
    return layout


def edges(layout: Layout, name: str) -> list[tuple[int, int, float]]:
    return [(s, t, round(w, 4)) for s, t, w in EDGES.read(layout.graph(name)).iter_rows()]


def cosine(degrees: float) -> float:
    return round(float(np.cos(np.radians(degrees))), 4)


def test_neighbours_are_the_most_similar_items_with_themselves_first(layout: Layout) -> None:
    metrics = run("knn_minilm", PARAMS, layout)
    pairs = [(0, 1, 10), (1, 0, 10), (2, 4, 10), (4, 2, 10)]
    expected = [edge for s, t, angle in pairs for edge in ((s, s, 1.0), (s, t, cosine(angle)))]
    assert edges(layout, "knn_minilm") == expected
    assert metrics == {
        "edges": 8,
        "mean_neighbours": 0.8,
        "items_without_neighbours": 1,
        "mean_weight": pytest.approx((1 + np.cos(np.radians(10))) / 2),
    }


def test_neighbours_without_self(layout: Layout) -> None:
    params = PARAMS.model_copy(update={"knn": KnnParams(k=2, include_self=False)})
    run("knn_minilm", params, layout)
    angles = [(0, 1, 10), (0, 2, 90), (1, 0, 10), (1, 2, 80), (2, 4, 10), (2, 1, 80), (4, 2, 10), (4, 1, 90)]
    assert [(s, t) for s, t, _ in edges(layout, "knn_minilm")] == [(s, t) for s, t, _ in angles]
    found = [weight for _, _, weight in edges(layout, "knn_minilm")]
    assert found == pytest.approx([cosine(angle) for _, _, angle in angles], abs=1e-4)


def test_cooccurrence_counts_common_train_users_alone(layout: Layout) -> None:
    metrics = run("cooccurrence", PARAMS, layout)
    assert edges(layout, "cooccurrence") == [(0, 1, 3), (0, 2, 2), (1, 0, 3), (1, 2, 2), (2, 0, 2), (2, 1, 2)]
    assert metrics["items_without_neighbours"] == 2
    assert metrics["mean_neighbours"] == pytest.approx(6 / 5)


def test_rarer_common_users_and_weaker_neighbours_are_left_out(layout: Layout) -> None:
    params = GraphsParams(cooccurrence=CooccurrenceParams(min_count=1, k=1))
    run("cooccurrence", params, layout)
    assert edges(layout, "cooccurrence") == [(0, 1, 3), (1, 0, 3), (2, 0, 2), (3, 2, 1)]


def test_graph_without_an_edge_is_written(layout: Layout) -> None:
    metrics = run("cooccurrence", GraphsParams(cooccurrence=CooccurrenceParams(min_count=99)), layout)
    assert edges(layout, "cooccurrence") == []
    assert (metrics["edges"], metrics["mean_weight"], metrics["items_without_neighbours"]) == (0, 0.0, 5)


@pytest.mark.parametrize(
    ("name", "section", "inputs"),
    [
        (
            "knn_minilm",
            {"k": 2, "include_self": True},
            ["features/toy/minilm/part-00000-of-00001.parquet", "processed/toy/items.parquet"],
        ),
        (
            "cooccurrence",
            {"min_count": 2, "k": 2},
            [f"processed/toy/{table}.parquet" for table in ("interactions", "items", "users")],
        ),
    ],
)
def test_graph_tells_what_made_it(layout: Layout, name: str, section: dict[str, int], inputs: list[str]) -> None:
    metrics = run(name, PARAMS, layout)
    provenance = read_provenance(layout.graph(name))
    assert provenance["stage"] == "graph"
    assert provenance["params"] == section
    assert provenance["inputs"] == {path: sha256(layout.root / path) for path in inputs}
    assert json.loads(layout.metrics(f"graph-{name}").read_text()) == metrics


def test_edges_are_sorted_by_source_then_rank(layout: Layout) -> None:
    run("knn_minilm", PARAMS.model_copy(update={"knn": KnnParams(k=4)}), layout)
    frame = EDGES.read(layout.graph("knn_minilm"))
    ordered = frame.sort("source", pl.col("weight").neg(), maintain_order=True)
    assert frame.equals(ordered)
    assert len(frame) == 16


@pytest.mark.parametrize("name", ["minilm", "knn", "coocurrence", ""])
def test_unknown_graph_is_refused(layout: Layout, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        run(name, PARAMS, layout)
    assert str(caught.value) == f"graph: found {name!r}, expected cooccurrence or knn_ENCODER"


def test_neighbours_without_features_name_the_command_that_makes_them(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="no features; run `mmprep extract --encoder vgg16` first"):
        run("knn_vgg16", PARAMS, layout)


def test_features_of_more_items_than_the_dataset_has_are_refused(layout: Layout) -> None:
    write_vectors(layout, "minilm", np.ones((6, 2), dtype=np.float32))
    with pytest.raises(DataError, match="features of item 5 in a dataset of 5 items; run `mmprep extract` again"):
        run("knn_minilm", PARAMS, layout)


def test_more_neighbours_than_there_are_items_are_refused_and_the_old_graph_stays(layout: Layout) -> None:
    run("knn_minilm", PARAMS, layout)
    before = sha256(layout.graph("knn_minilm"))
    with pytest.raises(DataError, match=r"k = 5 neighbours asked for, but only 4 items could be; lower graphs\.knn\.k"):
        run("knn_minilm", PARAMS.model_copy(update={"knn": KnnParams(k=5)}), layout)
    assert sha256(layout.graph("knn_minilm")) == before


def test_same_input_gives_the_same_bytes(layout: Layout) -> None:
    def digests(names: Iterable[str]) -> list[str]:
        for name in names:
            run(name, PARAMS, layout)
        return [sha256(layout.graph(name)) for name in names]

    names = graph_names(("minilm",))
    assert names == ["knn_minilm", "cooccurrence"]
    assert digests(names) == digests(names)
