"""Graph `intra_item`: nearest neighbours among an item's own patches or tokens, frozen.

Source: docs/papers/mdr_chca.md#intra-item-graphs.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from mmprep.pipeline.features.vectors import Items, VectorBatch, Vectors
from mmprep.pipeline.tables.schemas import INTRA_EDGES

BLOCK_NUMBERS = 2**23  # doubles processed at once: vectors and products
LONGEST = 2**15  # most vectors per item, as positions are stored in 16 bits
GRID = 2.0**26  # grid steps per unit length


def edges_within(items: Items, rows: VectorBatch, k: int) -> pl.DataFrame:
    """The edges of items as table INTRA_EDGES, the most similar first, ties by position.

    A vector of zeros is similar to nothing; a vector with fewer than k others is connected to all of them.

    Args:
        items: dense indices [n], increasing.
        rows: their vectors.
        k: neighbours per vector.
    """
    lengths, first = np.diff(rows.offsets()), rows.offsets()[:-1]
    frames = [pl.DataFrame(INTRA_EDGES.schema.empty_table())]
    # Items with the same number of vectors are multiplied in one batch, without padding.
    for length in np.unique(lengths[lengths > 1]).tolist():
        alike = np.flatnonzero(lengths == length)
        step = max(1, BLOCK_NUMBERS // (length * (length + rows.dimension)))
        for start in range(0, len(alike), step):
            block = alike[start : start + step]
            vectors = rows.vectors[first[block, None] + np.arange(length)]
            similarity, target = (array.numpy() for array in nearest_within(vectors, min(k, length - 1)))
            item, source, rank = np.nonzero(np.isfinite(similarity))
            frames.append(
                pl.DataFrame(
                    {
                        "item": items[block[item]],
                        "source": source.astype(np.int16),
                        "target": target[item, source, rank].astype(np.int16),
                        "weight": similarity[item, source, rank],
                    }
                )
            )
    return pl.concat(frames).sort("item", maintain_order=True)


def nearest_within(vectors: Vectors, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k vectors of the same item most similar to each by cosine; ties are broken by position.

    Args:
        vectors: of items with the same number of vectors, [n, length, dimension].
        k: less than the length.

    Returns:
        Similarities [n, length, k] f32, -inf where there is no neighbour, and positions [n, length, k].
    """
    steps = torch.from_numpy(on_grid(vectors))
    # The scale is a power of two, so exact; adding zero turns -0 into 0.
    similarity = torch.bmm(steps, steps.mT).mul_(GRID**-2).float().add_(0.0)
    nothing = similarity.diagonal(dim1=1, dim2=2) == 0
    similarity.masked_fill_(nothing[:, :, None] | nothing[:, None, :], -torch.inf)
    similarity.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    # Keys are made unique, since topk's choice among equal values depends on the backend: the float's bits, mapped to
    # the order of its value, followed by the position.
    bits = similarity.view(torch.int32)
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long().mul_(LONGEST)
    keys -= torch.arange(vectors.shape[1])
    target = torch.topk(keys, k, dim=2).indices
    return torch.gather(similarity, 2, target), target


def on_grid(vectors: Vectors) -> npt.NDArray[np.float64]:
    """The vectors scaled to length GRID and rounded to integers; zeros stay zeros.

    By Cauchy-Schwarz no sum of products of two such vectors exceeds 2^53, up to which doubles represent every integer.
    So their cosines are computed without rounding and do not depend on the order of summation: not on batching, the
    number of threads or the library. The grid changes cosines by about 1e-8, less than the resolution of f32 near 1.
    """
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("...d,...d->...", wide, wide))
    scale = np.divide(GRID, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    wide *= scale[..., None]
    return np.rint(wide, out=wide)
