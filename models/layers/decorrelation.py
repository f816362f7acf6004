"""De-redundancy: penalties on correlated dimensions of embeddings.

Source: AFDGCF, SIGIR 2024; docs/papers/mgnm.md#de-redundancy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST = 1e-12
"""Lower bound of sums of squares, so that a constant column is correlated with none.

Source: docs/papers/mgnm.md#de-redundancy.
"""


def correlation_penalty(embeddings: Tensor) -> Tensor:
    """pc(E): root of the sum of squared correlations over all pairs of columns of [n, d] embeddings."""
    centred = embeddings - embeddings.mean(dim=0)
    products = centred.T @ centred
    lengths = products.diagonal().clamp_min(SMALLEST).sqrt()
    correlations = products / torch.outer(lengths, lengths)
    penalty: Tensor = torch.linalg.vector_norm(correlations.triu(diagonal=1))
    return penalty


def layered_penalty(layers: Sequence[Tensor]) -> Tensor:
    """Weighted penalty of layers: sum_l mu_l pc(E_l), with mu_l = (1/pc_l) / sum_k (1/pc_k).

    Source: docs/papers/mgnm.md#de-redundancy.

    The weights get no gradient; a less redundant layer has a larger weight.

    Args:
        layers: embeddings [n, d] each, one or more.
    """
    penalties = torch.stack([correlation_penalty(layer) for layer in layers])
    inverse = 1 / penalties.detach().clamp_min(SMALLEST)
    return (inverse / inverse.sum() * penalties).sum()


def sided_penalty(layers: Sequence[Tensor], n_users: int) -> Tensor:
    """Sum of the layered penalties of users and of items.

    Args:
        layers: embeddings [n, d] each, users before items.
        n_users: number of rows that are users.
    """
    sides = ([layer[:n_users] for layer in layers], [layer[n_users:] for layer in layers])
    return torch.stack([layered_penalty(side) for side in sides]).sum()
