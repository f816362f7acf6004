"""Exact attention in blocks, without materialising the [rows, keys] matrix."""

from typing import Any

import torch
from torch import Tensor

BLOCK_LOGITS = 2**21
"""Number of logits held at once, 8 MiB."""


class _RowAttention(torch.autograd.Function):
    """Keeps one number per row, from which gradients recompute the softmax (Dao et al., NeurIPS 2022)."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        # Products of wide and narrow matrices are several times faster if the long side is contiguous.
        columns = keys.T.contiguous()
        mean, log_sums = queries.new_empty(len(queries), values.shape[1]), queries.new_empty(len(queries), 1)
        for rows in blocks(len(queries), len(keys)):
            logits = queries[rows] @ columns
            largest = logits.amax(dim=1, keepdim=True)
            powers = logits.sub_(largest).exp_()
            sums = powers.sum(dim=1, keepdim=True)
            mean[rows] = (powers @ values).div_(sums)
            log_sums[rows] = sums.log().add_(largest)
        ctx.save_for_backward(queries, columns, values, mean, log_sums)
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
        queries, columns, values, mean, log_sums = ctx.saved_tensors
        value_columns = values.T.contiguous()
        by_queries = torch.empty_like(queries)
        by_columns, by_value_columns = torch.zeros_like(columns), torch.zeros_like(value_columns)
        lead = (gradient * mean).sum(dim=1, keepdim=True)
        for rows in blocks(len(queries), columns.shape[1]):
            shares = (queries[rows] @ columns).sub_(log_sums[rows]).exp_()
            by_value_columns += gradient[rows].T @ shares
            by_logits = (gradient[rows] @ value_columns).sub_(lead[rows]).mul_(shares)
            by_queries[rows] = by_logits @ columns.T
            by_columns += queries[rows].T @ by_logits
        return by_queries, by_columns.T, by_value_columns.T


def blocks(rows: int, keys: int) -> list[slice]:
    """Slices of rows with at most BLOCK_LOGITS logits."""
    size = max(1, BLOCK_LOGITS // max(1, keys))
    return [slice(start, start + size) for start in range(0, rows, size)]


def row_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(queries keys^T / sqrt(d)) values, [rows, d']; rows are independent.

    Args:
        queries: [rows, d].
        keys: [n, d].
        values: [n, d'].
    """
    mean: Tensor = _RowAttention.apply(queries / queries.shape[1] ** 0.5, keys, values)
    return mean
