"""Hierarchical alignment of words and photo regions via phrases (docs/papers/mdr_chca.md#token-alignment)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmprep.models.layers.mdr_chca.phrases import Coarse, Phrases, coarse_alignment, into_phrases
from mmprep.models.layers.mdr_chca.token_attention import CrossAttention


@dataclass(frozen=True)
class AlignmentSettings:
    """Settings of the alignment of words and regions.

    Attributes:
        phrases: number of phrases per text, Kp.
        regions_of_phrase: k_r, number of regions that a phrase's words may attend to.
        phrases_of_region: k_p, number of phrases whose words a region may attend to.
        connections: k_s, number of attention weights kept per word or region.
        heads: number of attention heads.
        full: whether every word attends to every region, and vice versa, with all weights.
        renormalise: whether the kept weights are renormalised to sum 1.
        residual: whether a word's or region's own vector is added to its attention.
    """

    phrases: int
    regions_of_phrase: int
    phrases_of_region: int
    connections: int
    heads: int
    full: bool
    renormalise: bool
    residual: bool


@dataclass(frozen=True)
class Aligned:
    """The aligned words and regions of n items.

    Attributes:
        words: [n, W, d], zeros for padding.
        words_there: mask of words, [n, W], False for padding.
        patches: [n, P, d].
        patches_there: mask of patches, [n, P], False for padding.
        regions: regions that a word may attend to, [n, W, m]; in photos with fewer than m, also padding.
        weights: attention weights of a word's regions, [n, W, m].
        seen_by_words: each word's attention over the photo, [n, W, d].
        seen_by_patches: each region's attention over the text, [n, P, d].
        best: largest cosine of each region with a phrase, [n, P]; without gradient.
    """

    words: Tensor
    words_there: Tensor
    patches: Tensor
    patches_there: Tensor
    regions: Tensor
    weights: Tensor
    seen_by_words: Tensor
    seen_by_patches: Tensor
    best: Tensor

    def take(self, items: Tensor) -> "Aligned":
        """The rows of a subset of the items, by indices [c]."""
        return Aligned(*(rows(getattr(self, field.name), items) for field in fields(self)))

    @property
    def dense_weights(self) -> Tensor:
        """Dense weights of words and regions, 0 where attention is not allowed, [n, W, P]; without gradient."""
        empty = torch.zeros(*self.regions.shape[:2], self.patches.shape[1], dtype=self.weights.dtype).to(self.weights)
        return empty.scatter_(2, self.regions, self.weights.detach())

    @property
    def related(self) -> Tensor:
        """Whether a word may attend to a region, [n, W, P]."""
        empty = torch.zeros(*self.regions.shape[:2], self.patches.shape[1], dtype=torch.bool)
        return empty.to(self.regions.device).scatter_(2, self.regions, True)

    @property
    def n_connections(self) -> Tensor:
        """Number of pairs of a word and a region with an attention weight, a scalar."""
        return ((self.weights > 0) & self.words_there[:, :, None]).sum()

    @property
    def covers_photos(self) -> bool:
        """Whether every word may attend to every region of its photo, so that no region is unrelated."""
        return self.regions.shape[2] >= self.patches.shape[1]


def rows(table: Tensor, index: Tensor) -> Tensor:
    """The rows of a tensor [n, ...]; see mmprep.models.recommenders.base.look_up."""
    if not table.is_floating_point():
        return table[index]
    return embedding(index, table.flatten(1)).view(len(index), *table.shape[1:])


class HierarchicalAlignment(nn.Module):
    """Selects regions per phrase by cosine, to which alone its words attend, and phrases per region in the same way.

    Each direction has its own attention. Words attend to the selected regions, gathered once per phrase. Regions attend
    to all of the few words, with the unselected ones masked: gathering 8 of 32 words for each of 196 regions would
    cost more in memory traffic than it saves in multiplications.
    """

    def __init__(self, size: int, settings: AlignmentSettings) -> None:
        """Create the attention of each direction.

        Args:
            size: length of words and patches, d.
            settings: settings of the alignment.
        """
        super().__init__()
        self.settings = settings
        self.of_words, self.of_patches = (CrossAttention(size, settings.heads) for _ in range(2))

    def forward(self, words: Tensor, words_there: Tensor, patches: Tensor, patches_there: Tensor) -> Aligned:
        """Align the words and patches of n items; each has at least one of both.

        Args:
            words: [n, L, d].
            words_there: mask of words, [n, L].
            patches: [n, P, d].
            patches_there: mask of patches, [n, P].
        """
        phrases = into_phrases(words, words_there, self.settings.phrases)
        coarse = coarse_alignment(
            phrases, patches, patches_there, self.settings.regions_of_phrase, self.settings.phrases_of_region
        )
        regions, seen_by_words, weights = self.seen_by_words(phrases, coarse, patches, patches_there)
        one = phrases.as_one()
        words, words_there = one.tokens[:, 0], one.there[:, 0]
        seen_by_patches = self.seen_by_patches(phrases, coarse, patches)
        if self.settings.residual:
            seen_by_words, seen_by_patches = words + seen_by_words, patches + seen_by_patches
        return Aligned(
            words, words_there, patches, patches_there, regions, weights, seen_by_words, seen_by_patches, coarse.best
        )

    def seen_by_words(
        self, phrases: Phrases, coarse: Coarse, patches: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Words' allowed regions [n, W, m], attention outputs [n, W, d], and attention weights [n, W, m]."""
        n, length, _ = patches.shape
        everywhere = torch.arange(length, device=patches.device).expand(n, 1, length)
        groups, regions = (phrases.as_one(), everywhere) if self.settings.full else (phrases, coarse.regions)
        places = regions + torch.arange(n, device=patches.device)[:, None, None] * length
        allowed = there.flatten()[places][:, :, None]
        seen, weights = self.of_words(
            groups.tokens,
            embedding(places, patches.flatten(0, 1)),
            allowed,
            length if self.settings.full else self.settings.connections,
            renormalise=self.settings.renormalise,
        )
        of_words = regions[:, :, None].expand(weights.shape)
        return of_words.flatten(1, 2), seen.flatten(1, 2), weights.flatten(1, 2)

    def seen_by_patches(self, phrases: Phrases, coarse: Coarse, patches: Tensor) -> Tensor:
        """Attention outputs of regions over words, [n, P, d]."""
        one = phrases.as_one()
        allowed = one.there[:, :, None]
        if not self.settings.full:
            allowed = allowed & coarse.phrases.repeat_interleave(phrases.there.shape[2], dim=2)[:, None]
        seen: Tensor = self.of_patches(
            patches[:, None],
            one.tokens,
            allowed,
            one.there.shape[2] if self.settings.full else self.settings.connections,
            renormalise=self.settings.renormalise,
        )[0]
        return seen[:, 0]
