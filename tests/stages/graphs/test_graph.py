import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import World, binary, write_vectors, write_world

from mmprep.pipeline.errors import DataError, MissingInputError, ParamsError
from mmprep.pipeline.features.reader import part_paths
from mmprep.pipeline.graphs import hnsw as approximate
from mmprep.pipeline.graphs.params import (
    ConsistentParams,
    CooccurrenceParams,
    GraphsParams,
    KnnParams,
    MixedParams,
    UserUserParams,
)
from mmprep.pipeline.graphs.reader import read_graph
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import Provenance, read_provenance
from mmprep.pipeline.tables.schemas import EDGES
from mmprep.pipeline.tables.table import Table
from mmprep.stages.graphs.graph import graph_names, run

PARAMS = GraphsParams(
    knn=KnnParams(k=2),
    consistent=ConsistentParams(k=2),
    cooccurrence=CooccurrenceParams(min_count=2, k=2),
    user_user=UserUserParams(k=2),
)
ENCODERS = {"image": "vgg16", "text": "minilm"}

# Users 0 to 3 over items 0 to 4. In train: items 0 and 1 share three users, 0 and 2 two, 1 and 2 two, 2 and 3 one.
TRAIN = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 2), (3, 3)]

# Items at 0, 10, 90 and 100 degrees; item 3 has no vector.
ANGLES = {0: 0.0, 1: 10.0, 2: 90.0, 4: 100.0}
PHOTO_ANGLES = {0: 0.0, 1: 80.0, 2: 90.0, 3: 45.0, 4: 100.0}


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    # Were val or test read, items 3 and 4 would share users too.
    val, test = [(0, 3), (1, 3), (2, 3)], [(0, 4), (1, 4), (2, 4)]
    write_world(World(*(binary(pairs, (4, 5)) for pairs in (TRAIN, val, test))), layout)
    lengths = np.array([[1.0], [5.0], [0.1], [2.0]])
    write_vectors(layout, "minilm", (directions(ANGLES) * lengths).astype(np.float32), ANGLES)
    write_vectors(layout, "vgg16", directions(PHOTO_ANGLES), PHOTO_ANGLES)
    return layout


def directions(angles: Mapping[int, float]) -> npt.NDArray[np.float32]:
    radians = np.radians(list(angles.values()))
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def build(layout: Layout, name: str, params: GraphsParams = PARAMS, **encoders: str) -> dict[str, object]:
    return run(name, params, ENCODERS | encoders, layout)


def spoil(layout: Layout, **columns: npt.NDArray[np.generic]) -> None:
    """Write other values into the features of minilm, as no writer of ours would."""
    (path,) = part_paths(layout.features("minilm"))
    table = pq.read_table(path)
    for name, values in columns.items():
        kind = table.schema.field(name).type
        flat = pa.array(values.ravel())
        array = pa.FixedSizeListArray.from_arrays(flat, type=kind) if values.ndim > 1 else flat.cast(kind)
        table = table.set_column(table.column_names.index(name), table.schema.field(name), array)
    pq.write_table(table, path, write_page_checksum=True)


def edges(layout: Layout, name: str) -> list[tuple[int, int, float]]:
    return [(s, t, round(w, 4)) for s, t, w in EDGES.read(layout.graph(name)).iter_rows()]


def cosine(degrees: float) -> float:
    return round(float(np.cos(np.radians(degrees))), 4)


def with_knn(**values: object) -> GraphsParams:
    return PARAMS.model_copy(update={"knn": KnnParams(**{"k": 2, **values})})  # type: ignore[arg-type]


