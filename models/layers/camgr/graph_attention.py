"""Graph attention: a node is the mean of its neighbours by how much it attends to each."""

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from mmprep.models.layers.camgr.edge_softmax import EdgePattern, edge_products, edge_softmax
from mmprep.models.layers.linear import xavier_linear

SLOPE = 0.2
"""Of the logits' LeakyReLU below 0, as in GAT's own code."""


class GraphAttention(nn.Module):
    """One layer with a single head, without self loops.

    Source: Velickovic et al., GAT, ICLR 2018; docs/papers/camgr.md#graph-attention.

    CAmgr prints its eq 7-8 with the wrong embeddings in the logits and equal terms in the denominator, which would be
    a plain mean; this is what they are meant to be.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.map = xavier_linear(size, size, bias=False)
        self.attention = xavier_linear(2 * size, 1, bias=False)

    def logits(self, pattern: EdgePattern, mapped: Tensor) -> Tensor:
        """How much each node attends to each neighbour, before the softmax, [edges].

        Args:
            pattern: of n nodes to n nodes.
            mapped: W E, [n, d].
        """
        own, other = (mapped @ self.attention.get_parameter("weight").view(2, -1).T).T
        one = torch.ones_like(own)
        # The sum of a number of either end, as an inner product of two.
        sums = edge_products(pattern, torch.stack([own, one], dim=1), torch.stack([one, other], dim=1))
        return leaky_relu(sums, SLOPE)

    def forward(self, pattern: EdgePattern, nodes: Tensor) -> Tensor:
        """What nodes [n, d] gather from their neighbours, before any activation, [n, d]; 0 for those without any."""
        mapped = self.map(nodes)
        return edge_softmax(pattern, self.logits(pattern, mapped), mapped)
