"""Behaviour-guided purifier: a modality's features gate an item's behaviour embedding."""

from torch import Tensor, nn

from mmprep.models.layers.linear import xavier_linear


class Purifier(nn.Module):
    """Gates behaviour by features, so that parts of the features irrelevant to behaviour are left out.

    Yu et al., MGCN, MM 2023 (docs/papers/baselines.md#mgcn); also in CAmgr, eq 5-6 (docs/papers/camgr.md#purification),
    and MGNM, eq 9-10 (docs/papers/mgnm.md#purifier).
    """

    def __init__(self, features: int, size: int) -> None:
        """Create the gate.

        Args:
            features: dimension of the (projected) features.
            size: length of the behaviour embeddings, d.
        """
        super().__init__()
        self.gate = xavier_linear(features, size)

    def forward(self, behaviour: Tensor, features: Tensor) -> Tensor:
        """Behaviour [n, d] times sigmoid(W features [n, dimension] + b), elementwise, [n, d]."""
        return purified(behaviour, self.gate(features))


def purified(behaviour: Tensor, logits: Tensor) -> Tensor:
    """Behaviour [n, d] times the gate sigmoid(logits [n, d]), elementwise, [n, d]."""
    return behaviour * logits.sigmoid()
