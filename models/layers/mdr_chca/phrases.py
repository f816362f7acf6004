"""Phrases of a text, and which regions of the photo each is about (docs/papers/mdr_chca.md#phrases)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize


@dataclass(frozen=True)
class Phrases:
    """Tokens by phrase: of n items, K phrases of at most S tokens each.

    Attributes:
        tokens: [n, K, S, d], zeros where there is none.
        there: whether there is one, [n, K, S].
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
    """Cut each text into contiguous phrases whose lengths differ by one at most; short texts get a phrase a token.

    Args:
        tokens: [n, length, d].
        there: whether there is one, [n, length]; an item's tokens come first.
        most: phrases of a text, Kp.
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
    """What phrases and regions, of n items, have to do with each other. Chosen, so without gradient.

    Attributes:
        regions: the regions of each phrase, the most similar first, [n, K, r]; of photos with fewer, also others.
        phrases: whether a phrase is among those of a region, [n, P, K].
        best: the largest cosine of a region to any phrase, [n, P].
    """

    regions: Tensor
    phrases: Tensor
    best: Tensor


@torch.no_grad()
def coarse_alignment(phrases: Phrases, patches: Tensor, there: Tensor, k_r: int, k_p: int) -> Coarse:
    """Choose by cosine the regions of each phrase and the phrases of each region.

    Args:
        phrases: of n items.
        patches: [n, P, d].
        there: whether there is one, [n, P].
        k_r: regions a phrase.
        k_p: phrases a region.
    """
    cosines = normalize(phrases.means, dim=2) @ normalize(patches, dim=2).mT
    known = phrases.there.any(dim=2)
    regions = cosines.masked_fill(~there[:, None], -torch.inf).topk(min(k_r, patches.shape[1]), dim=2).indices
    of_regions = cosines.masked_fill(~known[:, :, None], -torch.inf).mT
    chosen = of_regions.topk(min(k_p, of_regions.shape[2]), dim=2).indices
    among = torch.zeros_like(of_regions, dtype=torch.bool).scatter_(2, chosen, True) & known[:, None]
    return Coarse(regions, among, of_regions.amax(dim=2))
