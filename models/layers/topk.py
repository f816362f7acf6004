"""Top k of each row, reproducible on every machine: ties go to the smaller index."""

import numpy as np
import torch
from torch import Tensor

GROUPS_EACH = 4  # groups of columns per requested entry; their maxima give a threshold for candidates
WIDE = 2  # columns per group from which grouping is faster
CROWDED = 4  # candidates per requested entry above which the whole row is sorted


def top_k(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest entries of each row; ties go to the smaller index, which also comes first.

    In `torch.topk` the choice among equal values depends on the backend.

    Args:
        values: [rows, n] floating point, without NaN.
        k: number of entries, at most n.

    Returns:
        The values [rows, k] in descending order, and their indices [rows, k].
    """
    rows, n = values.shape
    place = true_places(values >= floors(values, k))
    counts = torch.bincount(place // n, minlength=rows)
    crowded = counts > CROWDED * k
    candidates = int(counts.masked_fill(crowded, 0).max()) if rows else 0
    # Candidates are in the order of their indices, which a stable sort keeps among equal values.
    valid = torch.arange(max(candidates, k), device=values.device) < counts[:, None]
    if crowded.any():
        valid[crowded] = False
        place = place[~crowded[place // n]]
    value = values.new_full(valid.shape, -torch.inf).masked_scatter_(valid, values.flatten()[place])
    index = place.new_zeros(valid.shape).masked_scatter_(valid, place % n)
    top, order = (each[:, :k] for each in torch.sort(value, dim=1, descending=True, stable=True))
    index = torch.gather(index, 1, order)
    if crowded.any():
        top[crowded], index[crowded] = sorted_whole(values[crowded], k)
    return top.contiguous(), index


def floors(values: Tensor, k: int) -> Tensor:
    """Threshold of each row that at least k entries, and few more, reach, [rows, 1]."""
    rows, n = values.shape
    groups = GROUPS_EACH * k
    if n >= WIDE * groups:
        # Each of the k best groups has an entry that reaches the k-th largest of the groups' maxima.
        values = values[:, : n // groups * groups].reshape(rows, -1, groups).amax(dim=1)
    return torch.topk(values, k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)


def true_places(mask: Tensor) -> Tensor:
    """Flat indices of a mask's true entries."""
    if mask.device.type == "cpu":  # torch takes several times as long as numpy here
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero()[:, 0]


def sorted_whole(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of rows with many equal values, by sorting whole rows."""
    top, index = torch.sort(values, dim=1, descending=True, stable=True)
    return top[:, :k], index[:, :k]
