"""The nodes of a batch, each once: what is computed for a node need not be computed again for each of its triples."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchNodes:
    """The users and items of a batch, each once, and where its triples find them.

    Rows are those of a tensor that has the users first, then the items.

    Attributes:
        users: [a] indices, sorted.
        items: [b] indices of positives and negatives, sorted.
        user_rows: [batch] each triple's user.
        positive_rows: [batch] each triple's positive.
        negative_rows: [batch] each triple's negative.
    """

    users: Tensor
    items: Tensor
    user_rows: Tensor
    positive_rows: Tensor
    negative_rows: Tensor

    @classmethod
    def of(cls, users: Tensor, positives: Tensor, negatives: Tensor) -> "BatchNodes":
        """Those of triples, [batch] each."""
        once, user_rows = torch.unique(users, return_inverse=True)
        items, rows = torch.unique(torch.cat([positives, negatives]), return_inverse=True)
        positive_rows, negative_rows = (rows + len(once)).chunk(2)
        return cls(once, items, user_rows, positive_rows, negative_rows)

    def nodes(self, n_users: int) -> Tensor:
        """Their indices [a + b] among all nodes, the dataset's users first."""
        return torch.cat([self.users, self.items + n_users])

    def contrasted(self, *, once: bool) -> tuple[Tensor, Tensor]:
        """The rows of users and of positives that a contrastive loss compares.

        Args:
            once: whether each is there once; else as often as in the batch, so that a node is its own negative, as
                MGCN has it (docs/papers/conventions.md#infonce).
        """
        if once:
            return torch.arange(len(self.users), device=self.users.device), torch.unique(self.positive_rows)
        return self.user_rows, self.positive_rows
