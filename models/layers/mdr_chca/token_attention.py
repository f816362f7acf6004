"""Attention among an item's own vectors, and of one modality's to the other's."""

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
        """The mixture [n, length, d]; zeros where there is no vector.

        Args:
            vectors: [n, length, d].
            there: whether there is one, [n, length].
        """
        share = self.kept.sigmoid()
        return share * vectors + (1 - share) * self_attention(vectors, there)


def self_attention(vectors: Tensor, there: Tensor) -> Tensor:
    """softmax(H H^T / sqrt d) H of each item, [n, length, d], zeros where there is no vector.

    The logits are never held at once.

    Args:
        vectors: H, [n, length, d].
        there: whether there is one, [n, length].
    """
    heads = vectors[:, None]
    mask = None if there.all() else there[:, None, None, :]
    return scaled_dot_product_attention(heads, heads, heads, attn_mask=mask)[:, 0] * there[..., None]


class CrossAttention(nn.Module):
    """What the vectors of one modality see of chosen ones of the other (docs/papers/mdr_chca.md#token-alignment).

    The weights of several heads are averaged and cut to the largest ones before they weight the other's vectors, so
    that the vectors are mapped by W_o W_v at once.
    """

    def __init__(self, size: int, heads: int) -> None:
        """Make W_q, W_k, W_v and W_o.

        Args:
            size: d, of the vectors.
            heads: h, a divisor of d.
        """
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (xavier_linear(size, size, bias=False) for _ in range(4))

    def forward(
        self, seeing: Tensor, seen: Tensor, allowed: Tensor, most: int, *, renormalise: bool
    ) -> tuple[Tensor, Tensor]:
        """Align vectors, in groups g that see the same ones.

        Args:
            seeing: [n, g, s, d].
            seen: [n, g, m, d].
            allowed: which may be seen, [n, g, 1, m] or [n, g, s, m], at least one by each.
            most: the weights of a vector that stay, k_s.
            renormalise: whether those sum to 1 again.

        Returns:
            What each has seen [n, g, s, d], and its weights [n, g, s, m].
        """
        queries, keys = (self.parts(way(each)) for way, each in ((self.query, seeing), (self.key, seen)))
        logits = queries @ keys.mT / sqrt(queries.shape[-1])
        weights = logits.masked_fill(~allowed[:, :, None], -torch.inf).softmax(dim=-1).mean(dim=2)
        weights = largest(weights, most, renormalise=renormalise)
        mapped = linear(seen, self.output.get_parameter("weight") @ self.value.get_parameter("weight"))
        return weights @ mapped, weights

    def parts(self, vectors: Tensor) -> Tensor:
        """Vectors [n, g, s, d] by head, [n, g, h, s, d / h]."""
        return vectors.view(*vectors.shape[:-1], self.heads, -1).transpose(2, 3)


def largest(weights: Tensor, most: int, *, renormalise: bool) -> Tensor:
    """The largest weights of each row [..., m], zeros in the place of the others.

    Args:
        weights: rows that sum to 1.
        most: how many stay.
        renormalise: whether they sum to 1 again.
    """
    if most < weights.shape[-1]:
        kept = torch.zeros_like(weights, dtype=torch.bool)
        kept.scatter_(-1, weights.detach().topk(most, dim=-1).indices, True)
        weights = weights.masked_fill(~kept, 0)
        if renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights
