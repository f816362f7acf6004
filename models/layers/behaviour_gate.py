"""Adaptive-decision gate: behaviour determines the share of an item's features that passes."""

from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear


class BehaviourGate(nn.Module):
    """Gates features by behaviour, the reverse of `purifier`, or by other inputs.

    Source: AM2HRec, eq 10-12; docs/papers/am2hrec.md#gate.
    """

    def __init__(self, size: int, hidden: int, outputs: int) -> None:
        """Create the gate.

        Args:
            size: length of the inputs: of the behaviour embeddings, d, or of raw features.
            hidden: hidden size, d_n.
            outputs: 1 for one gate value per item, or the length of the features for one per feature.
        """
        super().__init__()
        self.hidden = xavier_linear(size, hidden)
        self.gate = xavier_linear(hidden, outputs)

    def openness(self, opening: Tensor) -> Tensor:
        """Gate values in (0, 1) from inputs [n, size], [n, outputs]."""
        opened: Tensor = self.gate(self.hidden(opening).relu()).sigmoid()
        return opened

    def forward(self, features: Tensor, opening: Tensor) -> Tensor:
        """The gated features, [n, d].

        Args:
            features: [n, d].
            opening: inputs of the gate, [n, size], or [1, size] for one gate shared by all.
        """
        return features * self.openness(opening)
