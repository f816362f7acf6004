"""Contrast of two views of the user-item graph, over the users and items of a batch."""

import torch
from torch import Tensor

from mmprep.models.layers.losses import infonce


def distinct_nodes(users: Tensor, items: Tensor, n_users: int) -> tuple[Tensor, list[int]]:
    """Distinct nodes of a batch, users before items, and the numbers of users and of items.

    Args:
        users: [batch] indices.
        items: [batch] indices.
        n_users: number of users of the graph, whose nodes are the users, then the items.
    """
    users, items = torch.unique(users), torch.unique(items)
    return torch.cat([users, n_users + items]), [len(users), len(items)]


def two_view_contrast(first: Tensor, second: Tensor, sides: list[int], temperature: float) -> Tensor:
    """InfoNCE of users against users plus that of items against items (Wu et al., SGL, eq 10).

    Args:
        first: [nodes, d], one view of distinct nodes, users before items.
        second: [nodes, d], the other view of the same nodes.
        sides: numbers of users and of items among the nodes.
        temperature: tau.
    """
    views = zip(torch.split(first, sides), torch.split(second, sides), strict=True)
    return torch.stack([infonce(anchors, positives, temperature) for anchors, positives in views]).sum()