def test_neighbours_are_the_most_similar_items_with_themselves_first(layout: Layout) -> None:
    metrics = build(layout, "knn/minilm")
    pairs = [(0, 1, 10), (1, 0, 10), (2, 4, 10), (4, 2, 10)]
    expected = [edge for s, t, angle in pairs for edge in ((s, s, 1.0), (s, t, cosine(angle)))]
    assert edges(layout, "knn/minilm") == expected
    assert {key: metrics[key] for key in ("edges", "mean_neighbours", "without_neighbours", "cut", "tied_share")} == {
        "edges": 8,
        "mean_neighbours": 0.8,
        "without_neighbours": 1,
        "cut": 4,
        "tied_share": 0,
    }
    assert metrics["mean_weight"] == pytest.approx((1 + np.cos(np.radians(10))) / 2)
    angles = np.array(list(ANGLES.values()))
    assert metrics["mean_similarity"] == pytest.approx(np.cos(np.radians(angles[:, None] - angles)).mean())


def test_neighbours_without_self(layout: Layout) -> None:
    build(layout, "knn/minilm", with_knn(include_self=False))
    angles = [(0, 1, 10), (0, 2, 90), (1, 0, 10), (1, 2, 80), (2, 4, 10), (2, 1, 80), (4, 2, 10), (4, 1, 90)]
    assert [(s, t) for s, t, _ in edges(layout, "knn/minilm")] == [(s, t) for s, t, _ in angles]
    found = [weight for _, _, weight in edges(layout, "knn/minilm")]
    assert found == pytest.approx([cosine(angle) for _, _, angle in angles], abs=1e-4)


@pytest.mark.parametrize(
    ("weight", "normalise", "own", "other"),
    [
        ("binary", "none", 1, 1),
        ("binary", "row", 0.5, 0.5),
        ("binary", "sym_out", 0.5, 0.5),
        ("cosine", "row", 1 / (1 + cosine(10)), cosine(10) / (1 + cosine(10))),
        ("cosine", "sym_out", 1 / (1 + cosine(10)), cosine(10) / (1 + cosine(10))),
    ],
)
def test_neighbours_are_weighted_and_normalised_as_asked(
    layout: Layout, weight: str, normalise: str, own: float, other: float
) -> None:
    build(layout, "knn/minilm", with_knn(weight=weight, normalise=normalise))
    pairs = [(0, 1), (1, 0), (2, 4), (4, 2)]
    expected = {(s, t): w for s, n in pairs for t, w in ((s, own), (n, other))}
    assert {(s, t): w for s, t, w in edges(layout, "knn/minilm")} == pytest.approx(expected, abs=1e-4)


def test_more_items_than_are_compared_exactly_are_searched_by_faiss(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = build(layout, "knn/minilm")
    before = edges(layout, "knn/minilm")
    assert "recall" not in exact
    assert read_provenance(layout.graph("knn/minilm"))["libraries"] == {}
    asked = []
    found = approximate.candidates
    monkeypatch.setattr(approximate, "candidates", lambda *given: asked.append(len(given[0])) or found(*given))
    metrics = build(layout, "knn/minilm", with_knn(exact_up_to=3))
    assert (asked, metrics["recall"]) == ([4], 1.0)
    assert edges(layout, "knn/minilm") == before
    assert list(read_provenance(layout.graph("knn/minilm"))["libraries"]) == ["faiss-cpu"]
    build(layout, "knn/minilm", with_knn(exact_up_to=4))
    assert len(asked) == 1


def test_mixed_neighbours_are_the_weighted_sum(layout: Layout) -> None:
    for encoder in ENCODERS.values():
        build(layout, f"knn/{encoder}")
    params = PARAMS.model_copy(update={"mixed": MixedParams(image_weight=0.25)})
    build(layout, "mixed", params)
    # Each graph has two neighbours an item, of weight a half.
    image = [(0, 0), (0, 3), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 3), (4, 2), (4, 4)]
    text = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 4), (4, 2), (4, 4)]
    expected: dict[tuple[int, int], float] = {}
    for pairs, weight in ((image, 0.125), (text, 0.375)):
        for pair in pairs:
            expected[pair] = expected.get(pair, 0) + weight
    found = edges(layout, "mixed")
    assert {(s, t): w for s, t, w in found} == expected
    assert found == sorted(found, key=lambda edge: (edge[0], -edge[2], edge[1]))


