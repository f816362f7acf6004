"""Graph convolution among each item's own patches or tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear
from mmprep.pipeline.graphs.intra_item_reader import NONE

BLOCK_NUMBERS = 2**21
"""How many weights of graphs are held at once: 8 MiB of them."""


def joined(neighbours: Tensor) -> Tensor:
    """Who is joined to whom in each item, symmetric, [n, length, length] of bool.

    Two vectors are joined if either is a neighbour of the other, and each with itself; so places without a vector are
    joined to themselves alone.

    Args:
        neighbours: places [n, length, k], NONE where there is none.
    """
    n, length, _ = neighbours.shape
    chosen = torch.zeros(n, length, length + 1, dtype=torch.bool, device=neighbours.device)
    # A last column takes what is no neighbour.
    chosen.scatter_(2, neighbours.long().masked_fill_(neighbours == NONE, length), True)
    chosen = chosen[:, :, :length]
    either = chosen | chosen.mT
    either.diagonal(dim1=1, dim2=2).fill_(True)
    return either


class _Product(torch.autograd.Function):
    """The graphs' product with vectors; being symmetric, they are their own transposes in the backward pass.

    A byte a pair is kept for it. Blocks of numbers are made of them twice, which is quicker than to find the pairs that
    are joined: for 49 vectors an item and 8 neighbours, a third of the time of a sparse matrix.
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
    found = torch.empty_like(vectors, memory_format=torch.contiguous_format)
    step = max(1, BLOCK_NUMBERS // pairs.shape[1] ** 2)
    for start in range(0, len(pairs), step):
        block = slice(start, start + step)
        weights = pairs[block].to(vectors.dtype)
        scale = weights.sum(dim=2, keepdim=True).rsqrt()
        torch.mul(torch.bmm(weights, scale * vectors[block]), scale, out=found[block])
    return found


class IntraItemConvolution(nn.Module):
    """H^l = ReLU(A H^(l-1) W^l) over each item's graph (docs/papers/mdr_chca.md#intra-item-graphs)."""

    def __init__(self, size: int, layers: int) -> None:
        """Make the weights.

        Args:
            size: d, of the vectors.
            layers: how many there are.
        """
        super().__init__()
        self.layers = nn.ModuleList(xavier_linear(size, size, bias=False) for _ in range(layers))

    def forward(self, vectors: Tensor, neighbours: Tensor | None) -> Tensor:
        """The vectors [n, length, d] after the last layer; zeros stay zeros.

        Args:
            vectors: [n, length, d].
            neighbours: places [n, length, k]; None joins nobody, so that A is the identity.
        """
        pairs = None if neighbours is None else joined(neighbours)
        for layer in self.layers:
            mapped = layer(vectors)
            vectors = (mapped if pairs is None else _Product.apply(pairs, mapped)).relu()
        return vectors
