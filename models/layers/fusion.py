"""Fusion of modalities by shared and exclusive parts, or by a learned mixture."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear

Scale = Literal["paper", "ancestor"]


class SharedExclusiveFusion(nn.Module):
    """Splits nodes' views, one per modality, into a shared part and exclusive parts gated by behaviour.

    Yu et al., MGCN, MM 2023, and AM2HRec, eq 5-8 (docs/papers/am2hrec.md#fusion). The recommender weights the parts.
    """

    def __init__(self, modalities: Sequence[str], size: int) -> None:
        """Create the attention, common to all modalities, and a preference gate for each.

        Args:
            modalities: their names, in the order of the views.
            size: embedding size, d.
        """
        super().__init__()
        self.query = xavier_linear(size, size)
        self.attention = xavier_linear(size, 1, bias=False)
        self.preferences = nn.ModuleDict({modality: xavier_linear(size, size) for modality in modalities})

    def shares(self, views: Sequence[Tensor]) -> Tensor:
        """Weights of the views [n, d] in a node's shared part, [n, modalities]; each row sums to 1."""
        logits = [self.attention(self.query(view).tanh()) for view in views]
        return torch.cat(logits, dim=1).softmax(dim=1)

    def forward(self, views: Sequence[Tensor], behaviour: Tensor) -> tuple[Tensor, Tensor]:
        """The shared part of nodes and the sum of their exclusive parts, [n, d] each.

        A node's output depends only on its own rows, so that any subset of nodes can be fused.

        Args:
            views: [n, d] for each modality.
            behaviour: [n, d] the nodes' collaborative embeddings, which gate the exclusive parts.
        """
        shares = torch.split(self.shares(views), 1, dim=1)
        shared = torch.stack([share * view for share, view in zip(shares, views, strict=True)]).sum(dim=0)
        exclusive = [
            prefers(behaviour).sigmoid() * (view - shared)
            for prefers, view in zip(self.preferences.values(), views, strict=True)
        ]
        return shared, torch.stack(exclusive).sum(dim=0)


def combined(shared: Tensor, exclusive: Tensor, modalities: int, scale: Scale) -> Tensor:
    """Combine shared and exclusive parts of nodes, [n, d] (AM2HRec, eq 20; docs/papers/am2hrec.md#fusion).

    Args:
        shared: shared part, [n, d].
        exclusive: sum of the exclusive parts, [n, d].
        modalities: number of modalities.
        scale: `paper` adds the mean of the exclusive parts to the shared part; `ancestor` averages all parts, as in
            MGCN's own code.
    """
    if scale == "paper":
        return shared + exclusive / modalities
    return (shared + exclusive) / (1 + modalities)


class Mixture(nn.Module):
    """w a + (1 - w) b, with a learned w between 0 and 1 (docs/papers/mdr_chca.md#modality-fusion)."""

    def __init__(self, size: int, weights: Literal["scalar", "vector", "gate"]) -> None:
        """Create the weights.

        Args:
            size: length of the mixed vectors, d.
            weights: w is one number (`scalar`) or one per dimension (`vector`), starting at 0.5, or one per item,
                computed from a and b (`gate`).
        """
        super().__init__()
        self.gate = xavier_linear(2 * size, 1) if weights == "gate" else None
        self.logit = nn.Parameter(torch.zeros(size if weights == "vector" else ())) if self.gate is None else None

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The mixture [n, d] of two views [n, d] of nodes."""
        logits: Tensor = self.get_parameter("logit") if self.gate is None else self.gate(torch.cat([first, second], 1))
        share = logits.sigmoid()
        return share * first + (1 - share) * second
