"""The adaptive-decision gate: behaviour says how much of an item's features goes on."""

from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear


class BehaviourGate(nn.Module):
    """Gates features by behaviour, the reverse of `purifier` (AM2HRec, eq 10-12; docs/papers/am2hrec.md#gate)."""

    def __init__(self, size: int, hidden: int, outputs: int) -> None:
        """Make the gate.

        Args:
            size: the length of the behaviour embeddings, d.
            hidden: the length of what they are mapped to first, d_n.
            outputs: 1 for one number an item, or the length of the features for one a feature.
        """
        super().__init__()
        self.hidden = xavier_linear(size, hidden)
        self.gate = xavier_linear(hidden, outputs)

    def openness(self, behaviour: Tensor) -> Tensor:
        """How much goes on of what belongs to behaviour [n, d], in (0, 1), [n, outputs]."""
        opened: Tensor = self.gate(self.hidden(behaviour).relu()).sigmoid()
        return opened

    def forward(self, features: Tensor, behaviour: Tensor) -> Tensor:
        """The gated features, [n, size].

        Args:
            features: [n, size].
            behaviour: [n, d], or [1, d] for one gate that all share.
        """
        return features * self.openness(behaviour)
