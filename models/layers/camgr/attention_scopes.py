"""Scopes of cross-attention: all nodes, or cheaper subsets (docs/papers/camgr.md#attention-scope).

Only the chosen nodes of a batch have queries, since the rows of different nodes are independent.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from mmprep.models.layers.camgr.edge_softmax import SparseAttention, edge_products, edge_softmax
from mmprep.models.layers.camgr.row_attention import row_attention


class AttentionScope(nn.Module, ABC):
    """Attention of chosen nodes.

    Attributes:
        whole: whether keys and values are those of all nodes, else only of the chosen ones.
    """

    whole: ClassVar[bool]

    @abstractmethod
    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
        """Attention-weighted values of the chosen nodes, [b, d].

        Args:
            queries: [b, d], of the chosen nodes.
            keys: [n, d] or [b, d], depending on `whole`.
            values: [n, d] or [b, d], as for keys.
            nodes: [b], indices of the chosen nodes, ascending.
        """

    @abstractmethod
    def evenness(self, queries: Tensor, keys: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """Entropy of nodes' attention relative to uniform attention, one number per node.

        1 is uniform attention. Nodes that attend to only one node are left out.

        Args:
            queries: [r, d], of a subset of the chosen nodes.
            keys: as in `forward`.
            nodes: [b], indices of the chosen nodes, ascending.
            rows: [r], positions of that subset in `nodes`, ascending.
        """


class AllNodes(AttentionScope):
    """Each node attends to all, exactly."""

    whole = True

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
        """See AttentionScope."""
        del nodes
        return row_attention(queries, keys, values)

    def evenness(self, queries: Tensor, keys: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """See AttentionScope."""
        del nodes, rows
        return relative_entropy(queries @ keys.T / queries.shape[1] ** 0.5)


class ChosenNodes(AllNodes):
    """Each node attends to the chosen nodes: in training those of its batch, in ranking all."""

    whole = False


class SameSide(AttentionScope):
    """Users attend to users, items to items."""

    whole = True

    def __init__(self, n_users: int) -> None:
        """Set the number of users, which are the first nodes."""
        super().__init__()
        self.n_users = n_users

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
        """See AttentionScope."""
        chosen, users = int((nodes < self.n_users).sum()), self.n_users
        of_users = row_attention(queries[:chosen], keys[:users], values[:users])
        return torch.cat([of_users, row_attention(queries[chosen:], keys[users:], values[users:])])

    def evenness(self, queries: Tensor, keys: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """See AttentionScope."""
        chosen, scale = int((nodes[rows] < self.n_users).sum()), queries.shape[1] ** 0.5
        sides = (queries[:chosen], keys[: self.n_users]), (queries[chosen:], keys[self.n_users :])
        return torch.cat([relative_entropy(query @ key.T / scale) for query, key in sides])


class Neighbours(AttentionScope):
    """Each node attends to its neighbours in a graph; a node without neighbours gets 0."""

    whole = True

    def __init__(self, graph: csr_array) -> None:
        """Take the edges of a graph [n, n]; its weights are ignored."""
        super().__init__()
        self.neighbourhoods = SparseAttention(graph)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
        """See AttentionScope."""
        pattern = self.neighbourhoods().rows(nodes)
        return edge_softmax(pattern, edge_products(pattern, queries, keys) / queries.shape[1] ** 0.5, values)

    def evenness(self, queries: Tensor, keys: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """See AttentionScope."""
        pattern = self.neighbourhoods().rows(nodes[rows])
        shares = pattern.shares(pattern.inner(queries, keys) / queries.shape[1] ** 0.5)
        entropy = torch.segment_reduce(torch.special.entr(shares), "sum", offsets=pattern.offsets)
        counts = pattern.offsets.diff().to(entropy)
        relative: Tensor = entropy[counts > 1] / counts[counts > 1].log()
        return relative


class WithinNode(AttentionScope):
    """Each node attends only to itself: equal parts of its embedding attend to each other."""

    whole = False

    def __init__(self, chunks: int) -> None:
        """Set the number of chunks, c, which must divide the embedding size."""
        super().__init__()
        self.chunks = chunks

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, nodes: Tensor) -> Tensor:
        """See AttentionScope."""
        parts = [side.view(len(nodes), self.chunks, -1) for side in (queries, keys, values)]
        logits = parts[0] @ parts[1].transpose(1, 2) / parts[0].shape[2] ** 0.5
        attention: Tensor = (logits.softmax(dim=2) @ parts[2]).reshape_as(queries)
        return attention

    def evenness(self, queries: Tensor, keys: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """See AttentionScope."""
        del nodes
        query, key = (side.view(len(rows), self.chunks, -1) for side in (queries, keys[rows]))
        return relative_entropy(query @ key.transpose(1, 2) / query.shape[2] ** 0.5).mean(dim=1)


def relative_entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax of [..., n] logits divided by log n, [...]; empty if n is 1."""
    n = logits.shape[-1]
    if n == 1:
        return logits.new_empty(0)
    entropy: Tensor = torch.special.entr(logits.softmax(dim=-1)).sum(dim=-1)
    return entropy / math.log(n)
