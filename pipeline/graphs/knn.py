"""Exact nearest neighbours by cosine similarity, in blocks of rows.

The full matrix is never held in memory, and the result depends only on the vectors: matrix products only find
candidates, whose similarities are recomputed pair by pair (mmprep.pipeline.graphs.cosine) before they are ranked. So
the result is bitwise independent of block size, number of threads, BLAS library and order of the rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.graphs.cosine import Cosines, Floats, Index
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.progress import Progress, silent

BLOCK_NUMBERS = 2**25  # similarities computed at once
BLOCK_ROWS = 1024  # more rows do not make products faster
GROUPS = 1024  # groups of columns, whose maxima are compared first
LEAST = np.nextafter(np.float32(0), np.float32(1))  # smallest positive similarity

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of items.

    Attributes:
        edges: from each item to its neighbours, the most similar first.
        cut: number of items with more candidates than were kept.
        tied: number of those whose first candidate left out is as similar as the last one kept.
    """

    edges: Edges
    cut: int
    tied: int


def nearest(cosines: Cosines, k: int, *, include_self: bool, progress: Progress = silent) -> Neighbours:
    """The k items most similar to each; ties are broken by the smaller index.

    Source: LATTICE; docs/papers/conventions.md#nearest-neighbours.

    A vector of zeros has no neighbours and is no neighbour of others.

    Args:
        cosines: cosine similarities of the items.
        k: neighbours per item, counting itself if `include_self`.
        include_self: whether an item may be its own neighbour.
        progress: reports items.

    Raises:
        DataError: k is larger than the number of items that could be neighbours.
    """
    require_enough(cosines, k, include_self=include_self)
    present = np.flatnonzero(cosines.inverse)
    subset = cosines if len(present) == len(cosines) else cosines.take(present)
    classes = subset.duplicates()
    blocks = []
    with progress("nearest neighbours", len(subset), "items") as advance:
        for block in row_blocks(len(subset)):
            similarity = subset.unit[block] @ subset.unit.T
            if not include_self:
                similarity[np.arange(len(similarity)), np.arange(block.start, block.stop)] = -np.inf
            rows, columns = candidates(similarity, similarity, k + 1, 2 * subset.error)
            rows, columns = drop_excess_duplicates(rows, columns, classes, k + 1)
            rows += block.start
            blocks.append(top_edges(rows, columns, subset.exact(rows, columns), k))
            advance(len(similarity), "")
    joined = join(blocks)
    return replace(joined, edges=joined.edges.renumbered(present))


def require_enough(cosines: Cosines, k: int, *, include_self: bool) -> None:
    """Check that every item has k possible neighbours; raises DataError."""
    available = max(0, int(np.count_nonzero(cosines.inverse)) - (0 if include_self else 1))
    if k > available:
        raise DataError(f"k = {k} neighbours asked for, but only {available} items could be; lower graphs.knn.k")


def consistent(views: Sequence[Cosines], k: int, progress: Progress = silent) -> list[Neighbours]:
    """For each modality, the k most similar items among the pairs on which all modalities agree.

    Source: docs/papers/da_mrs.md#content-graphs.

    A modality agrees on a pair if its similarity is above 0 and not below the mean of all pairs, which is never
    negative. An item with a vector in every modality agrees with itself; an item that lacks one agrees with none. If
    fewer than k items agree, all of them are neighbours.

    Args:
        views: each modality's vectors of the same n items.
        k: neighbours per item, including itself.
        progress: reports items.
    """
    floors = [max(np.float32(view.mean), LEAST) for view in views]
    present = np.flatnonzero(np.all([view.inverse > 0 for view in views], axis=0))
    if len(present) < len(views[0]):
        views = [view.take(present) for view in views]
    classes = [view.duplicates() for view in views]
    blocks: list[list[Neighbours]] = [[] for _ in views]
    with progress("consistent neighbours", len(present), "items") as advance:
        for block in row_blocks(len(present)):
            similarities = [view.unit[block] @ view.unit.T for view in views]
            sure, possible = agreeing(views, similarities, floors)
            for own, (view, similarity) in enumerate(zip(views, similarities, strict=True)):
                surely, perhaps = (np.where(mask, similarity, -np.inf) for mask in (sure, possible))
                rows, columns = candidates(surely, perhaps, k + 1, 2 * view.error)
                rows, columns = drop_excess_duplicates(rows, columns, classes[own], k + 1, sure)
                rows += block.start
                exact = np.stack([each.exact(rows, columns) for each in views])
                agreed = (exact >= np.array(floors)[:, None]).all(axis=0)
                blocks[own].append(top_edges(rows[agreed], columns[agreed], exact[own, agreed], k))
            advance(block.stop - block.start, "")
    joined = [join(each) for each in blocks]
    return [replace(each, edges=each.edges.renumbered(present)) for each in joined]


