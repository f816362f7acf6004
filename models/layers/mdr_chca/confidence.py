"""Confidence in what words and regions have to do with each other, and the contrast that it weights.

Source: docs/papers/mdr_chca.md#confidence.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

import torch
from torch import Tensor, nn

ThresholdMode = Literal["rescaled", "quantile", "raw"]

LEAST, MOST = 0.05, 0.95  # between which thresholds stay
SHARPEST = 0.05  # a temperature below it takes exp(-2 / tau) out of the numbers of f32


@dataclass(frozen=True)
class Confidences:
    """How sure the alignment of c items is; without gradient.

    Attributes:
        words: [c, W], 0 where there is none.
        regions: [c, P], 0 where there is none.
    """

    words: Tensor
    regions: Tensor

    @property
    def weights(self) -> Tensor:
        """Of each pair, the root of the product, [c, W, P]."""
        return (self.words[:, :, None] * self.regions[:, None]).sqrt()

    @property
    def least(self) -> Tensor:
        """The smaller one of each pair, [c, W, P]."""
        return torch.minimum(self.words[:, :, None], self.regions[:, None])


@torch.no_grad()
def confidences(
    largest: Tensor, best: Tensor, words: Tensor, regions: Tensor, temperature: float, mode: ThresholdMode
) -> Confidences:
    """sigma(largest weight) of words and softmax(best cosine / tau) of regions, brought to a common scale.

    Args:
        largest: each word's largest weight, [c, W].
        best: each region's largest cosine to a phrase, [c, P].
        words: whether there is a word, [c, W].
        regions: whether there is a region, [c, P].
        temperature: tau of the softmax.
        mode: `rescaled` takes either to 0 to 1, the least possible sigma to 0 and an item's surest region to 1;
            `quantile` takes the share of all words, or regions, that are no surer; `raw` leaves them as they are,
            which no common threshold fits (docs/papers/mdr_chca.md#confidence).
    """
    word, region = largest.sigmoid(), (best.masked_fill(~regions, -torch.inf) / temperature).softmax(dim=1)
    if mode == "rescaled":
        span = 1 / (1 + exp(-1)) - 0.5
        word = ((word - 0.5) / span).clamp(0, 1)
        region = region / region.amax(dim=1, keepdim=True)
    elif mode == "quantile":
        word, region = quantiles(word, words), quantiles(region, regions)
    return Confidences(word * words, region * regions)


def quantiles(values: Tensor, known: Tensor) -> Tensor:
    """The share of the known values that are not larger than each, in the shape of values."""
    ordered = values[known].sort().values
    return torch.searchsorted(ordered, values.contiguous(), right=True).to(values) / len(ordered)


class Thresholds(nn.Module):
    """Between which confidences pairs are neither positive nor hard; they follow the batches.

    Source: docs/papers/mdr_chca.md#thresholds.

    Being compared with, they get no gradient. They are buffers of the state, so that a training that continues has
    them.
    """

    def __init__(self, positive: float, negative: float) -> None:
        super().__init__()
        self.register_buffer("positive", torch.tensor(positive))
        self.register_buffer("negative", torch.tensor(negative))

    @torch.no_grad()
    def follow(self, weights: Tensor, noise: Tensor, positive_rate: float, negative_rate: float) -> None:
        """Move towards what a step has seen.

        Args:
            weights: of the pairs that were considered, [m]; without any, nothing moves.
            noise: whether their confidence was below the negative threshold, [m].
            positive_rate: eta1, how far the positive threshold goes towards the mean weight.
            negative_rate: eta2, how far the negative one goes away from the share of noise.
        """
        if len(weights) == 0:
            return
        positive, negative = self.get_buffer("positive"), self.get_buffer("negative")
        positive += positive_rate * (weights.mean() - positive)
        positive.clamp_(LEAST, MOST)
        negative -= negative_rate * (noise.to(negative).mean() - negative)
        negative.copy_(negative.clamp(min=LEAST).minimum(positive))


@torch.no_grad()
def other_regions(related: Tensor, regions: Tensor, most: int, *, random: bool) -> Tensor:
    """Regions of the same photo with which a word has nothing to do, [c, W, P] of bool.

    Args:
        related: whether a word may see a region, [c, W, P].
        regions: whether there is a region, [c, P].
        most: how many a word.
        random: whether they are drawn; else the first ones.
    """
    others = regions[:, None] & ~related
    in_order = -torch.arange(others.shape[2], dtype=torch.float32, device=others.device)
    keys = torch.rand(others.shape, device=others.device) if random else in_order.expand(others.shape)
    chosen = keys.masked_fill(~others, -torch.inf).topk(min(most, others.shape[2]), dim=2).indices
    return torch.zeros_like(others).scatter_(2, chosen, True) & others


@dataclass(frozen=True)
class Pairs:
    """What the contrast of c items compares; without gradient.

    Attributes:
        positive: [c, W, P] of bool.
        hard: [c, W, P] of bool, none of them positive.
        weights: [c, W, P].
    """

    positive: Tensor
    hard: Tensor
    weights: Tensor


def powers(cosines: Tensor, temperature: float) -> Tensor:
    """exp(cosine / tau), divided by its largest possible value, as all of them can be in a share."""
    return ((cosines - 1) / temperature).exp()


def confident_contrast(
    cosines: Tensor, pairs: Pairs, others: Tensor, temperature: float, *, weights_inside_log: bool
) -> Tensor:
    """The contrast of positive pairs with hard ones of the same word or region and with others.

    Source: docs/papers/mdr_chca.md#contrast.

    Args:
        cosines: of words and regions, [c, W, P], with gradient.
        pairs: which are what.
        others: the sum of the `powers` of each word's random negatives, [c, W, 1].
        temperature: tau.
        weights_inside_log: whether a pair's weight stands beside its power, and all pairs count alike; else it is the
            pair's weight in the mean.

    Returns:
        The mean over positive pairs, 0 without any.
    """
    power = powers(cosines, temperature)
    hard = power * pairs.weights * pairs.hard
    negative = hard.sum(dim=2, keepdim=True) + hard.sum(dim=1, keepdim=True) + others
    weights = pairs.weights.masked_fill(~pairs.positive, 1)
    loss = (negative / (weights * power if weights_inside_log else power)).log1p()
    counted = pairs.positive.to(loss) if weights_inside_log else pairs.weights * pairs.positive
    total = counted.sum()
    return (counted * loss).sum() / total.masked_fill(total == 0, 1)
