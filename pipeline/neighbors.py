"""Exact nearest neighbours by cosine similarity, in blocks of rows."""

import numpy as np
import torch
from torch.nn.functional import normalize

from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.graphs import Edges
from pipeline.progress import Progress, silent
from pipeline.topk import top_k

BLOCK_ROWS = 1024


def knn_edges(features: Features, k: int, *, include_self: bool, progress: Progress = silent) -> Edges:
    """Join each item that has a vector to its k most similar ones (LATTICE; specs O2).

    Rows are cosine similarities; the full matrix is never held. An item without a vector, or whose vector is zero, has
    no edges. Of equal similarities the item of smaller index comes first.

    Args:
        features: of the items.
        k: neighbours an item, counting itself if `include_self`.
        include_self: whether an item may be its own neighbour, as LATTICE and its followers have it.
        progress: shown a row.

    Raises:
        DataError: k is larger than the number of items that could be neighbours.
    """
    largest = np.abs(features.vectors).max(axis=1, initial=0)
    nonzero = np.flatnonzero(largest > 0)
    available = len(nonzero) - (0 if include_self else 1)
    if k > available:
        raise DataError(
            f"k = {k} neighbours asked for, but only {max(available, 0)} items could be; lower graphs.knn.k"
        )
    # Squares of very large or small numbers do not fit f32; a power of two brings each row near 1 without rounding.
    exponent = np.frexp(largest[nonzero])[1][:, None]
    rows = normalize(torch.from_numpy(np.ldexp(features.vectors[nonzero], -exponent)), dim=1)
    blocks = []
    with progress("nearest neighbours", len(rows), "items") as advance:
        for start in range(0, len(rows), BLOCK_ROWS):
            similarity = rows[start : start + BLOCK_ROWS] @ rows.T
            if not include_self:
                index = torch.arange(len(similarity))
                similarity[index, start + index] = -torch.inf
            blocks.append(top_k(similarity, k))
            advance(len(similarity), "")
    items = features.items[nonzero]
    weight = torch.cat([values for values, _ in blocks]).numpy().reshape(-1)
    target = torch.cat([index for _, index in blocks]).numpy().reshape(-1)
    return Edges(np.repeat(items, k), items[target], weight)
