"""Patches or tokens as frozen, projected inputs of a recommender, read in blocks."""

from typing import Any

import torch
from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.mdr_chca.token_store import TokenStore

BLOCK_ITEMS = 64
"""Number of items whose raw vectors are held at once, 9 MiB for 49 patches of 768 numbers."""


class _Projection(torch.autograd.Function):
    """Raw vectors times a weight; for its gradient they are read again instead of kept, as they are far wider."""

    @staticmethod
    def forward(ctx: Any, store: TokenStore, items: Tensor, length: int, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.store, ctx.items, ctx.length = store, items, length
        projected = weight.new_empty(len(items), length, len(weight))
        for start in range(0, len(items), BLOCK_ITEMS):
            block = items[start : start + BLOCK_ITEMS]
            torch.matmul(store.gather(block, length).to(weight), weight.T, out=projected[start : start + len(block)])
        return projected

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, Tensor]:  # noqa: ANN401
        by_weight = gradient.new_zeros(gradient.shape[2], ctx.store.dimension)
        for start in range(0, len(ctx.items), BLOCK_ITEMS):
            block = slice(start, start + BLOCK_ITEMS)
            raw = ctx.store.gather(ctx.items[block], ctx.length).to(gradient)
            by_weight.addmm_(gradient[block].flatten(0, 1).T, raw.flatten(0, 1))
        return None, None, None, by_weight


class TokenInput(nn.Module):
    """Projects an encoder's vectors; items without any get a learned one (docs/papers/mdr_chca.md#inputs)."""

    def __init__(self, store: TokenStore, size: int) -> None:
        """Create the projection, without bias.

        Args:
            store: store of the raw vectors, which are not part of a checkpoint.
            size: length of projected vectors, d.
        """
        super().__init__()
        self.store = store
        self.projection = xavier_linear(store.dimension, size, bias=False)
        self.missing = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, size)))

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The projected vectors of items [n].

        Returns:
            Vectors [n, length, d], padded with zeros, and their mask [n, length]; the length is that of the longest of
            these items.
        """
        lengths = self.store.lengths[items.cpu()]
        length = max(1, int(lengths.max()))
        place, lengths = torch.arange(length, device=items.device), lengths.to(items.device)[:, None]
        weight = self.projection.get_parameter("weight")
        projected: Tensor = _Projection.apply(self.store, items.cpu(), length, weight)
        imputed = (place == 0) & (lengths == 0)
        return torch.where(imputed[:, :, None], self.missing, projected), (place < lengths) | imputed

    def neighbours(self, items: Tensor, length: int) -> Tensor:
        """Neighbours [n, length, k] of the same vectors."""
        return self.store.neighbours(items.cpu(), length).to(items.device)

    def means(self) -> Tensor:
        """Mean raw vector of each item, [n_items, dimension]; zeros for items without vectors."""
        means = torch.zeros(len(self.store.lengths), self.store.dimension)
        for items in torch.split(torch.arange(len(means)), BLOCK_ITEMS):
            total = self.store.gather(items, self.store.length).float().sum(dim=1)
            means[items] = total / self.store.lengths[items, None].clamp_min(1)
        return means
