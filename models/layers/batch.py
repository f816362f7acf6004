"""Distinct nodes of a batch, so that a node is computed once and not again for each of its triples."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchNodes:
    """Distinct users and items of a batch, and the rows of its triples among them.

    Rows index a tensor with the users first, then the items.

    Attributes:
        users: [a] indices, sorted.
        items: [b] indices of positives and negatives, sorted.
        user_rows: [batch] row of each triple's user.
        positive_rows: [batch] row of each triple's positive.
        negative_rows: [batch] row of each triple's negative.
    """

    users: Tensor
    items: Tensor
    user_rows: Tensor
    positive_rows: Tensor
    negative_rows: Tensor

    @classmethod
    def of(cls, users: Tensor, positives: Tensor, negatives: Tensor) -> "BatchNodes":
        """The distinct nodes of triples, [batch] each."""
        distinct, user_rows = torch.unique(users, return_inverse=True)
        items, rows = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
        positive_rows, negative_rows = (rows + len(distinct)).chunk(2)
        return cls(distinct, items, user_rows, positive_rows, negative_rows)

    def nodes(self, n_users: int) -> Tensor:
        """Indices [a + b] among all nodes, users before items."""
        return torch.cat([self.users, self.items + n_users])

    def contrasted(self, *, once: bool) -> tuple[Tensor, Tensor]:
        """The rows of users and of positives for a contrastive loss.

        Args:
            once: whether rows are distinct; else they repeat as in the batch, so that a node is its own negative, as
                in MGCN (docs/papers/conventions.md#infonce).
        """
        if once:
            return torch.arange(len(self.users), device=self.users.device), torch.unique(self.positive_rows)
        return self.user_rows, self.positive_rows
