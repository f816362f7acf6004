"""Selection of similar items by all views together and by single views."""

import torch
from torch import Tensor

GROUP = 10
"""Columns per group in the search for the largest, which compares group maxima first; divides the search width."""


def similar_items(likeness: Tensor, multi: int, single: int, space: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """For each view, the items similar by several views, and those similar only by this view.

    Source: docs/papers/da_mrs.md#item-alignment.

    A view's similarities are the softmax of its cosines over all items. The first kind have the largest sums of all
    views' similarities, in which the view itself counts twice; the second kind the largest similarities of the view
    itself among the remaining items. Ties are broken arbitrarily.

    Args:
        likeness: exp(cosine), [views, rows, width], 0 for columns that are no items; modified, but restored on return.
        multi: number of items of the first kind, at most the number of items.
        single: number of items of the second kind, at most the number of remaining items.
        space: scratch memory in the shape of the likeness; allocating it anew would take twice as long.

    Returns:
        The items' columns, [views, rows, multi] and [views, rows, single].
    """
    similarities = torch.div(likeness, likeness.sum(dim=2, keepdim=True), out=space)
    by_all = largest(similarities.add_(similarities.sum(dim=0)), multi)
    kept = likeness.gather(2, by_all)
    by_one = largest(likeness.scatter_(2, by_all, 0), single)
    likeness.scatter_(2, by_all, kept)
    return by_all, by_one


def largest(values: Tensor, k: int) -> Tensor:
    """Columns [..., k] of the k largest values of each row of [..., width], in any order."""
    *rows, width = values.shape
    groups = width // GROUP
    if width % GROUP or groups <= k:
        return torch.topk(values, k, sorted=False).indices
    # Each of the k largest values is in one of the k groups with the largest maxima.
    tops = values.view(*rows, GROUP, groups).amax(dim=-2)
    chosen = torch.topk(tops, k, sorted=False).indices
    columns = (chosen[..., None] + groups * torch.arange(GROUP, device=values.device)).view(*rows, k * GROUP)
    within = torch.topk(values.gather(-1, columns), k, sorted=False).indices
    return columns.gather(-1, within)
