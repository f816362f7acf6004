import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from mmprep.models.layers.propagation import SparseOperator, hops, lightgcn


def random_matrix(rows: int, columns: int, seed: int = 0) -> csr_array:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.3)
    dense[0] = 0  # a node without neighbours
    return csr_array(dense.astype(np.float32))


def symmetric(n: int) -> csr_array:
    half = random_matrix(n, n)
    return csr_array(half + half.T)


MATRICES = {
    "square": random_matrix(9, 9),
    "wide": random_matrix(5, 9),
    "tall": random_matrix(9, 5),
    "even": symmetric(9),
}


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_product_and_its_gradient_are_those_of_the_dense_matrix(kind: str, precision: torch.dtype) -> None:
    matrix = MATRICES[kind]
    operator = SparseOperator(matrix).to(precision)
    dense = torch.from_numpy(matrix.toarray()).to(precision)
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(matrix.shape[1], 4, dtype=precision, generator=generator, requires_grad=True)
    right = left.detach().clone().requires_grad_()
    outer = torch.randn(matrix.shape[0], 4, dtype=precision, generator=generator)
    (operator(left) * outer).sum().backward()
    (dense @ right * outer).sum().backward()
    assert left.grad is not None
    assert left.grad.dtype == precision
    torch.testing.assert_close(operator(left), dense @ right)
    torch.testing.assert_close(left.grad, right.grad)


def test_symmetric_matrix_is_held_once_and_another_with_its_transpose() -> None:
    held = {kind: len(list(SparseOperator(matrix).buffers())) for kind, matrix in MATRICES.items()}
    assert held == {"square": 2, "wide": 2, "tall": 2, "even": 1}


def test_graph_is_no_part_of_a_checkpoint() -> None:
    assert SparseOperator(MATRICES["square"]).state_dict() == {}


def test_operator_without_a_single_edge_gives_zeros() -> None:
    operator = SparseOperator(csr_array((4, 4), dtype=np.float32))
    torch.testing.assert_close(operator(torch.ones(4, 2)), torch.zeros(4, 2))


def test_hops_are_the_powers_of_the_graph_from_the_first_on() -> None:
    matrix = symmetric(9)
    dense = torch.from_numpy(matrix.toarray()).double()
    nodes = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = [dense @ nodes, dense @ (dense @ nodes)]
    torch.testing.assert_close(hops(SparseOperator(matrix).double(), nodes, 2), expected)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_lightgcn_is_the_mean_over_hops(layers: int) -> None:
    matrix = symmetric(9)
    dense = torch.from_numpy(matrix.toarray()).double()
    nodes = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    hops = [torch.linalg.matrix_power(dense, power) @ nodes for power in range(layers + 1)]
    torch.testing.assert_close(lightgcn(SparseOperator(matrix).double(), nodes, layers), sum(hops) / (layers + 1))


def test_lightgcn_on_two_nodes_by_hand() -> None:
    # Nodes a = 2, b = 4 joined by weight 1/2. Hop 1: (2, 1). Hop 2: (1/2, 1). Means over three: (4.5/3, 6/3).
    edge = SparseOperator(csr_array(np.array([[0, 0.5], [0.5, 0]], dtype=np.float32)))
    torch.testing.assert_close(lightgcn(edge, torch.tensor([[2.0], [4.0]]), 2), torch.tensor([[1.5], [2.0]]))


def test_lightgcn_without_layers_changes_nothing() -> None:
    nodes = torch.randn(9, 4)
    torch.testing.assert_close(lightgcn(SparseOperator(symmetric(9)), nodes, 0), nodes, rtol=0, atol=0)
