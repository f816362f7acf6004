"""Alignment of two views of items by user preference, in blocks, without materialising [users, items] scores.

KL(p, q) + KL(q, p) = (p - q) (a - b) for Bernoulli distributions with logits a and b, and the sum of that over items
for softmax distributions, whose normalisers cancel. So no logarithm of a probability is needed, which may be 0.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mmprep.models.layers.da_mrs.row_parallel import map_row_chunks, rows_per_block

BLOCK_SCORES = 2**17
"""Number of scores per view that a CPU core holds at once, 512 KiB."""


class _Divergence(torch.autograd.Function):
    """Computes gradients together with the value, so that scores are neither stored nor recomputed."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        users: Tensor,
        first: Tensor,
        second: Tensor,
        softmax: bool,
        fixed: bool,
    ) -> Tensor:
        sides = [side.detach().T.contiguous() for side in (first, second)]

        def of(part: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
            return divergence_of(part, sides, softmax=softmax, fixed=fixed)

        values, by_users, by_sides = zip(*map_row_chunks(of, users.detach()), strict=True)
        count = len(users) * (1 if softmax else len(first))
        gradients = torch.cat(by_users), *(sum(side[1:], side[0]) for side in zip(*by_sides, strict=True))
        ctx.save_for_backward(*(each.div_(count) for each in gradients))
        return torch.stack(values).sum() / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401
        by_users, by_first, by_second = ctx.saved_tensors
        return gradient * by_users, gradient * by_first, gradient * by_second, None, None


def divergence_of(
    users: Tensor, sides: Sequence[Tensor], *, softmax: bool, fixed: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Sum of the users' divergences, and its gradients by users [users, d] and by the sides [items, d] each.

    Args:
        users: [users, d].
        sides: two views of the items, [d, items] each.
        softmax: as in `preference_divergence`.
        fixed: whether only the second side, and users through it, get a gradient.
    """
    value, by_users = users.new_zeros(()), torch.zeros_like(users)
    by_sides = [side.new_zeros(side.T.shape) for side in sides]
    step = rows_per_block(sides[0].shape[1], BLOCK_SCORES, users.device)
    for block, by_block in zip(torch.split(users, step), torch.split(by_users, step), strict=True):
        divergence, gradients = bernoulli_or_softmax(*(block @ side for side in sides), softmax=softmax)
        value += divergence
        for place in (1,) if fixed else (0, 1):
            by_block.addmm_(gradients[place], sides[place].T)
            by_sides[place].addmm_(gradients[place].T, block)
    return value, by_users, by_sides


def bernoulli_or_softmax(first: Tensor, second: Tensor, *, softmax: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Sum of both divergences of distributions with logits [users, items], and its gradients by the logits.

    The logits may be overwritten.
    """
    difference = first - second
    probabilities = [logits.softmax(dim=1) if softmax else logits.sigmoid_() for logits in (first, second)]
    shift = probabilities[0] - probabilities[1]
    slopes = []
    for probability in probabilities:
        if softmax:
            slope = probability * (difference - (probability * difference).sum(dim=1, keepdim=True))
        else:
            slope = (1 - probability).mul_(probability).mul_(difference)
        slopes.append(slope.add_(shift))
    return (shift * difference).sum(), (slopes[0], slopes[1].neg_())


def preference_divergence(users: Tensor, first: Tensor, second: Tensor, *, softmax: bool, fixed: bool) -> Tensor:
    """Symmetric KL divergence of users' preferences by two views of items.

    Source: DA-MRS, eq 9-10; docs/papers/da_mrs.md#user-alignment.

    Args:
        users: [users, d].
        first: [items, d].
        second: [items, d], the other view of the same items.
        softmax: whether a user's preference is a distribution over all items, with the mean over users (the paper);
            else a separate probability of each item, with the mean over all pairs (the authors' code).
        fixed: whether only the second view, and users through it, get a gradient.
    """
    value: Tensor = _Divergence.apply(users, first, second, softmax, fixed)
    return value
