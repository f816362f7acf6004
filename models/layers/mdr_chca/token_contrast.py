"""The contrast of items' words and regions, weighted by confidence (docs/papers/mdr_chca.md#contrast)."""

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
    """What is positive, what negative, and how it is compared.

    Attributes:
        confidence: `none` is the variant MDR-CHCA-B: all connections are positive and alike, none is hard.
        threshold_mode: what the confidences are that thresholds are compared with, see `confidences`.
        theta_plus: the threshold of positive pairs, in the first step.
        theta_minus: that of hard pairs, at most the other.
        eta_plus: how far the first moves a step, eta1.
        eta_minus: how far the second does, eta2.
        n_r: random negatives a word.
        rand_scope: whether they are regions of the same photo, or of others of the batch.
        cl_on_aligned: whether regions are compared with what words see, so that the contrast trains the attention;
            else with the words themselves (docs/papers/mdr_chca.md#contrast).
        weights_inside_log: whether weights stand inside the contrast's logarithm.
        tau_conf: the temperature of the regions' confidence.
        tau_cl: that of the contrast (docs/papers/mdr_chca.md#contrast).
        cc_items_per_step: items of a batch that a step contrasts, drawn at random. None takes all.
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
    """Compares words and regions of the same item, sure pairs against unsure and unrelated ones."""

    def __init__(self, params: ContrastParams) -> None:
        super().__init__()
        self.params = params
        self.thresholds = Thresholds(params.theta_plus, params.theta_minus)

    def forward(self, aligned: Aligned) -> Tensor:
        """The contrast of items' words and regions; in training of some of them, and thresholds follow."""
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
        """The items that a step contrasts: without training all, else as many as `cc_items_per_step`."""
        most, found = self.params.cc_items_per_step, len(aligned.words)
        if not self.training or most is None or found <= most:
            return aligned
        return aligned.take(torch.randperm(found, device=aligned.words.device)[:most])

    def confidences(self, aligned: Aligned) -> Confidences:
        """How sure the alignment of items is."""
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
        """Which words and regions are positive and which hard negatives; in training, thresholds follow."""
        considered = (aligned.dense_weights > 0) & aligned.words_there[:, :, None]
        if self.params.confidence == "none":
            return Pairs(considered, torch.zeros_like(considered), considered.to(aligned.weights))
        sure = self.confidences(aligned)
        weights, least = sure.weights, sure.least
        above, below = (self.thresholds.get_buffer(name) for name in ("positive", "negative"))
        pairs = Pairs(considered & (least > above), considered & (least < below), weights)
        if self.training:
            self.thresholds.follow(
                weights[considered], pairs.hard[considered], self.params.eta_plus, self.params.eta_minus
            )
        return pairs

    def powers_of_other_items(self, words: Tensor, regions: Tensor, there: Tensor) -> Tensor:
        """The sum of the powers of `n_r` regions of other items for each word, [c, W, 1].

        Args:
            words: of length 1, [c, W, d].
            regions: of length 1, [c, P, d].
            there: whether there is a region, [c, P].
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
