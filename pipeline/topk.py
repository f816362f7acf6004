"""The k largest of each row, the same on every machine: equal values go to the smaller index."""

import torch


def top_k(values: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k largest entries of each row; of equal ones those with the smaller index, which come first.

    `torch.topk` leaves it to the backend which of equal values it takes.

    Args:
        values: [rows, n] without NaN.
        k: at most n.

    Returns:
        The values [rows, k] in descending order, and their indices [rows, k].
    """
    top, index = torch.topk(values, k, dim=1)
    # Where more than k entries reach the k-th value, some equal ones were left out and must be chosen by index.
    reach = (values >= top[:, -1:]).sum(dim=1)
    for row in torch.nonzero(reach > k).flatten().tolist():
        order = torch.argsort(values[row], descending=True, stable=True)[:k]
        top[row], index[row] = values[row, order], order
    # Among the chosen, topk may still order equal values anyhow: sort by index, then stably by value.
    index, by_index = torch.sort(index, dim=1)
    top, by_value = torch.sort(torch.gather(top, 1, by_index), dim=1, descending=True, stable=True)
    return top, torch.gather(index, 1, by_value)
