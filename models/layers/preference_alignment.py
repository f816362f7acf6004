"""Alignment of two views of items by what users prefer in each, in blocks: [users, items] scores are never held.

KL(p, q) + KL(q, p) is (p - q) (a - b), for Bernoulli distributions with logits a and b, and summed over items for
softmax ones, where what normalises them cancels. So no logarithm of a probability is taken, which may be 0.
"""

from typing import Any

import torch
from torch import Tensor

BLOCK_SCORES = 2**19
"""How many scores of each view are held at once: 2 MiB of them."""


class _Divergence(torch.autograd.Function):
    """Has the gradients computed beside the value, so that no score is kept, or computed again for them."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        users: Tensor,
        first: Tensor,
        second: Tensor,
        softmax: bool,
        fixed: bool,
    ) -> Tensor:
        value = users.new_zeros(())
        sides = [side.T.contiguous() for side in (first, second)]
        by_users, by_sides = torch.zeros_like(users), [torch.zeros_like(side) for side in sides]
        rows = max(1, BLOCK_SCORES // len(first))
        for start in range(0, len(users), rows):
            block = users[start : start + rows]
            divergence, gradients = bernoulli_or_softmax(*(block @ side for side in sides), softmax=softmax)
            value += divergence
            for place in (1,) if fixed else (0, 1):
                by_users[start : start + rows] += gradients[place] @ sides[place].T
                by_sides[place] += block.T @ gradients[place]
        count = len(users) * (1 if softmax else len(first))
        ctx.save_for_backward(*(each / count for each in (by_users, *by_sides)))
        return value / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # noqa: ANN401
        by_users, by_first, by_second = ctx.saved_tensors
        return gradient * by_users, gradient * by_first.T, gradient * by_second.T, None, None


def bernoulli_or_softmax(first: Tensor, second: Tensor, *, softmax: bool) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The sum of both divergences of distributions with logits [users, items], and its gradients by them."""
    apart = first - second
    chances = [logits.softmax(dim=1) if softmax else logits.sigmoid() for logits in (first, second)]
    shift = chances[0] - chances[1]
    slopes = []
    for chance in chances:
        if softmax:
            slopes.append(chance * (apart - (chance * apart).sum(dim=1, keepdim=True)))
        else:
            slopes.append(chance * (1 - chance) * apart)
    return (shift * apart).sum(), (shift + slopes[0], -(shift + slopes[1]))


def preference_divergence(users: Tensor, first: Tensor, second: Tensor, *, softmax: bool, fixed: bool) -> Tensor:
    """How far users' preferences by two views of items differ, KL both ways (DA-MRS, eq 9-10; specs 4.4, L_AU).

    Args:
        users: [users, d].
        first: [items, d].
        second: [items, d], the other view of the same items.
        softmax: a user's preference is a distribution over all the items, and the mean is over users (the paper); else
            the probability of each item by itself, and the mean is over all pairs (the authors' code).
        fixed: whether the second view alone, and users by it, get a gradient.
    """
    value: Tensor = _Divergence.apply(users, first, second, softmax, fixed)
    return value
