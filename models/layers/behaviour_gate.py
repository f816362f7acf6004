"""Adaptive-decision gate: behaviour determines the share of an item's features that passes."""

from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear


class BehaviourGate(nn.Module):
    """Gates features by behaviour, the reverse of `purifier` (AM2HRec, eq 10-12; docs/papers/am2hrec.md#gate)."""

    def __init__(self, size: int, hidden: int, outputs: int) -> None:
        """Create the gate.

        Args:
            size: length of the behaviour embeddings, d.
            hidden: hidden size, d_n.
            outputs: 1 for one gate value per item, or the length of the features for one per feature.
        """
        super().__init__()
        self.hidden = xavier_linear(size, hidden)
        self.gate = xavier_linear(hidden, outputs)

    def openness(self, behaviour: Tensor) -> Tensor:
        """Gate values in (0, 1) from behaviour [n, d], [n, outputs]."""
        opened: Tensor = self.gate(self.hidden(behaviour).relu()).sigmoid()
        return opened

    def forward(self, features: Tensor, behaviour: Tensor) -> Tensor:
        """The gated features, [n, size].

        Args:
            features: [n, size].
            behaviour: [n, d], or [1, d] for one gate shared by all.
        """
        return features * self.openness(behaviour)
