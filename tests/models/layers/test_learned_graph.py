import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.layers.learned_graph import LearnedGraph, cosine_graph, mixture, nearest
from mmprep.pipeline.graphs.edges import normalised

N, WIDTH = 9, 4


def random_rows(rows: int, columns: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense_cosines(vectors: Tensor, k: int) -> Tensor:
    """The full matrix of cosines, all but the k largest of a row at 0, and the negative ones too."""
    cosines = vectors @ vectors.T / torch.outer(vectors.norm(dim=1), vectors.norm(dim=1))
    smallest_kept = cosines.sort(dim=1, descending=True).values[:, k - 1 : k]
    return torch.where((cosines >= smallest_kept) & (cosines > 0), cosines, 0)


def as_dense(graph: LearnedGraph) -> Tensor:
    return graph(torch.eye(len(graph.targets), dtype=torch.float64))


@pytest.mark.parametrize("k", [1, 3, N])
def test_cosine_graph_and_its_gradient_are_those_of_the_full_matrix(k: int) -> None:
    left = random_rows(N, WIDTH).requires_grad_()
    right = left.detach().clone().requires_grad_()
    dense, outer = random_rows(N, 2, seed=1), random_rows(N, 2, seed=2)
    (cosine_graph(left, k)(dense) * outer).sum().backward()
    (dense_cosines(right, k) @ dense * outer).sum().backward()
    torch.testing.assert_close(as_dense(cosine_graph(left, k)), dense_cosines(right, k))
    assert left.grad is not None
    torch.testing.assert_close(left.grad, right.grad)


def test_product_has_a_gradient_for_what_is_multiplied() -> None:
    graph = cosine_graph(random_rows(N, WIDTH), 3)
    dense, outer = random_rows(N, 2, seed=1).requires_grad_(), random_rows(N, 2, seed=2)
    (graph(dense) * outer).sum().backward()
    assert dense.grad is not None
    torch.testing.assert_close(dense.grad, as_dense(graph).T @ outer)


@pytest.mark.parametrize("block_rows", [1, 7, N])
def test_blocks_find_the_same_neighbours_as_the_full_matrix(block_rows: int) -> None:
    rows = random_rows(N, WIDTH)
    expected = torch.argsort(rows @ rows.T, dim=1, descending=True, stable=True)[:, :4]
    assert torch.equal(nearest(rows, 4, block_rows), expected)


def test_equally_similar_node_of_smaller_index_is_the_neighbour() -> None:
    graph = cosine_graph(torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0]]), 2)
    assert graph.targets.tolist() == [[0, 1], [0, 1], [0, 1], [3, 0]]


def test_normalisation_divides_by_both_ends_row_sums() -> None:
    graph = cosine_graph(random_rows(N, WIDTH), 4)
    expected = normalised(csr_array(as_dense(graph).numpy()), "sym_out").toarray()
    np.testing.assert_allclose(as_dense(graph.normalised()).numpy(), expected, rtol=1e-6)


def test_node_without_similarities_stays_without_and_its_gradient_finite() -> None:
    vectors = random_rows(N, WIDTH)
    vectors[2] = 0
    vectors.requires_grad_()
    found = as_dense(cosine_graph(vectors, 4).normalised())
    assert not found[2].any()
    assert found.isfinite().all()
    found.square().sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.isfinite().all()


def test_mixture_is_the_weighted_sum_with_gradient_to_the_shares() -> None:
    graphs = [cosine_graph(random_rows(N, WIDTH, seed), 3) for seed in (0, 1)]
    shares = torch.tensor([0.25, 0.75], dtype=torch.float64, requires_grad=True)
    mixed = mixture(graphs, shares)
    first, second = (as_dense(graph) for graph in graphs)
    torch.testing.assert_close(as_dense(mixed), 0.25 * first + 0.75 * second)
    as_dense(mixed).sum().backward()
    torch.testing.assert_close(shares.grad, torch.stack([first.sum(), second.sum()]))


def test_matrix_is_the_same_graph() -> None:
    mixed = mixture([cosine_graph(random_rows(N, WIDTH, seed), 3) for seed in (0, 1)], torch.tensor([0.5, 0.5]))
    assert len(np.unique(mixed.targets[0])) < 6  # a target that both have
    np.testing.assert_allclose(mixed.to_matrix().toarray(), as_dense(mixed).numpy(), rtol=1e-12)
