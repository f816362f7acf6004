"""Nearest-neighbour graph by cosine of learned vectors, with gradients to the similarities of its edges."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding, normalize

from mmprep.models.layers.topk import top_k

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class LearnedGraph:
    """Weighted graph with the same number of edges from each node; weights of repeated targets in a row add up.

    Attributes:
        targets: [n, edges] targets of each node's edges.
        weights: [n, edges], with gradient.
    """

    targets: Tensor
    weights: Tensor

    def __call__(self, dense: Tensor) -> Tensor:
        """The graph's matrix [n, n] @ dense [n, d], with gradient to both."""
        return torch.bmm(self.weights[:, None], embedding(self.targets, dense))[:, 0]

    def normalised(self) -> "LearnedGraph":
        """w_ij / sqrt(r_i r_j) with the row sums r, as `sym_out` in pipeline.graphs.edges; weights are not negative."""
        sums = self.weights.sum(dim=1)
        scale = sums.masked_fill(sums == 0, 1).rsqrt()  # a row whose sum is 0 has only weights of 0
        ends = embedding(self.targets, scale[:, None])[..., 0]
        return LearnedGraph(self.targets, self.weights * scale[:, None] * ends)

    def to_matrix(self) -> csr_array:
        """The graph as a sparse matrix [n, n], without gradient."""
        n, edges = self.targets.shape
        rows = torch.arange(n).repeat_interleave(edges).numpy()
        weights, targets = self.weights.detach().flatten().cpu().numpy(), self.targets.flatten().cpu().numpy()
        return csr_array((weights, (rows, targets)), shape=(n, n))


def cosine_graph(vectors: Tensor, k: int) -> LearnedGraph:
    """Connect each node with its k most similar ones by cosine, including itself; negative similarities become 0.

    Source: docs/papers/conventions.md#negative-weights.

    Args:
        vectors: [n, d].
        k: number of neighbours, at most n.
    """
    unit = normalize(vectors, dim=1)
    targets = nearest(unit, k)
    similarity = torch.bmm(embedding(targets, unit), unit[:, :, None])[..., 0]
    return LearnedGraph(targets, similarity.clamp_min(0))


@torch.no_grad()
def nearest(unit: Tensor, k: int, block_rows: int = BLOCK_ROWS) -> Tensor:
    """Indices [n, k] of the rows with the largest inner products with each row of [n, d], without the full matrix."""
    return torch.cat([top_k(block @ unit.T, k)[1] for block in torch.split(unit, block_rows)])


def mixture(graphs: Sequence[LearnedGraph], shares: Tensor) -> LearnedGraph:
    """The weighted sum of graphs of the same nodes.

    Args:
        graphs: the graphs to sum.
        shares: [graphs] weight of each graph.
    """
    weights = [graph.weights * share for graph, share in zip(graphs, shares.unbind(), strict=True)]
    return LearnedGraph(torch.cat([graph.targets for graph in graphs], dim=1), torch.cat(weights, dim=1))
