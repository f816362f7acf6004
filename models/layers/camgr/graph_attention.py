"""Graph attention: a node's embedding is the attention-weighted mean of its neighbours."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from mmprep.models.layers.camgr.edge_softmax import EdgePattern, edge_products, edge_softmax
from mmprep.models.layers.linear import xavier_linear

SLOPE = 0.2
"""Negative slope of the logits' LeakyReLU, as in GAT's own code."""


class GraphAttention(nn.Module):
    """One layer with a single head, without self loops.

    Source: Velickovic et al., GAT, ICLR 2018; docs/papers/camgr.md#graph-attention.

    CAmgr prints its eq 7-8 with the wrong embeddings in the logits and equal terms in the denominator, which would be
    a plain mean; they are implemented as intended.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = xavier_linear(size, size, bias=False)
        self.attention = xavier_linear(2 * size, 1, bias=False)

    def logits(self, pattern: EdgePattern, mapped: Tensor) -> Tensor:
        """Attention logits of each edge, before the softmax, [edges].

        Args:
            pattern: of n nodes to n nodes.
            mapped: W E, [n, d].
        """
        own, other = (mapped @ self.attention.get_parameter("weight").view(2, -1).T).T
        one = torch.ones_like(own)
        # The sum of one number per node of an edge, as an inner product of length 2.
        sums = edge_products(pattern, torch.stack([own, one], dim=1), torch.stack([one, other], dim=1))
        return leaky_relu(sums, SLOPE)

    def forward(self, pattern: EdgePattern, nodes: Tensor) -> Tensor:
        """Aggregate nodes [n, d] over their neighbours, without activation, [n, d]; 0 for nodes without neighbours."""
        mapped = self.map(nodes)
        return edge_softmax(pattern, self.logits(pattern, mapped), mapped)
