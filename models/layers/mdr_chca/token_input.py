"""The patches or tokens of a batch of items inside a recommender: frozen, projected, never all at once."""

from typing import Any

import torch
from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear
from mmprep.models.layers.mdr_chca.token_store import TokenStore

BLOCK_ITEMS = 64
"""How many items' raw vectors are held at once: 9 MiB of 49 patches of 768 numbers each."""


class _Projection(torch.autograd.Function):
    """Raw vectors times a weight. They are read again for its gradient, not kept, as they are far wider than it."""

    @staticmethod
    def forward(ctx: Any, store: TokenStore, items: Tensor, length: int, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.store, ctx.items, ctx.length = store, items, length
        found = weight.new_empty(len(items), length, len(weight))
        for start in range(0, len(items), BLOCK_ITEMS):
            block = items[start : start + BLOCK_ITEMS]
            torch.matmul(store.gather(block, length).to(weight), weight.T, out=found[start : start + len(block)])
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, Tensor]:  # noqa: ANN401
        found = gradient.new_zeros(gradient.shape[2], ctx.store.dimension)
        for start in range(0, len(ctx.items), BLOCK_ITEMS):
            block = slice(start, start + BLOCK_ITEMS)
            raw = ctx.store.gather(ctx.items[block], ctx.length).to(gradient)
            found.addmm_(gradient[block].flatten(0, 1).T, raw.flatten(0, 1))
        return None, None, None, found


class TokenInput(nn.Module):
    """Projects an encoder's vectors; items that have none get one that is learned (docs/papers/mdr_chca.md#inputs)."""

    def __init__(self, store: TokenStore, size: int) -> None:
        """Make the projection, without bias.

        Args:
            store: of the raw vectors, which are no part of a checkpoint.
            size: d, of the projected ones.
        """
        super().__init__()
        self.store = store
        self.projection = xavier_linear(store.dimension, size, bias=False)
        self.missing = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, size)))

    def forward(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """The projected vectors of items [n].

        Returns:
            Vectors [n, length, d], zeros behind an item's last, and whether there is one, [n, length]; the length is
            that of the longest of these items.
        """
        lengths = self.store.lengths[items.cpu()]
        length = max(1, int(lengths.max()))
        place, lengths = torch.arange(length, device=items.device), lengths.to(items.device)[:, None]
        weight = self.projection.get_parameter("weight")
        projected: Tensor = _Projection.apply(self.store, items.cpu(), length, weight)
        stands_in = (place == 0) & (lengths == 0)
        return torch.where(stands_in[:, :, None], self.missing, projected), (place < lengths) | stands_in

    def neighbours(self, items: Tensor, length: int) -> Tensor:
        """The neighbours [n, length, k] of the same vectors."""
        return self.store.neighbours(items.cpu(), length).to(items.device)

    def means(self) -> Tensor:
        """The mean raw vector of every item, [n_items, dimension]; zeros for those that have none."""
        found = torch.zeros(len(self.store.lengths), self.store.dimension)
        for items in torch.split(torch.arange(len(found)), BLOCK_ITEMS):
            total = self.store.gather(items, self.store.length).float().sum(dim=1)
            found[items] = total / self.store.lengths[items, None].clamp_min(1)
        return found
