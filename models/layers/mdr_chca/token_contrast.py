"""Confidence-weighted contrast of items' words and regions (docs/papers/mdr_chca.md#contrast)."""

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
        threshold_mode: scale of the confidences that are compared with thresholds, see `confidences`.
        theta_plus: initial threshold of positive pairs.
        theta_minus: initial threshold of hard negative pairs, at most theta_plus.
        eta_plus: update rate of the first threshold, eta1.
        eta_minus: update rate of the second threshold, eta2.
        n_r: number of random negatives per word.
        rand_scope: source of random negatives: regions of the same photo (`item`), or of others of the batch (`batch`).
        cl_on_aligned: whether regions are compared with the words' attention outputs, so that the contrast trains the
            attention; else with the words themselves (docs/papers/mdr_chca.md#contrast).
        weights_inside_log: whether weights are inside the contrast's logarithm.
        tau_conf: temperature of the regions' confidence.
        tau_cl: temperature of the contrast (docs/papers/mdr_chca.md#contrast).
        cc_items_per_step: number of items of a batch that a step contrasts, drawn at random. None takes all.
    """

    confidence: Literal["weighted", "none"] = "weighted"
    threshold_mode: ThresholdMode = "rescaled"
    theta_plus: Threshold = 0.5
    theta_minus: Annotated[Threshold, Field(validate_default=True)] = 0.2
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


class TokenContrast(nn.Module):
    """Contrasts words and regions of an item: confident pairs against unconfident and unrelated ones."""

    def __init__(self, params: ContrastParams) -> None:
        super().__init__()
        self.params = params
        self.thresholds = Thresholds(params.theta_plus, params.theta_minus)

    def forward(self, aligned: Aligned) -> Tensor:
        """The contrast of items' words and regions; in training of a sample of items, with thresholds updated."""
        aligned = self.contrasted(aligned)
        pairs = self.pairs(aligned)
        words = normalize(aligned.seen_by_words if self.params.cl_on_aligned else aligned.words, dim=2)
        regions = normalize(aligned.patches, dim=2)
        cosines = words @ regions.mT
        if self.params.rand_scope == "batch":
            others = self.powers_of_other_items(words, regions, aligned.patches_there)
        else:
            drawn = other_regions(aligned.related, aligned.patches_there, self.params.n_r, random=self.training)
            others = (powers(cosines, self.params.tau_cl) * drawn).sum(dim=2, keepdim=True)
        return confident_contrast(
            cosines, pairs, others, self.params.tau_cl, weights_inside_log=self.params.weights_inside_log
        )

    def contrasted(self, aligned: Aligned) -> Aligned:
        """The items to contrast: in training a sample of `cc_items_per_step`, else all."""
        most, n_items = self.params.cc_items_per_step, len(aligned.words)
        if not self.training or most is None or n_items <= most:
            return aligned
        return aligned.take(torch.randperm(n_items, device=aligned.words.device)[:most])

    def confidences(self, aligned: Aligned) -> Confidences:
        """Confidences of the items' alignment."""
        return confidences(
            aligned.weights.detach().amax(dim=2),
            aligned.best,
            aligned.words_there,
            aligned.patches_there,
            self.params.tau_conf,
            self.params.threshold_mode,
        )

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
            self.thresholds.follow(
                weights[considered], pairs.hard[considered], self.params.eta_plus, self.params.eta_minus
            )
        return pairs

    def powers_of_other_items(self, words: Tensor, regions: Tensor, there: Tensor) -> Tensor:
        """Sum of the powers of `n_r` random regions of other items for each word, [c, W, 1].

        Args:
            words: L2-normalised, [c, W, d].
            regions: L2-normalised, [c, P, d].
            there: mask of regions, [c, P].
        """
        count, length = there.shape
        if count == 1:
            return words.new_zeros(1, words.shape[1], 1)
        drawn = torch.rand(2, count, self.params.n_r, device=words.device)
        item = torch.arange(count, device=words.device)[:, None] + 1 + (drawn[0] * (count - 1)).long()
        item = item % count
        place = (drawn[1] * there.sum(dim=1)[item]).long()
        negatives = embedding(item * length + place, regions.flatten(0, 1))
        return powers(words @ negatives.mT, self.params.tau_cl).sum(dim=2, keepdim=True)
