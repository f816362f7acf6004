"""Losses and regularisers of recommenders."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

Similarity = Literal["cosine", "inner"]


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: mean of -log sigmoid(positive - negative).

    Source: Rendle et al. 2009; docs/papers/conventions.md#bpr-loss.

    Args:
        positive: scores [batch] of positive items.
        negative: scores [batch] of negative items.
    """
    return softplus(negative - positive).mean()


def embedding_norm(*embeddings: Tensor) -> Tensor:
    """Sum of the Frobenius norms of [batch, d] embeddings, divided by the batch size.

    Source: `emb_norm` of docs/papers/conventions.md#regularisers.
    """
    return torch.stack([torch.linalg.vector_norm(embedding) for embedding in embeddings]).sum() / len(embeddings[0])


def l2_batch(*embeddings: Tensor) -> Tensor:
    """Half the sum of the squared [batch, d] embeddings, divided by the batch size.

    Source: `l2_batch` of docs/papers/conventions.md#regularisers.
    """
    return torch.stack([embedding.square().sum() for embedding in embeddings]).sum() / (2 * len(embeddings[0]))


def weight_decay(parameters: Iterable[Tensor]) -> Tensor:
    """Half the sum of squares of parameters, whose gradient equals an optimiser's weight decay.

    Source: docs/papers/conventions.md#regularisers.
    """
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum() / 2


def parameter_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Euclidean norm of all parameters as one vector.

    Source: `norm` of docs/papers/conventions.md#regularisers.
    """
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum().sqrt()


def infonce(anchors: Tensor, positives: Tensor, temperature: float, similarity: Similarity = "cosine") -> Tensor:
    """InfoNCE of two views: each anchor against all positives, with its own row as the target.

    Source: docs/papers/conventions.md#infonce.

    Args:
        anchors: [n, d], one row per distinct user or item, since a repeated row would count as a negative.
        positives: [n, d], the other view of the same rows.
        temperature: tau.
        similarity: of two rows: their cosine, or their inner product.
    """
    if similarity == "cosine":
        anchors, positives = normalize(anchors, dim=1), normalize(positives, dim=1)
    logits = anchors @ positives.T / temperature
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device))
