"""Confidence-weighted contrast of items' words and regions (docs/papers/mdr_chca.md#contrast)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from mmprep.models.layers.mdr_chca.alignment import Aligned
from mmprep.models.layers.mdr_chca.confidence import (
    SHARPEST,
    Confidences,
    Pairs,
    ThresholdMode,
    Thresholds,
    confidences,
    confident_contrast,
    other_regions,
    powers,
)
from mmprep.pipeline.params import Params

Threshold = Annotated[float, Field(ge=0.05, le=0.95)]
Rate = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=SHARPEST)]


class ContrastParams(Params):
    """Positives, negatives and form of the contrast.

    Attributes:
        confidence: `none` is the variant MDR-CHCA-B: all connections are equally weighted positives, none is hard.
        threshold_mode: scale of the confidences that are compared with thresholds, see `confidences`. Only `quantile`
            selects positives from the first step on at any number of patches, and with `align: full`
            (docs/papers/mdr_chca.md#measured-shares-of-pairs).
        theta_plus: initial threshold of positive pairs.
        theta_minus: initial threshold of hard negative pairs, at most theta_plus.
        theta_follows: mean that the threshold of positive pairs follows: that of the pairs' smaller confidence, which
            is compared with it (`least`), or that of their weight, which is never smaller (`weight`).
        eta_plus: update rate of the first threshold, eta1.
        eta_minus: update rate of the second threshold, eta2.
        n_r: number of random negatives per word.
        rand_scope: source of random negatives: regions of the same photo (`item`), or of others of the batch (`batch`).
            Where words attend to whole photos (`align: full`) no region of the same photo is left, and it is `batch`.
        cl_on_aligned: whether regions are compared with the words' attention outputs, so that the contrast trains the
            attention; else with the words themselves (docs/papers/mdr_chca.md#contrast).
        weights_inside_log: whether weights are inside the contrast's logarithm.
        tau_conf: temperature of the regions' confidence.
        tau_cl: temperature of the contrast (docs/papers/mdr_chca.md#contrast).
        cc_items_per_step: number of items of a batch that a step contrasts, drawn at random. None takes all.
    """

    confidence: Literal["weighted", "none"] = "weighted"
    threshold_mode: ThresholdMode = "quantile"
    theta_plus: Threshold = 0.5
    theta_minus: Annotated[Threshold, Field(validate_default=True)] = 0.2
    theta_follows: Literal["least", "weight"] = "least"
    eta_plus: Rate = 0.01
    eta_minus: Rate = 0.01
    n_r: Annotated[int, Field(ge=0)] = 8
    rand_scope: Literal["item", "batch"] = "item"
    cl_on_aligned: bool = True
    weights_inside_log: bool = False
    tau_conf: Temperature = 0.5
    tau_cl: Temperature = 0.5
    cc_items_per_step: Annotated[int, Field(ge=1)] | None = 512

    @field_validator("theta_minus")
    @classmethod
    def below(cls, theta_minus: float, others: ValidationInfo) -> float:
        """Check that no pair can be both positive and hard; raises ValueError."""
        theta_plus = others.data.get("theta_plus", theta_minus)
        if theta_minus > theta_plus:
            raise ValueError(f"at most theta_plus, {theta_plus}")
        return theta_minus


@dataclass(frozen=True)
class ContrastResult:
    """The contrast of a batch, and the pairs that it consists of.

    Attributes:
        loss: a scalar.
        shares: scalars without gradient. `positive_share` and `hard_share` are shares of the connections, which are the
            pairs with an attention weight; `random_share` is the number of random negatives over `n_r` per word.
    """

    loss: Tensor
    shares: dict[str, Tensor]


class TokenContrast(nn.Module):
    """Contrasts words and regions of an item: confident pairs against unconfident and unrelated ones."""

    def __init__(self, params: ContrastParams) -> None:
        super().__init__()
        self.params = params
        self.thresholds = Thresholds(params.theta_plus, params.theta_minus)

    def forward(self, aligned: Aligned) -> ContrastResult:
        """The contrast of items' words and regions; in training of a sample of items, with thresholds updated."""
        aligned = self.contrasted(aligned)
        pairs = self.pairs(aligned)
        words = normalize(aligned.seen_by_words if self.params.cl_on_aligned else aligned.words, dim=2)
        regions = normalize(aligned.patches, dim=2)
        cosines = words @ regions.mT
        others, n_others = self.random_negatives(aligned, words, regions, cosines)
        loss = confident_contrast(
            cosines, pairs, others, self.params.tau_cl, weights_inside_log=self.params.weights_inside_log
        )
        shares = {
            "positive_share": pairs.positive.sum() / aligned.n_connections,
            "hard_share": pairs.hard.sum() / aligned.n_connections,
            "random_share": n_others / (max(1, self.params.n_r) * aligned.words_there.sum()),
        }
        return ContrastResult(loss, shares)

    def random_negatives(
        self, aligned: Aligned, words: Tensor, regions: Tensor, cosines: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of the powers of each word's random negatives, [c, W, 1], and their number, a scalar.

        Args:
            aligned: the alignment of c items.
            words: L2-normalised, [c, W, d].
            regions: L2-normalised, [c, P, d].
            cosines: their cosines, [c, W, P].
        """
        if self.params.rand_scope == "batch" or aligned.covers_photos:
            n_others = aligned.words_there.sum() * (self.params.n_r if len(words) > 1 else 0)
            return self.powers_of_other_items(words, regions, aligned.patches_there), n_others
        drawn = other_regions(aligned.related, aligned.patches_there, self.params.n_r, random=self.training)
        others = (powers(cosines, self.params.tau_cl) * drawn).sum(dim=2, keepdim=True)
        return others, (drawn & aligned.words_there[:, :, None]).sum()

    def contrasted(self, aligned: Aligned) -> Aligned:
        """The items to contrast: in training a sample of `cc_items_per_step`, else all."""
        most, n_items = self.params.cc_items_per_step, len(aligned.words)
        if not self.training or most is None or n_items <= most:
            return aligned
        return aligned.take(torch.randperm(n_items, device=aligned.words.device)[:most])

    def confidences(self, aligned: Aligned, mode: ThresholdMode | None = None) -> Confidences:
        """Confidences of the items' alignment, on the scale of a mode, by default `threshold_mode`."""
        return confidences(
            aligned.weights.detach().amax(dim=2),
            aligned.best,
            aligned.words_there,
            aligned.patches_there,
            self.params.tau_conf,
            mode or self.params.threshold_mode,
        )

    def pooling_confidences(self, aligned: Aligned) -> Confidences:
        """Confidences as weights of an item's words and regions, which do not depend on the batch's other items.

        Source: docs/papers/mdr_chca.md#pooling.
        """
        return self.confidences(aligned, "raw" if self.params.threshold_mode == "raw" else "rescaled")

    @torch.no_grad()
    def pairs(self, aligned: Aligned) -> Pairs:
        """Positive and hard negative pairs of words and regions; in training, thresholds are updated."""
        considered = (aligned.dense_weights > 0) & aligned.words_there[:, :, None]
        if self.params.confidence == "none":
            return Pairs(considered, torch.zeros_like(considered), considered.to(aligned.weights))
        confidence = self.confidences(aligned)
        weights, least = confidence.weights, confidence.least
        above, below = (self.thresholds.get_buffer(name) for name in ("positive", "negative"))
        pairs = Pairs(considered & (least > above), considered & (least < below), weights)
        if self.training:
            followed = least if self.params.theta_follows == "least" else weights
            self.thresholds.follow(
                followed[considered], pairs.hard[considered], self.params.eta_plus, self.params.eta_minus
            )
        return pairs

    def powers_of_other_items(self, words: Tensor, regions: Tensor, there: Tensor) -> Tensor:
        """Sum of the powers of `n_r` regions of other items for each word, [c, W, 1]; in training they are random.

        Args:
            words: L2-normalised, [c, W, d].
            regions: L2-normalised, [c, P, d].
            there: mask of regions, [c, P].
        """
        count, length = there.shape
        if count == 1:
            return words.new_zeros(1, words.shape[1], 1)
        drawn = torch.rand(2, count, self.params.n_r, device=words.device)
        if not self.training:
            drawn = evenly_spaced(self.params.n_r).to(drawn).expand_as(drawn)
        item = torch.arange(count, device=words.device)[:, None] + 1 + (drawn[0] * (count - 1)).long()
        item = item % count
        place = (drawn[1] * there.sum(dim=1)[item]).long()
        negatives = embedding(item * length + place, regions.flatten(0, 1))
        return powers(words @ negatives.mT, self.params.tau_cl).sum(dim=2, keepdim=True)


def evenly_spaced(count: int) -> Tensor:
    """The middles of `count` equal parts of 0..1, [count], in place of random numbers."""
    return (torch.arange(count) + 0.5) / count
