"""Graph `intra_item`: nearest neighbours among an item's own patches or tokens, frozen (MDR-CHCA, specs 5.3)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.pseudo_tokens import PseudoTokens, token_vectors
from mmprep.pipeline.features.reader import part_paths, require_made_for
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import Items, Rows, Vectors
from mmprep.pipeline.graphs.intra_item_statistics import Tally
from mmprep.pipeline.graphs.params import IntraItemParams
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.progress import Progress, silent
from mmprep.pipeline.tables.provenance import record
from mmprep.pipeline.tables.table import INTRA_EDGES, ITEMS

BLOCK_ITEMS = 64  # read at once
BLOCK_NUMBERS = 2**23  # doubles worked on at once: vectors and products
LONGEST = 2**15  # vectors of an item whose places 16 bits hold
GRID = 2.0**26  # steps in a length of 1


def build(layout: Layout, encoder: str, params: IntraItemParams, progress: Progress = silent) -> dict[str, Any]:
    """Join each patch or token to the k most similar ones of its item, and write table INTRA_EDGES.

    Edges are directed and without self. Items whose encoder gave them nothing have none.

    Args:
        layout: of the dataset.
        encoder: whose patches or tokens.
        params: section `graphs.intra_item`.
        progress: shown an item.

    Returns:
        The metrics.

    Raises:
        MissingInputError: there are no features.
        DataError: they are one vector an item, of other items, damaged or not finite; nothing is written.
    """
    folder, name = layout.features(encoder), f"intra_item/{encoder}"
    features = token_vectors(folder, pseudo_tokens=params.pseudo_tokens)
    require_made_for(layout, folder, features.provenance)
    if len(features.items) == 0:
        raise DataError(f"{folder}: no item has patches or tokens, so there is nothing to join")
    # Not the other encoders of the section: whether they have such a graph changes nothing in this one.
    section = params.model_copy(update={"encoders": (encoder,)})
    provenance = record("graph", layout, section, [*part_paths(folder), layout.items], graph=name)
    tally = Tally()
    with (
        INTRA_EDGES.writer(layout.graph(name), provenance) as write,
        progress("neighbours within items", len(features.items), "items") as advance,
    ):
        for items, rows in blocks(features, folder):
            edges = edges_within(items, rows, params.k)
            tally.add(items, rows, edges)
            write(edges)
            advance(len(items), "")
    return tally.metrics(ITEMS.count(layout.items))


def blocks(features: TokenFeatures | PseudoTokens, folder: Path) -> Iterator[tuple[Items, Rows]]:
    """The items with their vectors, BLOCK_ITEMS at a time; raises DataError if they cannot be joined."""
    for start in range(0, len(features.items), BLOCK_ITEMS):
        items = features.items[start : start + BLOCK_ITEMS]
        rows = features.gather(items)
        lengths = np.diff(rows.ends())
        if lengths.max() > LONGEST:
            item = items[lengths.argmax()]
            raise DataError(f"{folder}: found {lengths.max()} vectors of item {item}, expected at most {LONGEST}")
        bad = np.flatnonzero(~np.isfinite(rows.vectors).all(axis=1))
        if len(bad):
            item = items[np.searchsorted(rows.ends(), bad[0], side="right") - 1]
            raise DataError(
                f"{folder}: found NaN or infinite numbers for item {item}, expected finite ones; "
                f"run `mmprep extract --encoder {folder.name}` again"
            )
        yield items, rows


def edges_within(items: Items, rows: Rows, k: int) -> pl.DataFrame:
    """The edges of some items as table INTRA_EDGES, the most similar first, equally similar ones by place.

    A vector of zeros is similar to nothing; who has fewer than k others is joined to all.

    Args:
        items: dense indices [n], increasing.
        rows: their vectors.
        k: neighbours a vector.
    """
    lengths, first = np.diff(rows.ends()), rows.ends()[:-1]
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
