"""Graphs against dense arithmetic and double loops."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_array

from pipeline.errors import DataError
from pipeline.graphs import Edges, bipartite, cooccurrence, inverse_power, keep_strongest, normalise_symmetric

Matrix = npt.NDArray[np.float32]

BINARY = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
    elements=st.sampled_from([0.0, 1.0]),
)


def as_tuples(edges: Edges) -> list[tuple[int, int, float]]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))


def pairs_by_double_loop(interactions: Matrix, min_count: int, k: int) -> list[tuple[int, int, float]]:
    """The co-occurrence edges, pair by pair."""
    n_items = interactions.shape[1]
    edges = []
    for source in range(n_items):
        ranked = []
        for target in range(n_items):
            common = sum(1 for row in interactions if row[source] and row[target])
            if source != target and common >= min_count:
                ranked.append((-common, target))
        edges += [(source, target, float(-count)) for count, target in sorted(ranked)[:k]]
    return edges


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(interactions=BINARY, min_count=st.integers(1, 4), k=st.integers(1, 9))
def test_cooccurrence_is_that_of_a_double_loop(interactions: Matrix, min_count: int, k: int) -> None:
    edges = cooccurrence(csr_array(interactions), min_count, k)
    assert as_tuples(edges) == pairs_by_double_loop(interactions, min_count, k)
    assert (edges.source.dtype, edges.target.dtype, edges.weight.dtype) == (np.int32, np.int32, np.float32)


def test_cooccurrence_of_a_known_shop() -> None:
    interactions = csr_array(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=np.float32))
    assert as_tuples(cooccurrence(interactions, min_count=2, k=10)) == [
        (0, 1, 2.0),
        (1, 0, 2.0),
        (1, 2, 2.0),
        (2, 1, 2.0),
    ]
    assert as_tuples(cooccurrence(interactions, min_count=2, k=1)) == [(0, 1, 2.0), (1, 0, 2.0), (2, 1, 2.0)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    matrix=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
        elements=st.sampled_from([0.0, -1.0, 0.5, 1.0, 2.0]),
    ),
    k=st.integers(1, 9),
)
def test_the_strongest_are_kept_in_order_of_rank(matrix: Matrix, k: int) -> None:
    expected = []
    for row in range(matrix.shape[0]):
        stored = np.flatnonzero(matrix[row])
        ranked = stored[np.argsort(-matrix[row, stored], kind="stable")][:k]
        expected += [(row, int(column), float(matrix[row, column])) for column in ranked]
    assert as_tuples(keep_strongest(csr_array(matrix), k)) == expected


def test_the_strongest_do_not_depend_on_the_order_of_storage() -> None:
    unsorted = csr_array(
        (np.array([1.0, 2.0, 1.0], dtype=np.float32), np.array([2, 1, 0]), np.array([0, 3, 3, 3])), shape=(3, 3)
    )
    assert as_tuples(keep_strongest(unsorted, 2)) == [(0, 1, 2.0), (0, 0, 1.0)]


def test_bipartite_joins_users_and_items_both_ways() -> None:
    interactions = np.array([[1, 0, 1], [0, 0, 1]], dtype=np.float32)
    expected = np.block([[np.zeros((2, 2)), interactions], [interactions.T, np.zeros((3, 3))]])
    found = bipartite(csr_array(interactions))
    np.testing.assert_array_equal(found.toarray(), expected)
    assert found.dtype == np.float32


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(interactions=BINARY)
def test_symmetric_normalisation_is_the_dense_one_and_degree_0_stays_0(interactions: Matrix) -> None:
    adjacency = bipartite(csr_array(interactions)).toarray().astype(np.float64)
    degree = adjacency.sum(axis=1)
    scale = np.array([d**-0.5 if d else 0.0 for d in degree])
    found = normalise_symmetric(bipartite(csr_array(interactions)))
    np.testing.assert_allclose(found.toarray(), scale[:, None] * adjacency * scale, rtol=1e-6)
    assert found.dtype == np.float32
    assert not found.toarray()[degree == 0].any()


def test_normalisation_counts_weights_as_degrees() -> None:
    adjacency = csr_array(np.array([[0, 4], [4, 0]], dtype=np.float32))
    np.testing.assert_array_equal(normalise_symmetric(adjacency).toarray(), [[0, 1], [1, 0]])


def test_the_inverse_of_degree_0_is_0() -> None:
    degrees = np.array([0, 1, 4], dtype=np.float32)
    np.testing.assert_array_equal(inverse_power(degrees, 0.5), [0, 1, 0.5])
    np.testing.assert_array_equal(inverse_power(degrees, 1.0), [0, 1, 0.25])


def some_edges() -> Edges:
    return Edges(np.array([0, 0, 2], "i4"), np.array([1, 2, 0], "i4"), np.array([0.5, 0.25, 1], "f4"))


def test_edges_come_back_from_their_table() -> None:
    edges = some_edges()
    assert as_tuples(Edges.from_frame(edges.to_frame())) == as_tuples(edges)
    assert len(edges) == 3


def test_edges_are_a_matrix() -> None:
    np.testing.assert_array_equal(some_edges().to_matrix(3).toarray(), [[0, 0.5, 0.25], [0, 0, 0], [1, 0, 0]])
    assert some_edges().to_matrix(5).shape == (5, 5)


def test_no_edges_are_an_empty_matrix() -> None:
    nothing = Edges(np.array([], "i4"), np.array([], "i4"), np.array([], "f4"))
    assert nothing.to_matrix(4).nnz == 0
    assert len(Edges.from_frame(nothing.to_frame())) == 0


def test_edges_beyond_the_dataset_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        some_edges().to_matrix(2)
    assert str(caught.value) == "the graph has nodes beyond the dataset's 2; run `mmprep graph` again"