def test_mixed_neighbours_of_one_modality_are_its_own(layout: Layout) -> None:
    build(layout, "knn/minilm")
    run("mixed", PARAMS, {"text": "minilm"}, layout)
    assert {(s, t): w for s, t, w in edges(layout, "mixed")} == {(s, t): 0.5 for s, t, _ in edges(layout, "knn/minilm")}


def test_mixing_needs_the_modalities_as_they_are(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match=r"knn/vgg16\.parquet: not found; run `mmprep graph` first"):
        build(layout, "mixed")
    for encoder in ENCODERS.values():
        build(layout, f"knn/{encoder}", with_knn(normalise="row"))
    with pytest.raises(DataError, match="found normalise row, expected none"):
        build(layout, "mixed")


@pytest.mark.parametrize("name", ["mixed", "consistent"])
def test_no_modality_is_nothing_to_join(layout: Layout, name: str) -> None:
    with pytest.raises(ParamsError) as caught:
        run(name, PARAMS, {}, layout)
    assert str(caught.value) == (
        f"graph {name}: train.image, train.text and train.audio are all empty, so there is nothing to join"
    )


def test_consistent_neighbours_of_both_modalities(layout: Layout) -> None:
    metrics = build(layout, "consistent")
    # The texts of 0 and 1 are near each other, and those of 2 and 4; the photos of 0 and 1 are not. 3 has no text.
    assert edges(layout, "consistent/text") == [
        (0, 0, 1.0),
        (1, 1, 1.0),
        (2, 2, 1.0),
        (2, 4, cosine(10)),
        (4, 4, 1.0),
        (4, 2, cosine(10)),
    ]
    assert [edge[:2] for edge in edges(layout, "consistent/image")] == [
        edge[:2] for edge in edges(layout, "consistent/text")
    ]
    assert (metrics["text_without_neighbours"], metrics["image_edges"]) == (3, 6)
    angles = np.array(list(PHOTO_ANGLES.values()))
    assert metrics["image_mean_similarity"] == pytest.approx(np.cos(np.radians(angles[:, None] - angles)).mean())
    assert metrics["text_tied_share"] == 0
    assert read_graph(layout, "consistent/image").shape == (5, 5)


def test_cooccurrence_counts_common_train_users_alone(layout: Layout) -> None:
    metrics = build(layout, "cooccurrence")
    assert edges(layout, "cooccurrence") == [(0, 1, 3), (0, 2, 2), (1, 0, 3), (1, 2, 2), (2, 0, 2), (2, 1, 2)]
    assert metrics["without_neighbours"] == 2
    assert metrics["mean_neighbours"] == pytest.approx(6 / 5)
    assert (metrics["left_out"], metrics["left_out_interactions"], metrics["cut"]) == (0, 0, 0)


def test_rarer_common_users_and_weaker_neighbours_are_left_out(layout: Layout) -> None:
    metrics = build(layout, "cooccurrence", GraphsParams(cooccurrence=CooccurrenceParams(min_count=1, k=1)))
    assert edges(layout, "cooccurrence") == [(0, 1, 3), (1, 0, 3), (2, 0, 2), (3, 2, 1)]
    assert (metrics["cut"], metrics["tied_share"]) == (3, pytest.approx(1 / 3))  # item 2 has 0 and 1 by two users each


def test_users_with_too_many_items_are_left_out_and_counted(layout: Layout) -> None:
    metrics = build(layout, "cooccurrence", GraphsParams(cooccurrence=CooccurrenceParams(min_count=1, max_degree=2)))
    assert edges(layout, "cooccurrence") == [(0, 1, 1), (1, 0, 1), (2, 3, 1), (3, 2, 1)]
    assert (metrics["left_out"], metrics["left_out_interactions"]) == (2, 6)


def test_users_are_joined_by_common_items(layout: Layout) -> None:
    metrics = build(layout, "user_user")
    assert edges(layout, "user_user") == [
        (0, 1, 2),
        (0, 2, 2),
        (1, 2, 3),
        (1, 0, 2),
        (2, 1, 3),
        (2, 0, 2),
        (3, 1, 1),
        (3, 2, 1),
    ]
    assert metrics["without_neighbours"] == 0
    assert read_graph(layout, "user_user").shape == (4, 4)


