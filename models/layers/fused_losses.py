"""Losses of recommenders that add fused modalities to behaviour: MGCN and its descendants."""

import torch
from torch import Tensor
from torch.nn.functional import embedding

from mmprep.models.layers.batch import BatchNodes
from mmprep.models.layers.losses import Similarity, bpr, infonce, l2_batch


def fused_losses(
    batch: BatchNodes,
    behaviour: Tensor,
    fused: Tensor,
    *,
    contrast: float,
    temperature: float,
    similarity: Similarity,
    unique_ids: bool,
    norm: float,
) -> dict[str, Tensor]:
    """The ranking loss, the contrast of fused and behaviour embeddings, and the squared final embeddings.

    Yu et al., MGCN, MM 2023; the same in CAmgr (eq 27-31; docs/papers/camgr.md#losses).

    Args:
        batch: its distinct nodes.
        behaviour: [nodes, d], users before items.
        fused: [nodes, d], added to `behaviour`.
        contrast: weight of the contrast.
        temperature: tau of the contrast.
        similarity: of two nodes in the contrast.
        unique_ids: whether each user and item occurs only once in the contrast.
        norm: weight of the squares.
    """
    final = behaviour + fused
    user, positive, negative = (
        embedding(rows, final) for rows in (batch.user_rows, batch.positive_rows, batch.negative_rows)
    )
    contrasts = [
        infonce(embedding(rows, fused), embedding(rows, behaviour), temperature, similarity)
        for rows in batch.contrasted(once=unique_ids)
    ]
    return {
        "bpr": bpr((user * positive).sum(dim=1), (user * negative).sum(dim=1)),
        "contrast": contrast * torch.stack(contrasts).sum(),
        "norm": norm * l2_batch(user, positive, negative),
    }
