"""Fusion of two views of nodes by cross-attention: what they have in common, and in what they differ."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmprep.models.layers.camgr.attention_scopes import AttentionScope, WithinNode
from mmprep.models.layers.linear import xavier_linear

OBSERVED_NODES = 64
"""Of how many nodes of a batch, about, the evenness of attention is computed."""


class CrossAttention(nn.Module):
    """The maps by which one view of nodes attends to the other.

    Source: CAmgr, eq 15-18 and 21; docs/papers/camgr.md#cross-attention.
    """

    def __init__(self, size: int, scope: AttentionScope) -> None:
        """Make the maps.

        Args:
            size: the length of an embedding, d.
            scope: what a node attends to.
        """
        super().__init__()
        self.scope = scope
        self.query = xavier_linear(size, size)
        # A key's bias adds the same to all logits of a row, which no softmax sees, but where parts of a key differ.
        self.key = xavier_linear(size, size, bias=isinstance(scope, WithinNode))
        self.value = xavier_linear(size, size)

    def forward(self, asking: Tensor, asked: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The queries and values of chosen nodes, and the values that they attend to, [b, d] each.

        Args:
            asking: [n, d], the view that gives queries.
            asked: [n, d], the view that gives keys and values.
            nodes: [b], which ones are chosen, ascending.
        """
        query = self.query(embedding(nodes, asking))
        if not self.scope.whole:
            asked = embedding(nodes, asked)
        key, value = self.key(asked), self.value(asked)
        own = embedding(nodes, value) if self.scope.whole else value
        return query, own, self.scope(query, key, value, nodes)

    @torch.no_grad()
    def evenness(self, asking: Tensor, asked: Tensor, nodes: Tensor) -> Tensor:
        """How evenly some of the chosen nodes share their attention out, a number a node (see AttentionScope).

        Args:
            asking: as in `forward`.
            asked: as in `forward`.
            nodes: as in `forward`.
        """
        rows = torch.arange(0, len(nodes), max(1, len(nodes) // OBSERVED_NODES), device=nodes.device)
        query = self.query(asking[nodes[rows]])
        return self.scope.evenness(query, self.key(asked if self.scope.whole else asked[nodes]), nodes, rows)


class ResidualBranch(nn.Module):
    """What becomes of attention: a map, the query beside it, a perceptron, and a gate by behaviour (eq 19-20, 22-26).

    The perceptron is d -> 2d -> d with ReLU after a layer norm; CAmgr leaves its width open
    (docs/papers/camgr.md#gated-fusion).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = xavier_linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.perceptron = nn.Sequential(xavier_linear(size, 2 * size), nn.ReLU(), xavier_linear(2 * size, size))
        self.gate = xavier_linear(size, size)

    def residual(self, attention: Tensor, query: Tensor) -> Tensor:
        """The mapped attention and the query, added, [b, d]."""
        total: Tensor = self.map(attention) + query
        return total

    def forward(self, attention: Tensor, query: Tensor, behaviour: Tensor) -> Tensor:
        """What the branch gives of nodes, [b, d], of as large attention, query and behaviour."""
        residual = self.residual(attention, query)
        found: Tensor = (self.perceptron(self.norm(residual)) + residual) * self.gate(behaviour).sigmoid()
        return found


class CrossAttentionFusion(nn.Module):
    """Half of what two views have in common and of what they differ in, each gated by behaviour.

    Source: docs/papers/camgr.md#gated-fusion.

    CAmgr prints its attention without the values, which would be a weight for every pair of nodes; they are restored
    here (docs/papers/camgr.md#cross-attention).
    """

    def __init__(self, size: int, scope: AttentionScope, *, share_qkv: bool) -> None:
        """Make the maps.

        Args:
            size: the length of an embedding, d.
            scope: what a node attends to.
            share_qkv: whether both parts have the same queries, keys and values, as printed.
        """
        super().__init__()
        self.attentions = nn.ModuleList(CrossAttention(size, scope) for _ in range(1 if share_qkv else 2))
        self.common, self.distinct = ResidualBranch(size), ResidualBranch(size)

    def forward(self, asking: Tensor, asked: Tensor, nodes: Tensor, behaviour: Tensor) -> Tensor:
        """What the views add to the behaviour of chosen nodes, [b, d].

        Args:
            asking: [n, d], the view that gives queries.
            asked: [n, d], the view that gives keys and values.
            nodes: [b], which ones are chosen, ascending.
            behaviour: [b, d], their collaborative embeddings.
        """
        found = [attention(asking, asked, nodes) for attention in self.attentions]
        (query, _, attention), (other_query, value, other_attention) = found[0], found[-1]
        common = self.common(attention, query, behaviour)
        distinct = self.distinct(value - other_attention, other_query, behaviour)
        half: Tensor = torch.stack([common, distinct]).mean(dim=0)
        return half

    def evenness(self, asking: Tensor, asked: Tensor, nodes: Tensor) -> Tensor:
        """The mean entropy of attention over the greatest that there is, a scalar, of some of the chosen nodes.

        Above 0.99 attention is the mean of all, and does nothing (docs/papers/camgr.md#attention-scope). 1 where none
        has a choice.
        """
        attentions = cast("list[CrossAttention]", list(self.attentions))
        found = torch.cat([attention.evenness(asking, asked, nodes) for attention in attentions])
        return found.mean() if len(found) else found.new_ones(())
