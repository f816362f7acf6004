"""Which items are similar to an item, by all its views together and by one view alone."""

import torch
from torch import Tensor

GROUP = 10
"""Columns of a group, of which the largest is looked at first; the width of what is searched is a multiple of it."""


def similar_items(likeness: Tensor, multi: int, single: int, space: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """For each view the items that are similar by several views, and those by it alone.

    Source: docs/papers/da_mrs.md#item-alignment.

    A view's similarities are the softmax of its cosines over all items. The first kind are the largest sums of those of
    all views, in which the view itself counts twice; the second the largest of the view itself among all others. Equal
    ones are chosen in any order.

    Args:
        likeness: exp(cosine), [views, rows, width], 0 for what is no item; changed for a while, and left as it was.
        multi: how many of the first kind, at most as many as there are items.
        single: how many of the second kind, at most as many as are left.
        space: as large as the likeness, to be written over; new memory takes twice as long.

    Returns:
        Their columns, [views, rows, multi] and [views, rows, single].
    """
    similarities = torch.div(likeness, likeness.sum(dim=2, keepdim=True), out=space)
    by_all = largest(similarities.add_(similarities.sum(dim=0)), multi)
    kept = likeness.gather(2, by_all)
    by_one = largest(likeness.scatter_(2, by_all, 0), single)
    likeness.scatter_(2, by_all, kept)
    return by_all, by_one


def largest(values: Tensor, k: int) -> Tensor:
    """The columns [..., k] of the k largest of each row of [..., width], in any order."""
    *rows, width = values.shape
    groups = width // GROUP
    if width % GROUP or groups <= k:
        return torch.topk(values, k, sorted=False).indices
    # Each of the k largest is in one of the k groups whose own largest are.
    tops = values.view(*rows, GROUP, groups).amax(dim=-2)
    chosen = torch.topk(tops, k, sorted=False).indices
    columns = (chosen[..., None] + groups * torch.arange(GROUP, device=values.device)).view(*rows, k * GROUP)
    within = torch.topk(values.gather(-1, columns), k, sorted=False).indices
    return columns.gather(-1, within)
