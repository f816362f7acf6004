"""De-redundancy: penalties on columns of embeddings that say the same.

Source: AFDGCF, SIGIR 2024; docs/papers/mgnm.md#de-redundancy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

SMALLEST = 1e-12
"""Sums of squares below this count as this: a column that never varies is correlated with none.

Source: docs/papers/mgnm.md#de-redundancy.
"""


def correlation_penalty(embeddings: Tensor) -> Tensor:
    """pc(E): the root of the sum of the squared correlations of each two columns of [n, d] embeddings."""
    centred = embeddings - embeddings.mean(dim=0)
    products = centred.T @ centred
    lengths = products.diagonal().clamp_min(SMALLEST).sqrt()
    correlations = products / torch.outer(lengths, lengths)
    penalty: Tensor = torch.linalg.vector_norm(correlations.triu(diagonal=1))
    return penalty


def layered_penalty(layers: Sequence[Tensor]) -> Tensor:
    """The layers' penalties sum_l mu_l pc(E_l), where mu_l is 1/pc_l over the sum of these.

    Source: docs/papers/mgnm.md#de-redundancy.

    The weights get no gradient: a layer that is less redundant than others counts for more.

    Args:
        layers: embeddings [n, d] each, one or more.
    """
    penalties = torch.stack([correlation_penalty(layer) for layer in layers])
    inverse = 1 / penalties.detach().clamp_min(SMALLEST)
    return (inverse / inverse.sum() * penalties).sum()


def sided_penalty(layers: Sequence[Tensor], n_users: int) -> Tensor:
    """The layered penalty of users plus that of items.

    Args:
        layers: embeddings [n, d] each, users before items.
        n_users: how many of the rows are users.
    """
    sides = ([layer[:n_users] for layer in layers], [layer[n_users:] for layer in layers])
    return torch.stack([layered_penalty(side) for side in sides]).sum()