def agreeing(
    views: Sequence[Cosines], similarities: Sequence[Floats], floors: Sequence[np.float32]
) -> tuple[Mask, Mask]:
    """Masks of the pairs that certainly, and that possibly, reach every modality's floor, as products are inexact."""
    sure = np.ones(similarities[0].shape, dtype=bool)
    possible = sure.copy()
    for view, similarity, floor in zip(views, similarities, floors, strict=True):
        sure &= similarity >= floor + view.error
        possible &= similarity >= floor - view.error
    return sure, possible


def row_blocks(n: int) -> Iterator[slice]:
    """Split n rows into consecutive blocks whose similarities to all n rows fit in memory."""
    step = max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // max(1, n)))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def candidates(sure: Floats, possible: Floats, count: int, slack: float) -> tuple[Index, Index]:
    """Candidate pairs that certainly include the `count` best pairs of each row.

    Args:
        sure: similarities [rows, n] of the pairs that certainly qualify, -inf elsewhere.
        possible: similarities of the pairs that possibly qualify; a superset of `sure`.
        count: number of pairs requested per row.
        slack: largest difference of two similarities whose order is uncertain.

    Returns:
        Rows and columns of the pairs, by row.
    """
    n = sure.shape[1]
    groups = min(n, max(GROUPS, 8 * count))
    largest = group_maxima(sure, groups)
    cut = np.full(len(sure), -np.inf, dtype=np.float32)
    if count <= groups:
        # At least `count` pairs reach the count-th largest of the groups' maxima, so pairs below it cannot be chosen.
        cut = np.partition(largest, groups - count, axis=1)[:, groups - count] - np.float32(slack)
    reaching = largest if possible is sure else group_maxima(possible, groups)
    rows, group = np.nonzero((reaching >= cut[:, None]) & (reaching > -np.inf))
    columns = group[:, None] + groups * np.arange(-(-n // groups))
    inside = columns < n
    values = possible[rows[:, None], np.minimum(columns, n - 1)]
    kept = inside & (values >= cut[rows, None]) & (values > -np.inf)
    return np.broadcast_to(rows[:, None], columns.shape)[kept], columns[kept]


def group_maxima(values: Floats, groups: int) -> Floats:
    """Maximum of each row in each group, [rows, groups]; column c is in group c modulo `groups`."""
    rows, n = values.shape
    whole = n // groups * groups
    maxima: Floats = values[:, :whole].reshape(rows, -1, groups).max(axis=1)
    rest = values[:, whole:]
    np.maximum(maxima[:, : rest.shape[1]], rest, out=maxima[:, : rest.shape[1]])
    return maxima


def drop_excess_duplicates(
    rows: Index, columns: Index, classes: Index | None, count: int, sure: Mask | None = None
) -> tuple[Index, Index]:
    """Keep only the first `count` of a row's candidates that are equal to each other: no later one can be chosen.

    Args:
        rows: row of each pair.
        columns: column of each pair.
        classes: class of each item, the same for equal items; None if all items differ.
        count: number of pairs requested per row.
        sure: mask [rows, n] of the pairs that count, as others may not qualify; None if all do.
    """
    if classes is None:
        return rows, columns
    order = np.lexsort((columns, classes[columns], rows))
    rows, columns = rows[order], columns[order]
    same = (rows[1:] == rows[:-1]) & (classes[columns[1:]] == classes[columns[:-1]])
    start = np.concatenate([[0], np.flatnonzero(~same) + 1]) if len(rows) else np.zeros(0, dtype=np.int64)
    counted = np.ones(len(rows), dtype=np.int64) if sure is None else sure[rows, columns].astype(np.int64)
    before = np.cumsum(counted) - counted
    kept = before - np.repeat(before[start], np.diff(np.append(start, len(rows)))) < count
    return rows[kept], columns[kept]


def top_edges(rows: Index, columns: Index, weight: Floats, k: int) -> Neighbours:
    """The k best pairs of each row; ties are broken by the smaller column."""
    order = np.lexsort((columns, -weight, rows))
    rows, columns, weight = rows[order], columns[order], weight[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept, first_out = rank < k, np.flatnonzero(rank == k)
    edges = Edges(rows[kept].astype(np.int32), columns[kept].astype(np.int32), weight[kept])
    return Neighbours(edges, len(first_out), int((weight[first_out] == weight[first_out - 1]).sum()))


def join(blocks: Sequence[Neighbours]) -> Neighbours:
    """Concatenate the neighbours of consecutive blocks of rows."""
    none = Edges(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
    edges = [none, *(block.edges for block in blocks)]
    return Neighbours(
        Edges(*(np.concatenate([getattr(each, name) for each in edges]) for name in ("source", "target", "weight"))),
        sum(block.cut for block in blocks),
        sum(block.tied for block in blocks),
    )
