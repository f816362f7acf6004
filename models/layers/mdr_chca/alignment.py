"""Words aligned with regions of a photo, by way of phrases (docs/papers/mdr_chca.md#token-alignment)."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from mmprep.models.layers.mdr_chca.phrases import Coarse, Phrases, coarse_alignment, into_phrases
from mmprep.models.layers.mdr_chca.token_attention import CrossAttention


@dataclass(frozen=True)
class AlignmentSettings:
    """How words and regions are aligned.

    Attributes:
        phrases: of a text, Kp.
        regions_of_phrase: k_r, those that a phrase's words may see.
        phrases_of_region: k_p, those whose words a region may see.
        connections: k_s, the weights of a word or region that stay.
        heads: of the attention.
        full: whether every word sees every region, and the reverse, with all weights.
        renormalise: whether the weights that stay sum to 1 again.
        residual: whether a word or region keeps its own vector beside what it sees.
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
        words: [n, W, d], zeros where there is none.
        words_there: whether there is one, [n, W].
        patches: [n, P, d].
        patches_there: whether there is one, [n, P].
        regions: those that a word may see, [n, W, m]; of photos with fewer than m, also such as are not there.
        weights: of a word's regions, [n, W, m].
        seen_by_words: what each word sees of the photo, [n, W, d].
        seen_by_patches: what each region sees of the text, [n, P, d].
        best: a region's largest cosine to a phrase, [n, P]; without gradient.
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
        """Those of some of the items, by their places [c]."""
        return Aligned(*(rows(getattr(self, field.name), items) for field in fields(self)))

    @property
    def dense_weights(self) -> Tensor:
        """The weight of each word and region, 0 where a word may not see it, [n, W, P]; without gradient."""
        empty = torch.zeros(*self.regions.shape[:2], self.patches.shape[1], dtype=self.weights.dtype).to(self.weights)
        return empty.scatter_(2, self.regions, self.weights.detach())

    @property
    def related(self) -> Tensor:
        """Whether a word may see a region, [n, W, P]."""
        empty = torch.zeros(*self.regions.shape[:2], self.patches.shape[1], dtype=torch.bool)
        return empty.to(self.regions.device).scatter_(2, self.regions, True)


def rows(table: Tensor, index: Tensor) -> Tensor:
    """The rows of a tensor [n, ...]; see mmprep.models.recommenders.base.look_up."""
    if not table.is_floating_point():
        return table[index]
    return embedding(index, table.flatten(1)).view(len(index), *table.shape[1:])


class HierarchicalAlignment(nn.Module):
    """A phrase chooses regions by cosine, and its words see those alone; a region chooses phrases in the same way.

    Each direction has its own attention. That of words works on the regions that are chosen, gathered once a phrase;
    that of regions on products with all of the few words, of which those that are not chosen are masked: to gather 8 of
    32 for each of 196 regions would move more numbers than it spares multiplications.
    """

    def __init__(self, size: int, settings: AlignmentSettings) -> None:
        """Make the attentions.

        Args:
            size: d, of words and patches.
            settings: how they are aligned.
        """
        super().__init__()
        self.settings = settings
        self.of_words, self.of_patches = (CrossAttention(size, settings.heads) for _ in range(2))

    def forward(self, words: Tensor, words_there: Tensor, patches: Tensor, patches_there: Tensor) -> Aligned:
        """Align the words and patches of n items; each has at least one of both.

        Args:
            words: [n, L, d].
            words_there: whether there is one, [n, L].
            patches: [n, P, d].
            patches_there: whether there is one, [n, P].
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
        """The regions that words may see [n, W, m], what they see [n, W, d], and with which weights [n, W, m]."""
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
        """What each region sees of the words, [n, P, d]."""
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
