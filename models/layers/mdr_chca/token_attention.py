"""Self-attention among an item's vectors, and cross-attention between modalities."""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from mmprep.models.layers.linear import xavier_linear


class SelfAttentionMix(nn.Module):
    """A learned mixture of vectors and their self-attention: sigma(g) H + (1 - sigma(g)) SA(H).

    Source: docs/papers/mdr_chca.md#self-attention.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kept = nn.Parameter(torch.zeros(()))

    def forward(self, vectors: Tensor, there: Tensor) -> Tensor:
        """The mixture [n, length, d]; zeros for padding.

        Args:
            vectors: [n, length, d].
            there: mask of vectors, [n, length], False for padding.
        """
        share = self.kept.sigmoid()
        return share * vectors + (1 - share) * self_attention(vectors, there)


def self_attention(vectors: Tensor, there: Tensor) -> Tensor:
    """softmax(H H^T / sqrt d) H of each item, [n, length, d], zeros for padding.

    The logits are not materialised.

    Args:
        vectors: H, [n, length, d].
        there: mask of vectors, [n, length], False for padding.
    """
    heads = vectors[:, None]
    mask = None if there.all() else there[:, None, None, :]
    return scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)[:, 0] * there[..., None]


class CrossAttention(nn.Module):
    """Cross-attention from one modality to selected vectors of the other (docs/papers/mdr_chca.md#token-alignment).

    The heads' weights are averaged and reduced to the largest ones before they are applied to the other modality's
    vectors, so that one map W_o W_v is enough.
    """

    def __init__(self, size: int, heads: int) -> None:
        """Create W_q, W_k, W_v and W_o.

        Args:
            size: length of the vectors, d.
            heads: h, a divisor of d.
        """
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (xavier_linear(size, size, bias=False) for _ in range(4))

    def forward(
        self, seeing: Tensor, seen: Tensor, allowed: Tensor, most: int, *, renormalise: bool
    ) -> tuple[Tensor, Tensor]:
        """Attend in groups g of query vectors that share keys and values.

        Args:
            seeing: queries, [n, g, s, d].
            seen: keys and values, [n, g, m, d].
            allowed: mask of allowed keys, [n, g, 1, m] or [n, g, s, m], at least one per query.
            most: number of weights kept per query, k_s.
            renormalise: whether the kept weights are renormalised to sum 1.

        Returns:
            Attention outputs [n, g, s, d] and weights [n, g, s, m].
        """
        queries, keys = (self.parts(layer(each)) for layer, each in ((self.query, seeing), (self.key, seen)))
        logits = queries @ keys.mT / sqrt(queries.shape[-1])
        weights = logits.masked_fill(~allowed[:, :, None], -torch.inf).softmax(dim=-1).mean(dim=2)
        weights = largest(weights, most, renormalise=renormalise)
        mapped = linear(seen, self.output.get_parameter("weight") @ self.value.get_parameter("weight"))
        return weights @ mapped, weights

    def parts(self, vectors: Tensor) -> Tensor:
        """Split vectors [n, g, s, d] by head, [n, g, h, s, d / h]."""
        return vectors.view(*vectors.shape[:-1], self.heads, -1).transpose(2, 3)


def largest(weights: Tensor, most: int, *, renormalise: bool) -> Tensor:
    """Keep the largest weights of each row [..., m] and set the others to 0.

    Args:
        weights: rows that sum to 1.
        most: number of weights to keep.
        renormalise: whether the kept weights are renormalised to sum 1.
    """
    if most < weights.shape[-1]:
        kept = torch.zeros_like(weights, dtype=torch.bool)
        kept.scatter_(-1, weights.detach().topk(most, dim=-1).indices, True)
        weights = weights.masked_fill(~kept, 0)
        if renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights
