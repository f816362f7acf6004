"""Phrases of a text, and their coarse alignment with photo regions (docs/papers/mdr_chca.md#phrases)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize


@dataclass(frozen=True)
class Phrases:
    """Tokens of n items by phrase: K phrases of at most S tokens each.

    Attributes:
        tokens: [n, K, S, d], zeros for padding.
        there: mask of tokens, [n, K, S], False for padding.
    """

    tokens: Tensor
    there: Tensor

    @property
    def means(self) -> Tensor:
        """The mean token of each phrase, [n, K, d]; zeros for phrases without tokens."""
        counts = self.there.sum(dim=2, keepdim=True).clamp_min(1)
        return self.tokens.sum(dim=2) / counts

    def as_one(self) -> "Phrases":
        """All of an item's tokens as a single phrase, K = 1."""
        return Phrases(self.tokens.flatten(1, 2)[:, None], self.there.flatten(1, 2)[:, None])


def into_phrases(tokens: Tensor, there: Tensor, most: int) -> Phrases:
    """Split each text into contiguous phrases whose lengths differ by at most 1; short texts have a phrase per token.

    Args:
        tokens: [n, length, d].
        there: mask of tokens, [n, length]; an item's tokens come first.
        most: maximum number of phrases per text, Kp.
    """
    n, length, _ = tokens.shape
    lengths = there.sum(dim=1, keepdim=True)
    phrases = lengths.clamp_max(most)
    number = torch.arange(min(most, length), device=tokens.device)
    # Token w is in phrase floor(w * phrases / length), so phrase k begins at ceil(k * length / phrases).
    first, end = ((-(-(k * lengths) // phrases)).minimum(lengths) for k in (number, number + 1))
    slot = first[:, :, None] + torch.arange(int((end - first).max()), device=tokens.device)
    inside = slot < end[:, :, None]
    places = torch.where(inside, slot, 0) + torch.arange(n, device=tokens.device)[:, None, None] * length
    return Phrases(embedding(places, tokens.flatten(0, 1)) * inside[..., None], inside)


@dataclass(frozen=True)
class Coarse:
    """Coarse alignment of phrases and regions of n items; a selection, so without gradient.

    Attributes:
        regions: regions of each phrase, most similar first, [n, K, r]; in photos with fewer than r, also padding.
        phrases: whether a phrase is selected for a region, [n, P, K].
        best: largest cosine of a region with any phrase, [n, P].
    """

    regions: Tensor
    phrases: Tensor
    best: Tensor


@torch.no_grad()
def coarse_alignment(phrases: Phrases, patches: Tensor, there: Tensor, k_r: int, k_p: int) -> Coarse:
    """Select by cosine the regions of each phrase and the phrases of each region.

    Args:
        phrases: phrases of n items.
        patches: [n, P, d].
        there: mask of patches, [n, P].
        k_r: number of regions per phrase.
        k_p: number of phrases per region.
    """
    cosines = normalize(phrases.means, dim=2) @ normalize(patches, dim=2).mT
    known = phrases.there.any(dim=2)
    regions = cosines.masked_fill(~there[:, None], -torch.inf).topk(min(k_r, patches.shape[1]), dim=2).indices
    of_regions = cosines.masked_fill(~known[:, :, None], -torch.inf).mT
    chosen = of_regions.topk(min(k_p, of_regions.shape[2]), dim=2).indices
    among = torch.zeros_like(of_regions, dtype=torch.bool).scatter_(2, chosen, True) & known[:, None]
    return Coarse(regions, among, of_regions.amax(dim=2))