def test_interactions_are_normalised_three_ways(layout: Layout) -> None:
    metrics = build(layout, "interaction")
    assert (layout.graph("interaction/symmetric").parent.name, metrics["user_mean_edges"]) == ("interaction", 10)
    user_mean = read_graph(layout, "interaction/user_mean").toarray()
    np.testing.assert_allclose(user_mean, binary(TRAIN, (4, 5)).toarray() / np.array([[2], [3], [3], [2]]), rtol=1e-6)
    assert read_graph(layout, "interaction/item_mean").shape == (5, 4)
    # User 0 has item 0, and user 1 item 1, which is no edge to oneself.
    assert (metrics["user_mean_mean_neighbours"], metrics["item_mean_mean_neighbours"]) == (10 / 4, 10 / 5)
    assert (metrics["user_mean_chosen_p0"], metrics["symmetric_edges"]) == (0, 20)
    symmetric = read_graph(layout, "interaction/symmetric").toarray()
    assert symmetric.shape == (9, 9)
    assert symmetric[0, 4] == symmetric[4, 0] == pytest.approx((2 * 3) ** -0.5)


def test_parts_are_written_together_or_not_at_all(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    build(layout, "interaction")
    before = {path.name: sha256(path) for path in layout.graph_folder("interaction").iterdir()}
    write_world(World(*[binary([(0, 0), (1, 1)], (4, 5))] * 3), layout)
    write_edges = Table.write

    def full_disk(table: Table, frame: pl.DataFrame, path: Path, provenance: Provenance) -> None:
        if path.name == "item_mean.parquet":
            raise OSError(28, "No space left on device")
        write_edges(table, frame, path, provenance)

    monkeypatch.setattr(Table, "write", full_disk)
    with pytest.raises(OSError, match="No space left"):
        build(layout, "interaction")
    assert {path.name: sha256(path) for path in layout.graph_folder("interaction").iterdir()} == before
    assert [path.name for path in layout.graph_folder("").iterdir()] == ["interaction"]


def test_graph_without_an_edge_is_written(layout: Layout) -> None:
    metrics = build(layout, "cooccurrence", GraphsParams(cooccurrence=CooccurrenceParams(min_count=99)))
    assert edges(layout, "cooccurrence") == []
    assert (metrics["edges"], metrics["mean_weight"], metrics["without_neighbours"]) == (0, 0.0, 5)


SPLIT = [f"processed/toy/{table}.parquet" for table in ("interactions", "items", "users")]
FEATURES = [f"features/toy/{encoder}/part-00000-of-00001.parquet" for encoder in ("minilm", "vgg16")]


@pytest.mark.parametrize(
    ("name", "files", "section", "inputs"),
    [
        ("knn/minilm", ["knn/minilm"], PARAMS.knn, [FEATURES[0], SPLIT[1]]),
        ("mixed", ["mixed"], PARAMS.mixed, [f"graphs/toy/knn/{encoder}.parquet" for encoder in ("minilm", "vgg16")]),
        ("consistent", ["consistent/image", "consistent/text"], PARAMS.consistent, [*FEATURES, SPLIT[1]]),
        ("cooccurrence", ["cooccurrence"], PARAMS.cooccurrence, SPLIT),
        ("user_user", ["user_user"], PARAMS.user_user, SPLIT),
        ("interaction", [f"interaction/{part}" for part in ("symmetric", "user_mean", "item_mean")], None, SPLIT),
    ],
)
def test_graph_tells_what_made_it(
    layout: Layout, name: str, files: list[str], section: KnnParams | None, inputs: list[str]
) -> None:
    for encoder in ENCODERS.values():
        build(layout, f"knn/{encoder}")
    metrics = build(layout, name)
    for file in files:
        provenance = read_provenance(layout.graph(file))
        assert (provenance["stage"], provenance["graph"]) == ("graph", name)
        assert provenance["params"] == (section.model_dump() if section else {})
        assert provenance["inputs"] == {path: sha256(layout.root / path) for path in inputs}
    assert json.loads(layout.metrics(f"graph-{name.replace('/', '-')}").read_text()) == metrics


def test_edges_are_sorted_by_source_then_rank(layout: Layout) -> None:
    build(layout, "knn/minilm", with_knn(k=4))
    frame = EDGES.read(layout.graph("knn/minilm"))
    ordered = frame.sort("source", pl.col("weight").neg(), maintain_order=True)
    assert frame.equals(ordered)
    assert len(frame) == 16


def test_neighbours_without_features_name_the_command_that_makes_them(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="no features; run `mmprep extract --encoder alexnet` first"):
        build(layout, "knn/alexnet")


def test_features_of_more_items_than_the_dataset_has_are_refused(layout: Layout) -> None:
    write_vectors(layout, "minilm", np.ones((6, 2), dtype=np.float32))
    with pytest.raises(DataError, match="features of item 5 in a dataset of 5 items; run `mmprep extract` again"):
        build(layout, "knn/minilm")


def test_features_of_other_items_are_refused(layout: Layout) -> None:
    write_world(World(*[binary([(0, 0)], (4, 6))] * 3), layout)
    with pytest.raises(DataError, match="made of another"):
        build(layout, "knn/minilm")
    assert not layout.graph("knn/minilm").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["knn/minilm", "consistent"])
