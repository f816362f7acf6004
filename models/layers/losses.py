"""Losses and regularisers that recommenders compose."""

import torch
from torch import Tensor
from torch.nn.functional import softplus


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: mean of -log sigmoid(positive - negative) (Rendle et al. 2009; specs O4).

    Args:
        positive: scores [batch] of items that users have.
        negative: scores [batch] of items that they have not.
    """
    return softplus(negative - positive).mean()


def embedding_norm(*embeddings: Tensor) -> Tensor:
    """The sum of the Frobenius norms of [batch, d] embeddings over the batch size (`emb_norm`, specs O5)."""
    return torch.stack([torch.linalg.vector_norm(embedding) for embedding in embeddings]).sum() / len(embeddings[0])
