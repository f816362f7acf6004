"""Graphs against dense arithmetic and double loops."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import csr_array

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.edges import (
    Edges,
    bipartite,
    interaction_graphs,
    inverse_power,
    keep_strongest,
    normalised,
    strongest_first,
    weighted,
)
from mmprep.pipeline.graphs.params import Normalisation

Matrix = npt.NDArray[np.float32]

BINARY = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8),
    elements=st.sampled_from([0.0, 1.0]),
)


def as_tuples(edges: Edges) -> list[tuple[int, int, float]]:
    return list(zip(edges.source.tolist(), edges.target.tolist(), edges.weight.tolist(), strict=True))


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
    found = normalised(bipartite(csr_array(interactions)), "sym_out")
    np.testing.assert_allclose(found.toarray(), scale[:, None] * adjacency * scale, rtol=1e-6)
    assert found.dtype == np.float32
    assert not found.toarray()[degree == 0].any()


def test_normalisation_counts_weights_as_degrees() -> None:
    adjacency = csr_array(np.array([[0, 4], [4, 0]], dtype=np.float32))
    np.testing.assert_array_equal(normalised(adjacency, "sym_out").toarray(), [[0, 1], [1, 0]])


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


def test_edges_from_users_to_items_are_a_matrix_of_both_sizes() -> None:
    assert some_edges().to_matrix(3, 7).shape == (3, 7)
    with pytest.raises(DataError):
        some_edges().to_matrix(7, 2)


def test_edges_take_other_numbers() -> None:
    named = some_edges().renumbered(np.array([3, 5, 8]))
    assert as_tuples(named) == [(3, 5, 0.5), (3, 8, 0.25), (8, 3, 1.0)]
    assert named.source.dtype == np.int32


def test_all_entries_become_edges_the_best_first() -> None:
    matrix = csr_array(np.array([[0.5, 0, 2, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=np.float32))
    assert as_tuples(strongest_first(matrix)) == [(0, 2, 2.0), (0, 3, 1.0), (0, 0, 0.5), (2, 0, 1.0), (2, 1, 1.0)]


def test_rows_are_divided_by_their_sum() -> None:
    matrix = csr_array(np.array([[1, 3, 0], [0, 0, 0], [5, 0, 0]], dtype=np.float32))
    np.testing.assert_array_equal(normalised(matrix, "row").toarray(), [[0.25, 0.75, 0], [0, 0, 0], [1, 0, 0]])
    assert normalised(matrix, "none") is matrix


def test_sums_of_rows_serve_both_ends_of_an_edge() -> None:
    # Row sums 4 and 1, column sums 1 and 4.
    matrix = csr_array(np.array([[0, 4], [1, 0]], dtype=np.float32))
    np.testing.assert_array_equal(normalised(matrix, "sym_out").toarray(), [[0, 2], [0.5, 0]])


@pytest.mark.parametrize("how", ["row", "sym_out"])
def test_full_rows_of_equal_weights_become_one_over_k(how: Normalisation) -> None:
    rng = np.random.default_rng(0)
    matrix = np.zeros((9, 9), dtype=np.float32)
    for row in matrix:
        row[rng.permutation(9)[:4]] = rng.uniform(0.1, 1, 4)
    found = normalised(weighted(csr_array(matrix), "binary"), how)
    np.testing.assert_array_equal(found.toarray(), np.where(matrix, np.float32(0.25), 0))


def test_negative_weights_count_as_nothing() -> None:
    matrix = csr_array(np.array([[1, -0.5], [-1, -0.25]], dtype=np.float32))
    np.testing.assert_array_equal(weighted(matrix, "cosine").toarray(), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(weighted(matrix, "binary").toarray(), [[1, 1], [1, 1]])
    assert matrix.data.min() == -1  # the original stays
    np.testing.assert_array_equal(normalised(weighted(matrix, "cosine"), "sym_out").toarray(), [[1, 0], [0, 0]])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(interactions=BINARY)
def test_graphs_of_interactions_are_the_dense_ones(interactions: Matrix) -> None:
    found = interaction_graphs(csr_array(interactions))
    users, items = interactions.sum(axis=1, keepdims=True), interactions.sum(axis=0)[:, None]
    np.testing.assert_allclose(found["user_mean"].toarray(), interactions / np.maximum(users, 1), rtol=1e-6)
    np.testing.assert_allclose(found["item_mean"].toarray(), interactions.T / np.maximum(items, 1), rtol=1e-6)
    block = interactions / np.sqrt(np.maximum(users, 1) * np.maximum(items.T, 1))
    symmetric = found["symmetric"].toarray()
    np.testing.assert_allclose(symmetric[: len(interactions), len(interactions) :], block, rtol=1e-6)
    np.testing.assert_array_equal(symmetric, symmetric.T)
    assert all(graph.dtype == np.float32 for graph in found.values())


@pytest.mark.parametrize("how", ["row", "sym_out"])
def test_order_of_the_nodes_changes_no_weight(how: Normalisation) -> None:
    rng = np.random.default_rng(0)
    matrix, order = rng.uniform(0, 1, (200, 200)).astype(np.float32), rng.permutation(200)
    plain = normalised(csr_array(matrix), how).toarray()
    shuffled = normalised(csr_array(matrix[order][:, order]), how).toarray()
    np.testing.assert_array_equal(shuffled, plain[order][:, order])
