import pytest
import torch
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.layers.camgr.edge_softmax import EdgePattern, SparseAttention, edge_products, edge_softmax

SOURCES, TARGETS, SIZE = 5, 4, 3
# Source 1 has no edge, target 3 is nobody's.
PLACES = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0]]
MASK = torch.tensor(PLACES, dtype=torch.bool)
EXACT = {"rtol": 0.0, "atol": 1e-12}


def pattern() -> EdgePattern:
    return SparseAttention(csr_array(MASK.double().numpy()))()


def tensors(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def on_edges(matrix: Tensor) -> Tensor:
    """The entries of [n, m] at the pattern's places, row by row."""
    return matrix[MASK]


def dense_softmax(logits: Tensor) -> Tensor:
    """The softmax of [edges] logits in each row, as a matrix, with 0 where there is no edge."""
    powers = torch.zeros(SOURCES, TARGETS, dtype=torch.float64).masked_scatter(MASK, logits.exp())
    return powers / powers.sum(dim=1, keepdim=True).clamp_min(1e-300)


def same_gradients(found: Tensor, expected: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, **EXACT)
    weights = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    gradients = [torch.autograd.grad((weights * value).sum(), inputs) for value in (found, expected)]
    torch.testing.assert_close(*gradients, **EXACT)


def test_products_at_edges_and_their_gradients_are_those_of_the_dense_product() -> None:
    left, right = tensors((SOURCES, SIZE), (TARGETS, SIZE))
    same_gradients(edge_products(pattern(), left, right), on_edges(left @ right.T), [left, right])


def test_mean_by_softmax_and_its_gradients_are_those_of_the_dense_softmax() -> None:
    logits, values = tensors((int(MASK.sum()),), (TARGETS, SIZE))
    same_gradients(edge_softmax(pattern(), logits, values), dense_softmax(logits) @ values, [logits, values])


def test_shares_of_each_source_sum_to_one() -> None:
    shares = pattern().shares(tensors((int(MASK.sum()),))[0].detach())
    sums = pattern().matrix(shares) @ torch.ones(TARGETS, 1, dtype=torch.float64)
    torch.testing.assert_close(sums[:, 0], MASK.any(dim=1).double())


def test_large_logits_overflow_nothing() -> None:
    logits = torch.linspace(-2000, 2000, int(MASK.sum()), requires_grad=True)
    mean = edge_softmax(pattern(), logits, torch.eye(TARGETS))
    mean.sum().backward()
    assert mean.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_source_without_edges_gets_zero() -> None:
    logits, values = tensors((int(MASK.sum()),), (TARGETS, SIZE))
    assert not edge_softmax(pattern(), logits, values)[1].count_nonzero()


def test_graph_without_edges_gives_zeros() -> None:
    empty = SparseAttention(csr_array((2, TARGETS)))()
    values = torch.ones(TARGETS, SIZE, requires_grad=True)
    mean = edge_softmax(empty, edge_products(empty, torch.ones(2, SIZE), values), values)
    mean.sum().backward()
    assert not mean.count_nonzero()
    assert values.grad is not None
    assert not values.grad.count_nonzero()


@pytest.mark.parametrize("nodes", [[0, 1, 2, 3, 4], [3], [1], [1, 4], [4, 0, 3], []], ids=str)
def test_rows_of_some_sources_are_a_pattern_of_their_own(nodes: list[int]) -> None:
    chosen = torch.tensor(nodes, dtype=torch.long)
    some, weights = pattern().rows(chosen), torch.arange(1, int(MASK.sum()) + 1).double()
    whole = torch.zeros(SOURCES, TARGETS, dtype=torch.float64).masked_scatter(MASK, weights)
    own = whole[chosen][MASK[chosen]]
    torch.testing.assert_close(some.matrix(own).to_dense(), whole[chosen], **EXACT)
    torch.testing.assert_close(some.transposed(own).to_dense(), whole[chosen].T, **EXACT)


def test_weights_of_a_graph_are_not_read() -> None:
    doubled = SparseAttention(csr_array(7 * MASK.double().numpy()))()
    assert torch.equal(doubled.targets, pattern().targets)


def test_pattern_is_no_part_of_a_checkpoint_and_follows_its_module() -> None:
    module = SparseAttention(csr_array(MASK.double().numpy()))
    assert not module.state_dict()
    assert module.to("meta")().targets.device.type == "meta"