def test_numbers_that_are_not_finite_are_refused(layout: Layout, name: str, bad: float) -> None:
    vectors = directions(ANGLES)
    vectors[2, 1] = bad
    spoil(layout, vector=vectors)
    with pytest.raises(DataError, match="NaN or infinite numbers in the vectors of 1 items, item 2 first, expected"):
        build(layout, name)
    assert not layout.graph_folder("").exists()


def test_item_that_has_two_vectors_is_refused(layout: Layout) -> None:
    spoil(layout, item=np.array([0, 1, 1, 4], dtype=np.int32))
    with pytest.raises(DataError) as caught:
        build(layout, "knn/minilm")
    assert "damaged features (item 1 comes twice or out of order); remove the folder and run" in str(caught.value)


def test_more_neighbours_than_there_are_items_are_refused_and_the_old_graph_stays(layout: Layout) -> None:
    build(layout, "knn/minilm")
    before = sha256(layout.graph("knn/minilm"))
    with pytest.raises(DataError, match=r"k = 5 neighbours asked for, but only 4 items could be; lower graphs\.knn\.k"):
        build(layout, "knn/minilm", with_knn(k=5))
    assert sha256(layout.graph("knn/minilm")) == before


@pytest.mark.parametrize("name", ["cooccurrence", "user_user", "interaction"])
def test_empty_train_split_is_refused(layout: Layout, name: str) -> None:
    write_world(World(binary([], (4, 5)), *[binary([(0, 1)], (4, 5))] * 2), layout)
    with pytest.raises(DataError) as caught:
        build(layout, name)
    assert str(caught.value) == (
        f"{layout.interactions}: no train interactions, so there is nothing to join; see split.rule"
    )
    assert not layout.graph_folder("").exists()


def test_all_graphs_are_those_that_are_described() -> None:
    names = graph_names(GraphsParams(encoders=("vgg16", "minilm")))
    assert names == ["knn/vgg16", "knn/minilm", "mixed", "consistent", "cooccurrence", "user_user", "interaction"]
    assert (
        graph_names(GraphsParams.model_validate({"encoders": (), "intra_item": {"encoders": ("t",)}}))[-1]
        == "intra_item/t"
    )


def test_same_input_gives_the_same_bytes(layout: Layout) -> None:
    def digests() -> list[str]:
        for name in graph_names(PARAMS):
            build(layout, name)
        return [sha256(path) for path in sorted(layout.graph_folder("").rglob("*.parquet"))]

    first = digests()
    assert len(first) == 10
    assert digests() == first
