import torch
from scipy.sparse import csr_array
from torch import Tensor

from mmprep.models.layers.camgr.edge_softmax import SparseAttention
from mmprep.models.layers.camgr.graph_attention import GraphAttention

# Node 4 has no neighbour.
NEIGHBOURS = {0: [1, 2], 1: [0], 2: [0, 1, 3], 3: [2], 4: []}
NODES, SIZE = 5, 3


def joined() -> SparseAttention:
    matrix = torch.zeros(NODES, NODES)
    for node, others in NEIGHBOURS.items():
        matrix[node, others] = 1
    return SparseAttention(csr_array(matrix.numpy()))


def layer_and_nodes() -> tuple[GraphAttention, Tensor]:
    torch.manual_seed(0)
    return GraphAttention(SIZE).double(), torch.randn(NODES, SIZE, dtype=torch.float64).requires_grad_()


def by_hand(layer: GraphAttention, nodes: Tensor) -> Tensor:
    """Each node's mean of its neighbours, one by one, by the concatenation of both ends."""
    mapped = nodes @ layer.map.weight.T
    rows = []
    for node, others in NEIGHBOURS.items():
        total, weights = torch.zeros(SIZE, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for other in others:
            logit = layer.attention.weight[0] @ torch.cat([mapped[node], mapped[other]])
            weight = torch.exp(torch.where(logit > 0, logit, 0.2 * logit))
            total, weights = total + weight * mapped[other], weights + weight
        rows.append(total / weights if others else total)
    return torch.stack(rows)


def test_layer_and_its_gradients_are_those_of_the_equations() -> None:
    layer, nodes = layer_and_nodes()
    found, expected = layer(joined()(), nodes), by_hand(layer, nodes)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    inputs = [nodes, *layer.parameters()]
    gradients = [torch.autograd.grad(value.square().sum(), inputs) for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_equal_neighbours_are_attended_to_alike() -> None:
    layer, nodes = layer_and_nodes()
    same = nodes[:1].expand(NODES, SIZE)
    pattern = joined()()
    shares = pattern.shares(layer.logits(pattern, layer.map(same)).detach())
    expected = [1 / len(others) for others in NEIGHBOURS.values() for _ in others]
    torch.testing.assert_close(shares, torch.tensor(expected, dtype=torch.float64))


def test_node_without_neighbours_gathers_nothing() -> None:
    layer, nodes = layer_and_nodes()
    assert not layer(joined()(), nodes)[4].count_nonzero()
