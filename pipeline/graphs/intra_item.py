"""Graph `intra_item`: nearest neighbours among an item's own patches or tokens, frozen.

Source: docs/papers/mdr_chca.md#intra-item-graphs.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from mmprep.pipeline.features.vectors import Items, VectorBatch, Vectors
from mmprep.pipeline.tables.schemas import INTRA_EDGES

BLOCK_NUMBERS = 2**23  # doubles worked on at once: vectors and products
LONGEST = 2**15  # vectors of an item whose places 16 bits hold
GRID = 2.0**26  # steps in a length of 1


def edges_within(items: Items, rows: VectorBatch, k: int) -> pl.DataFrame:
    """The edges of some items as table INTRA_EDGES, the most similar first, equally similar ones by place.

    A vector of zeros is similar to nothing; who has fewer than k others is joined to all.

    Args:
        items: dense indices [n], increasing.
        rows: their vectors.
        k: neighbours a vector.
    """
    lengths, first = np.diff(rows.offsets()), rows.offsets()[:-1]
    found = [pl.DataFrame(INTRA_EDGES.schema.empty_table())]
    # Items with equally many vectors are multiplied together, so that none is padded.
    for length in np.unique(lengths[lengths > 1]).tolist():
        alike = np.flatnonzero(lengths == length)
        step = max(1, BLOCK_NUMBERS // (length * (length + rows.dimension)))
        for start in range(0, len(alike), step):
            some = alike[start : start + step]
            vectors = rows.vectors[first[some, None] + np.arange(length)]
            similarity, target = (array.numpy() for array in nearest_within(vectors, min(k, length - 1)))
            item, source, rank = np.nonzero(np.isfinite(similarity))
            found.append(
                pl.DataFrame(
                    {
                        "item": items[some[item]],
                        "source": source.astype(np.int16),
                        "target": target[item, source, rank].astype(np.int16),
                        "weight": similarity[item, source, rank],
                    }
                )
            )
    return pl.concat(found).sort("item", maintain_order=True)


def nearest_within(vectors: Vectors, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k vectors most similar to each of the same item by cosine; of equally similar ones those that come first.

    Args:
        vectors: of items with equally many, [n, length, dimension].
        k: less than the length.

    Returns:
        Similarities [n, length, k] f32, -inf where there is no neighbour, and places [n, length, k].
    """
    steps = torch.from_numpy(on_grid(vectors))
    # The scale is a power of two; adding zero makes -0 one with 0.
    similarity = torch.bmm(steps, steps.mT).mul_(GRID**-2).float().add_(0.0)
    nothing = similarity.diagonal(dim1=1, dim2=2) == 0
    similarity.masked_fill_(nothing[:, :, None] | nothing[:, None, :], -torch.inf)
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    # Keys that are never equal, since topk leaves it to the backend which of equal values it takes: the bits of a
    # float, in the order of its value, before the place.
    bits = similarity.view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long().mul_(LONGEST)
    keys -= torch.arange(vectors.shape[1])
    target = torch.topk(keys, k, dim=2).indices
    return torch.gather(similarity, 2, target), target


def on_grid(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The vectors at length GRID, their numbers rounded to whole ones; zeros stay zeros.

    By Cauchy and Schwarz no sum of products of two such vectors exceeds 2^53, below which doubles hold every whole
    number. So their cosines come out without rounding, the same for every order of summation: whatever else is
    computed at once, on however many threads and by whichever library. Of unrounded vectors they would differ by about
    1e-8, less than f32 can tell near 1.
    """
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("...d,...d->...", wide, wide))
    scale = np.divide(GRID, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    wide *= scale[..., None]
    return np.rint(wide, out=wide)
