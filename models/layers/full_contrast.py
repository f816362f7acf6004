"""Contrast of a batch with all nodes, in blocks, without materialising the [batch, n] logits."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

BLOCK_LOGITS = 2**21
"""Number of logits held at once, 8 MiB."""


class _LogPartition(torch.autograd.Function):
    """Computes gradients together with the value, so that logits are neither stored nor recomputed."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, candidates: Tensor, weights: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        value = anchors.new_zeros(())
        # Products of wide and narrow matrices are several times faster if the long side is contiguous.
        columns = candidates.T.contiguous()
        by_anchors, by_columns = torch.empty_like(anchors), torch.zeros_like(columns)
        rows = max(1, BLOCK_LOGITS // len(candidates))
        for start in range(0, len(anchors), rows):
            block, weight = anchors[start : start + rows], weights[start : start + rows, None]
            logits = block @ columns
            largest = logits.amax(dim=1, keepdim=True)
            shares = logits.sub_(largest).exp_()
            total = shares.sum(dim=1, keepdim=True)
            value += (weight * (largest + total.log())).sum()
            shares *= weight / total
            by_anchors[start : start + rows] = shares @ columns.T
            by_columns += block.T @ shares
        ctx.save_for_backward(by_anchors, by_columns)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
        by_anchors, by_columns = ctx.saved_tensors
        return gradient * by_anchors, gradient * by_columns.T, None


def log_partition(anchors: Tensor, candidates: Tensor, weights: Tensor) -> Tensor:
    """The sum over anchors b of w_b log sum_n exp <anchor_b, candidate_n>; the weights get no gradient.

    Args:
        anchors: [batch, d].
        candidates: [n, d].
        weights: [batch].
    """
    value: Tensor = _LogPartition.apply(anchors, candidates, weights)
    return value


def contrast_with_all(anchors: Tensor, candidates: Tensor, nodes: Tensor, weights: Tensor) -> Tensor:
    """Sum over anchors of w times the cross-entropy of the inner products with all candidates; the target is its own.

    Source: docs/papers/mgnm.md#contrast.

    Args:
        anchors: [batch, d], divided by the temperature.
        candidates: [n, d].
        nodes: [batch] index of each anchor's own candidate.
        weights: [batch] weight of each anchor, without gradient.
    """
    own = (anchors * embedding(nodes, candidates)).sum(dim=1)
    return log_partition(anchors, candidates, weights) - (weights * own).sum()
