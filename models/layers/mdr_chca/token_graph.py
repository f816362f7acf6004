"""Graph convolution among each item's own patches or tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear
from mmprep.pipeline.graphs.intra_item_reader import NONE

BLOCK_NUMBERS = 2**21
"""Number of graph weights held at once, 8 MiB."""


def joined(neighbours: Tensor) -> Tensor:
    """Symmetric adjacency of each item's vectors, [n, length, length] of bool.

    Two vectors are adjacent if either is a neighbour of the other, and each to itself; so padding is adjacent only to
    itself.

    Args:
        neighbours: positions [n, length, k], NONE for missing neighbours.
    """
    n, length, _ = neighbours.shape
    chosen = torch.zeros(n, length, length + 1, dtype=torch.bool, device=neighbours.device)
    # An extra last column absorbs missing neighbours.
    chosen.scatter_(2, neighbours.long().masked_fill_(neighbours == NONE, length), True)
    chosen = chosen[:, :, :length]
    either = chosen | chosen.mT
    either.diagonal(dim1=1, dim2=2).fill_(True)
    return either


class _Product(torch.autograd.Function):
    """Product of the graphs with vectors; graphs are symmetric, so that the backward pass needs no transpose.

    One byte per pair is kept for it. Dense blocks are built from them twice, which is faster than a sparse matrix: with
    49 vectors per item and 8 neighbours, it takes a third of the time.
    """

    @staticmethod
    def forward(ctx: Any, pairs: Tensor, vectors: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.save_for_backward(pairs)
        return product(pairs, vectors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # noqa: ANN401
        (pairs,) = ctx.saved_tensors
        return None, product(pairs, gradient)


def product(pairs: Tensor, vectors: Tensor) -> Tensor:
    """D^-1/2 A D^-1/2 V of each item, [n, length, d]; D holds the row sums of A.

    Source: docs/papers/mdr_chca.md#intra-item-graphs.

    Args:
        pairs: A, [n, length, length] of bool.
        vectors: V, [n, length, d].
    """
    output = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    step = max(1, BLOCK_NUMBERS // pairs.shape[1] ** 2)
    for start in range(0, len(pairs), step):
        block = slice(start, start + step)
        weights = pairs[block].to(vectors.dtype)
        scale = weights.sum(dim=2, keepdim=True).rsqrt()
        torch.mul(torch.bmm(weights, scale * vectors[block]), scale, out=output[block])
    return output


class IntraItemConvolution(nn.Module):
    """H^l = ReLU(A H^(l-1) W^l) over each item's graph (docs/papers/mdr_chca.md#intra-item-graphs)."""

    def __init__(self, size: int, layers: int) -> None:
        """Create the weights.

        Args:
            size: length of the vectors, d.
            layers: number of layers.
        """
        super().__init__()
        self.layers = nn.ModuleList(xavier_linear(size, size, bias=False) for _ in range(layers))

    def forward(self, vectors: Tensor, neighbours: Tensor | None) -> Tensor:
        """The vectors [n, length, d] after the last layer; zeros stay zeros.

        Args:
            vectors: [n, length, d].
            neighbours: positions [n, length, k]; None for no edges, so that A is the identity.
        """
        pairs = None if neighbours is None else joined(neighbours)
        for layer in self.layers:
            mapped = layer(vectors)
            vectors = (mapped if pairs is None else _Product.apply(pairs, mapped)).relu()
        return vectors
