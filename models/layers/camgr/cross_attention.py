"""Fusion of two views of nodes by cross-attention into common and distinct parts."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmprep.models.layers.camgr.attention_scopes import AttentionScope, WithinNode
from mmprep.models.layers.linear import xavier_linear

OBSERVED_NODES = 64
"""Approximate number of nodes per batch for which the evenness of attention is computed."""


class CrossAttention(nn.Module):
    """Cross-attention from one view of nodes to the other.

    Source: CAmgr, eq 15-18 and 21; docs/papers/camgr.md#cross-attention.
    """

    def __init__(self, size: int, scope: AttentionScope) -> None:
        """Create the maps.

        Args:
            size: embedding size, d.
            scope: scope of a node's attention.
        """
        super().__init__()
        self.scope = scope
        self.query = xavier_linear(size, size)
        # A key's bias shifts all logits of a row equally, which softmax cancels, except between parts of one key.
        self.key = xavier_linear(size, size, bias=isinstance(scope, WithinNode))
        self.value = xavier_linear(size, size)

    def forward(self, querying: Tensor, attended: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, values and attention outputs of chosen nodes, [b, d] each.

        Args:
            querying: [n, d], the view with queries.
            attended: [n, d], the view with keys and values.
            nodes: [b], indices of the chosen nodes, ascending.
        """
        query = self.query(embedding(nodes, querying))
        if not self.scope.whole:
            attended = embedding(nodes, attended)
        key, value = self.key(attended), self.value(attended)
        own = embedding(nodes, value) if self.scope.whole else value
        return query, own, self.scope(query, key, value, nodes)

    @torch.no_grad()
    def evenness(self, querying: Tensor, attended: Tensor, nodes: Tensor) -> Tensor:
        """Relative entropy of attention of a sample of the chosen nodes, one number per node (see AttentionScope).

        Args:
            querying: as in `forward`.
            attended: as in `forward`.
            nodes: as in `forward`.
        """
        rows = torch.arange(0, len(nodes), max(1, len(nodes) // OBSERVED_NODES), device=nodes.device)
        query = self.query(querying[nodes[rows]])
        return self.scope.evenness(query, self.key(attended if self.scope.whole else attended[nodes]), nodes, rows)


class ResidualBranch(nn.Module):
    """Residual block after attention: linear map, residual query, perceptron, behaviour gate (eq 19-20, 22-26).

    The perceptron is d -> 2d -> d with ReLU after a layer norm; CAmgr does not state its width
    (docs/papers/camgr.md#gated-fusion).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = xavier_linear(size, size)
        self.norm = nn.LayerNorm(size)
        self.perceptron = nn.Sequential(xavier_linear(size, 2 * size), nn.ReLU(), xavier_linear(2 * size, size))
        self.gate = xavier_linear(size, size)

    def residual(self, attention: Tensor, query: Tensor) -> Tensor:
        """Sum of the mapped attention and the query, [b, d]."""
        total: Tensor = self.map(attention) + query
        return total

    def forward(self, attention: Tensor, query: Tensor, behaviour: Tensor) -> Tensor:
        """Output [b, d] of the branch from attention, query and behaviour, [b, d] each."""
        residual = self.residual(attention, query)
        gated: Tensor = (self.perceptron(self.norm(residual)) + residual) * self.gate(behaviour).sigmoid()
        return gated


class CrossAttentionFusion(nn.Module):
    """Mean of the common and the distinct part of two views, each gated by behaviour.

    Source: docs/papers/camgr.md#gated-fusion.

    CAmgr prints its attention without the values, which would give a weight for every pair of nodes; they are restored
    here (docs/papers/camgr.md#cross-attention).
    """

    def __init__(self, size: int, scope: AttentionScope, *, share_qkv: bool) -> None:
        """Create the maps.

        Args:
            size: embedding size, d.
            scope: scope of a node's attention.
            share_qkv: whether both parts share queries, keys and values, as printed.
        """
        super().__init__()
        self.attentions = nn.ModuleList(CrossAttention(size, scope) for _ in range(1 if share_qkv else 2))
        self.common, self.distinct = ResidualBranch(size), ResidualBranch(size)

    def forward(self, querying: Tensor, attended: Tensor, nodes: Tensor, behaviour: Tensor) -> Tensor:
        """The fused views of chosen nodes, [b, d], to be added to their behaviour.

        Args:
            querying: [n, d], the view with queries.
            attended: [n, d], the view with keys and values.
            nodes: [b], indices of the chosen nodes, ascending.
            behaviour: [b, d], the chosen nodes' collaborative embeddings.
        """
        outputs = [attention(querying, attended, nodes) for attention in self.attentions]
        (query, _, attention), (other_query, value, other_attention) = outputs[0], outputs[-1]
        common = self.common(attention, query, behaviour)
        distinct = self.distinct(value - other_attention, other_query, behaviour)
        half: Tensor = torch.stack([common, distinct]).mean(dim=0)
        return half

    def evenness(self, querying: Tensor, attended: Tensor, nodes: Tensor) -> Tensor:
        """Mean entropy of attention relative to its maximum, a scalar, over a sample of the chosen nodes.

        Above 0.99 attention is a plain mean without effect (docs/papers/camgr.md#attention-scope). 1 if every node
        attends to only one.
        """
        attentions = cast("list[CrossAttention]", list(self.attentions))
        entropies = torch.cat([attention.evenness(querying, attended, nodes) for attention in attentions])
        return entropies.mean() if len(entropies) else entropies.new_ones(())
