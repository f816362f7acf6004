"""Confidence of the alignment of words and regions, and the contrast that it weights.

Source: docs/papers/mdr_chca.md#confidence.
"""

from dataclasses import dataclass
from math import exp
from typing import Literal

import torch
from torch import Tensor, nn

ThresholdMode = Literal["rescaled", "quantile", "raw"]

LEAST, MOST = 0.05, 0.95  # bounds of thresholds
SHARPEST = 0.05  # lower bound of temperatures, below which exp(-2 / tau) underflows f32


@dataclass(frozen=True)
class Confidences:
    """Confidence of the alignment of c items; without gradient.

    Attributes:
        words: [c, W], 0 for padding.
        regions: [c, P], 0 for padding.
    """

    words: Tensor
    regions: Tensor

    @property
    def weights(self) -> Tensor:
        """Geometric mean of each pair's confidences, [c, W, P]."""
        return (self.words[:, :, None] * self.regions[:, None]).sqrt()

    @property
    def least(self) -> Tensor:
        """Minimum of each pair's confidences, [c, W, P]."""
        return torch.minimum(self.words[:, :, None], self.regions[:, None])


@torch.no_grad()
def confidences(
    largest: Tensor, best: Tensor, words: Tensor, regions: Tensor, temperature: float, mode: ThresholdMode
) -> Confidences:
    """Confidences sigma(largest weight) of words and softmax(best cosine / tau) of regions, on a common scale.

    Args:
        largest: each word's largest weight, [c, W].
        best: each region's largest cosine with a phrase, [c, P].
        words: mask of words, [c, W].
        regions: mask of regions, [c, P].
        temperature: tau of the softmax.
        mode: `rescaled` scales both to [0, 1], with the least possible sigma at 0 and an item's most confident region
            at 1; `quantile` is the share of all words, or regions, with no higher confidence; `raw` keeps the values,
            for which no common threshold is suitable (docs/papers/mdr_chca.md#confidence).
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
    """Share of the known values that are less than or equal to each value, in the shape of values."""
    ordered = values[known].sort().values
    return torch.searchsorted(ordered, values.contiguous(), right=True).to(values) / len(ordered)


class Thresholds(nn.Module):
    """Confidence thresholds of positive and of hard negative pairs, adapted to the batches.

    Source: docs/papers/mdr_chca.md#thresholds.

    Only compared with, they get no gradient. They are buffers, so that a checkpoint includes them.
    """

    def __init__(self, positive: float, negative: float) -> None:
        super().__init__()
        self.register_buffer("positive", torch.tensor(positive))
        self.register_buffer("negative", torch.tensor(negative))

    @torch.no_grad()
    def follow(self, confidence: Tensor, noise: Tensor, positive_rate: float, negative_rate: float) -> None:
        """Update the thresholds from the pairs of a step.

        Args:
            confidence: confidence of the pairs, [m]; without pairs, nothing changes.
            noise: whether their confidence was below the negative threshold, [m].
            positive_rate: eta1, step of the positive threshold towards the mean confidence.
            negative_rate: eta2, step of the negative threshold away from the share of noise.
        """
        if len(confidence) == 0:
            return
        positive, negative = self.get_buffer("positive"), self.get_buffer("negative")
        positive += positive_rate * (confidence.mean() - positive)
        positive.clamp_(LEAST, MOST)
        negative -= negative_rate * (noise.to(negative).mean() - negative)
        negative.copy_(negative.clamp(min=LEAST).minimum(positive))


@torch.no_grad()
def other_regions(related: Tensor, regions: Tensor, most: int, *, random: bool) -> Tensor:
    """Negative regions of a word: unrelated regions of the same photo, [c, W, P] of bool.

    Args:
        related: whether a word may attend to a region, [c, W, P].
        regions: mask of regions, [c, P].
        most: maximum number per word.
        random: whether they are drawn at random; else the first ones are taken.
    """
    others = regions[:, None] & ~related
    in_order = -torch.arange(others.shape[2], dtype=torch.float32, device=others.device)
    keys = torch.rand(others.shape, device=others.device) if random else in_order.expand(others.shape)
    chosen = keys.masked_fill(~others, -torch.inf).topk(min(most, others.shape[2]), dim=2).indices
    return torch.zeros_like(others).scatter_(2, chosen, True) & others


@dataclass(frozen=True)
class Pairs:
    """Positive and hard negative pairs in the contrast of c items; without gradient.

    Attributes:
        positive: [c, W, P] of bool.
        hard: [c, W, P] of bool, disjoint from `positive`.
        weights: [c, W, P].
    """

    positive: Tensor
    hard: Tensor
    weights: Tensor


def powers(cosines: Tensor, temperature: float) -> Tensor:
    """exp(cosine / tau) divided by its maximum exp(1 / tau), which cancels in ratios and avoids overflow."""
    return ((cosines - 1) / temperature).exp()


def confident_contrast(
    cosines: Tensor, pairs: Pairs, others: Tensor, temperature: float, *, weights_inside_log: bool
) -> Tensor:
    """Contrast of positive pairs with hard negatives of the same word or region and with random negatives.

    Source: docs/papers/mdr_chca.md#contrast.

    Args:
        cosines: cosines of words and regions, [c, W, P], with gradient.
        pairs: positive and hard negative pairs.
        others: sum of the `powers` of each word's random negatives, [c, W, 1].
        temperature: tau.
        weights_inside_log: whether a pair's weight multiplies its power, with equal weights in the mean; else it is the
            pair's weight in the mean.

    Returns:
        The mean over positive pairs, 0 without positive pairs.
    """
    power = powers(cosines, temperature)
    hard = power * pairs.weights * pairs.hard
    negative = hard.sum(dim=2, keepdim=True) + hard.sum(dim=1, keepdim=True) + others
    weights = pairs.weights.masked_fill(~pairs.positive, 1)
    loss = (negative / (weights * power if weights_inside_log else power)).log1p()
    counted = pairs.positive.to(loss) if weights_inside_log else pairs.weights * pairs.positive
    total = counted.sum()
    return (counted * loss).sum() / total.masked_fill(total == 0, 1)
