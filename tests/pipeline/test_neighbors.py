"""Nearest neighbours against a dense computation."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import pytest

from pipeline import neighbors
from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.graphs import Edges
from pipeline.neighbors import knn_edges
from pipeline.progress import Advance

Vectors = npt.NDArray[np.float32]


def exact_vectors(n: int, seed: int = 0) -> Vectors:
    """Vectors of four ones each, so that cosines are quarters, without any rounding and with many ties."""
    vectors = np.zeros((n, 12), dtype=np.float32)
    rng = np.random.default_rng(seed)
    for vector in vectors:
        vector[rng.choice(12, size=4, replace=False)] = 1
    return vectors


def some_features(n: int, zero: tuple[int, ...] = ()) -> Features:
    """Vectors of the even items; those at `zero` are nothing but zeros."""
    vectors = exact_vectors(n)
    vectors[list(zero)] = 0
    return Features(np.arange(0, 2 * n, 2, dtype=np.int32), vectors, {})


def dense_neighbours(features: Features, k: int, include_self: bool) -> list[tuple[int, int, float]]:
    """The edges by the full matrix of cosines and a stable sort."""
    edges = []
    norms = np.linalg.norm(features.vectors.astype(np.float64), axis=1)
    for row in np.flatnonzero(norms):
        cosines = [
            (-float(features.vectors[row] @ features.vectors[other]) / (norms[row] * norms[other]), other)
            for other in np.flatnonzero(norms)
            if include_self or other != row
        ]
        edges += [
            (int(features.items[row]), int(features.items[other]), -cosine) for cosine, other in sorted(cosines)[:k]
        ]
    return edges


def as_tuples(edges: Edges) -> list[tuple[int, int, float]]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("k", [1, 3, 10, 27])
def test_neighbours_are_those_of_the_dense_matrix(k: int, include_self: bool) -> None:
    features = some_features(30, zero=(0, 17))
    edges = knn_edges(features, k, include_self=include_self)
    assert as_tuples(edges) == dense_neighbours(features, k, include_self)
    assert (edges.source.dtype, edges.target.dtype, edges.weight.dtype) == (np.int32, np.int32, np.float32)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 29, 30, 31])
def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch, rows: int, include_self: bool) -> None:
    features = some_features(30)
    whole = as_tuples(knn_edges(features, 5, include_self=include_self))
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", rows)
    assert as_tuples(knn_edges(features, 5, include_self=include_self)) == whole


def test_neighbours_of_real_numbers_are_nearest() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 6)).astype(np.float32)
    features = Features(np.arange(50, dtype=np.int32), vectors, {})
    edges = knn_edges(features, 4, include_self=False)
    expected = dense_neighbours(features, 4, include_self=False)
    assert [edge[:2] for edge in as_tuples(edges)] == [edge[:2] for edge in expected]
    np.testing.assert_allclose(edges.weight, [edge[2] for edge in expected], atol=1e-6)


def test_equal_items_come_by_index() -> None:
    features = Features(np.arange(5, dtype=np.int32), np.ones((5, 4), dtype=np.float32), {})
    assert as_tuples(knn_edges(features, 2, include_self=True)) == [
        (source, target, 1.0) for source in range(5) for target in (0, 1)
    ]
    assert knn_edges(features, 2, include_self=False).target.tolist() == [1, 2, 0, 2, 0, 1, 0, 1, 0, 1]


def test_items_without_a_vector_or_with_a_zero_one_have_no_edges() -> None:
    edges = knn_edges(some_features(10, zero=(3, 9)), 4, include_self=True)
    with_edges = set(range(0, 20, 2)) - {6, 18}
    assert set(edges.source.tolist()) == with_edges
    assert set(edges.target.tolist()) <= with_edges
    assert np.isfinite(edges.weight).all()


def test_neighbours_do_not_depend_on_the_length_of_vectors() -> None:
    features = some_features(20)
    expected = as_tuples(knn_edges(features, 5, include_self=True))
    for exponent in (-140, -60, 0, 60, 120):
        scaled = Features(features.items, np.ldexp(features.vectors, exponent), {})
        assert as_tuples(knn_edges(scaled, 5, include_self=True)) == expected


@pytest.mark.parametrize(("k", "include_self", "possible"), [(9, True, 8), (8, False, 7), (20, True, 8)])
def test_k_beyond_the_items_is_refused(k: int, include_self: bool, possible: int) -> None:
    with pytest.raises(DataError) as caught:
        knn_edges(some_features(10, zero=(0, 1)), k, include_self=include_self)
    assert str(caught.value) == (
        f"k = {k} neighbours asked for, but only {possible} items could be; lower graphs.knn.k"
    )


@pytest.mark.parametrize("include_self", [True, False])
def test_no_vectors_at_all_are_refused(include_self: bool) -> None:
    nothing = Features(np.array([], dtype=np.int32), np.zeros((0, 4), dtype=np.float32), {})
    for features in (nothing, some_features(1, zero=(0,))):
        with pytest.raises(DataError, match="only 0 items could be"):
            knn_edges(features, 1, include_self=include_self)


def test_progress_is_told_of_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BLOCK_ROWS", 4)
    told: list[object] = []

    @contextmanager
    def listen(task: str, total: int | None, unit: str) -> Iterator[Advance]:
        told.append((task, total, unit))
        yield lambda units, _: told.append(units)

    knn_edges(some_features(10), 2, include_self=True, progress=listen)
    assert told == [("nearest neighbours", 10, "items"), 4, 4, 2]
