"""Losses and regularisers that recommenders compose."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: mean of -log sigmoid(positive - negative).

    Source: Rendle et al. 2009; docs/papers/conventions.md#bpr-loss.

    Args:
        positive: scores [batch] of items that users have.
        negative: scores [batch] of items that they have not.
    """
    return softplus(negative - positive).mean()


def embedding_norm(*embeddings: Tensor) -> Tensor:
    """The sum of the Frobenius norms of [batch, d] embeddings over the batch size.

    Source: `emb_norm` of docs/papers/conventions.md#regularisers.
    """
    return torch.stack([torch.linalg.vector_norm(embedding) for embedding in embeddings]).sum() / len(embeddings[0])


def l2_batch(*embeddings: Tensor) -> Tensor:
    """Half the sum of the squared [batch, d] embeddings over the batch size.

    Source: `l2_batch` of docs/papers/conventions.md#regularisers.
    """
    return torch.stack([embedding.square().sum() for embedding in embeddings]).sum() / (2 * len(embeddings[0]))


def weight_decay(parameters: Iterable[Tensor]) -> Tensor:
    """Half the sum of squares of parameters, whose gradient is what an optimiser's weight decay adds.

    Source: docs/papers/conventions.md#regularisers.
    """
    return torch.stack([parameter.square().sum() for parameter in parameters]).sum() / 2


def infonce(anchors: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Contrast of two views by cosine: each anchor against all positives, its own row the right one.

    Source: docs/papers/conventions.md#infonce.

    Args:
        anchors: [n, d], one row a user or item, each once: a second row of the same would count as a negative.
        positives: [n, d], the other view of the same rows.
        temperature: tau.
    """
    logits = normalize(anchors, dim=1) @ normalize(positives, dim=1).T / temperature
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device))
