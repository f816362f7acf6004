"""The k largest of each row, the same on every machine: equal values go to the smaller index."""

import numpy as np
import torch
from torch import Tensor

GROUPS_EACH = 4  # groups of columns an entry that is asked for, of which the largest are looked at first
WIDE = 2  # columns a group from which on that is quicker
CROWDED = 4  # candidates an entry that is asked for, above which a row is sorted as a whole


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest entries of each row; of equal ones those with the smaller index, which come first.

    `torch.topk` leaves it to the backend which of equal values it takes.

    Args:
        values: [rows, n] floating point, without NaN.
        k: at most n.

    Returns:
        The values [rows, k] in descending order, and their indices [rows, k].
    """
    rows, n = values.shape
    place = true_places(values >= floors(values, k))
    counts = torch.bincount(place // n, minlength=rows)
    crowded = counts > CROWDED * k
    candidates = int(counts.masked_fill(crowded, 0).max()) if rows else 0
    # Candidates stand in the order of their indices, which a stable sort leaves to equal ones.
    there = torch.arange(max(candidates, k), device=values.device) < counts[:, None]
    if crowded.any():
        there[crowded] = False
        place = place[~crowded[place // n]]
    value = values.new_full(there.shape, -torch.inf).masked_scatter_(there, values.flatten()[place])
    index = place.new_zeros(there.shape).masked_scatter_(there, place % n)
    top, order = (each[:, :k] for each in torch.sort(value, dim=1, descending=True, stable=True))
    index = torch.gather(index, 1, order)
    if crowded.any():
        top[crowded], index[crowded] = sorted_whole(values[crowded], k)
    return top.contiguous(), index


def floors(values: Tensor, k: int) -> Tensor:
    """For each row a value that at least k entries reach, and few more, [rows, 1]."""
    rows, n = values.shape
    groups = GROUPS_EACH * k
    if n >= WIDE * groups:
        # Each of the k best groups has an entry that reaches the k-th largest of the groups' maxima.
        values = values[:, : n // groups * groups].reshape(rows, -1, groups).amax(dim=1)
    return torch.topk(values, k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)


def true_places(mask: Tensor) -> Tensor:
    """Where a mask is true, as indices into it flattened."""
    if mask.device.type == "cpu":  # where torch takes several times as long as numpy
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


def sorted_whole(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row where many are equal."""
    top, index = torch.sort(values, dim=1, descending=True, stable=True)
    return top[:, :k], index[:, :k]
