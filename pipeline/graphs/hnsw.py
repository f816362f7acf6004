"""Candidates for nearest neighbours among more items than can be compared with each other, by FAISS.

A navigable small-world graph (HNSW; Malkov and Yashunin, 2018) over vectors of a byte a number. Whoever asks compares
the candidates exactly, so that the bytes' rounding costs candidates at most, never a wrong order.
"""

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from mmprep.pipeline.errors import ParamsError
from mmprep.pipeline.graphs.cosine import Cosines, equal_rows
from mmprep.pipeline.graphs.edges import Edges
from mmprep.pipeline.graphs.knn import Neighbours, join, require_enough, top_edges
from mmprep.pipeline.progress import Progress, silent

LINKS = 24  # of a row on each level of the graph, twice as many on the lowest
BUILD_BREADTH = 80  # rows kept in view while a row is linked
SEARCH_BREADTH = 64  # and at least so many while its neighbours are searched
BREADTH_AT_A_MILLION = 256  # rows; of others it grows with the root of their number
SURPLUS = 2  # candidates for one that is asked for, as bytes order them only about right
TRAINING_ROWS = 20_000  # measured for the range of each number
CHUNK_ROWS = 16_384  # between reports of progress; another size gives other links
TIE = 1e-6  # similarities that differ by less are equal

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


def require_faiss() -> ModuleType:
    """The library.

    Raises:
        ParamsError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise ParamsError(
            "graphs.knn.exact_up_to: more items than that, and FAISS, which searches them approximately, is not "
            "installed; run `pip install -c constraints.txt 'mmprep[faiss]'` or raise graphs.knn.exact_up_to"
        ) from error
    return faiss


def candidates(rows: Floats, k: int, progress: Progress = silent) -> Index:
    """Rows among which the k most similar to each row probably are.

    The same rows give the same candidates, whatever the number of threads. Rows that are equal are candidates of each
    other, those of smaller index first; FAISS gets them once, as many equal ones would be linked to nobody else.

    Args:
        rows: [n, d] of length 1, contiguous.
        k: how many are asked for.
        progress: shown a row, equal ones once, twice: when it is indexed and when its neighbours are searched.

    Returns:
        Indices [n, SURPLUS * k], -1 where no more were found; a row may be among its own.

    Raises:
        ParamsError: FAISS is not installed.
    """
    faiss = require_faiss()
    different, classes = equal_rows(rows)
    index = built(faiss, rows, different, progress)
    index.hnsw.efSearch = max(SEARCH_BREADTH, SURPLUS * k, round(BREADTH_AT_A_MILLION * (len(different) / 1e6) ** 0.5))
    near = searched(index, rows, different, SURPLUS * k, progress)
    return with_equals(near, classes)


def built(faiss: ModuleType, rows: Floats, chosen: Index, progress: Progress) -> Any:  # noqa: ANN401 (FAISS has no types)
    """The index of some rows, which since FAISS 1.15 does not depend on the number of threads."""
    index = faiss.IndexHNSWSQ(rows.shape[1], faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_BREADTH
    with progress("indexing vectors", len(chosen), "items") as advance:
        index.train(rows[chosen[:: -(-len(chosen) // TRAINING_ROWS)]])
        for start in range(0, len(chosen), CHUNK_ROWS):
            chunk = chosen[start : start + CHUNK_ROWS]
            index.add(rows[chunk])
            advance(len(chunk), "")
    return index


def searched(index: Any, rows: Floats, chosen: Index, width: int, progress: Progress) -> Index:  # noqa: ANN401
    """For some rows the nearest of them that the index finds, in the numbers of `chosen`, -1 for none, [m, width]."""
    near = np.empty((len(chosen), width), dtype=np.int64)
    with progress("searching neighbours", len(chosen), "items") as advance:
        for start in range(0, len(chosen), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            near[chunk] = index.search(rows[chosen[chunk]], width)[1]
            advance(len(near[chunk]), "")
    return near


def with_equals(near: Index, classes: Index) -> Index:
    """For all rows what was found for those that differ, each one's own equals first.

    Args:
        near: [m, width] of the rows that differ.
        classes: which of those each row equals, [n].
    """
    order = np.argsort(classes, kind="stable")
    ends = np.searchsorted(classes, np.arange(len(near) + 1), sorter=order)
    found = np.empty((len(classes), near.shape[1]), dtype=np.int64)
    for start in range(0, len(near), CHUNK_ROWS):
        some = near[start : start + CHUNK_ROWS]
        own = np.arange(start, start + len(some))
        some = np.hstack([own[:, None], np.where(some == own[:, None], -1, some)])
        members = order[ends[own[0]] : ends[own[-1] + 1]]
        found[members] = expanded(some, order, ends, near.shape[1])[classes[members] - start]
    return found


def expanded(near: Index, order: Index, ends: Index, width: int) -> Index:
    """Put in place of each of the different rows all that are equal to it.

    Args:
        near: [m, any] of the different rows, the nearest first, -1 for none.
        order: all rows, by which of the different ones they equal.
        ends: where in `order` those of each of the different rows begin, and after the last where they end.
        width: how many of a row are kept.

    Returns:
        Indices of rows [m, width], -1 where there are no more.
    """
    count = np.where(near < 0, 0, np.minimum(ends[near + 1] - ends[near], width))
    total = np.cumsum(count, axis=1)
    before = total - count  # equal rows of nearer ones
    pick = np.repeat(np.arange(count.size), count.ravel())
    row = pick // near.shape[1]
    place = np.arange(len(pick)) - np.repeat(np.cumsum(total[:, -1]) - total[:, -1], total[:, -1])
    equal = order[ends[near.ravel()[pick]] + place - before.ravel()[pick]]
    kept = place < width
    found = np.full((len(near), width), -1, dtype=np.int64)
    found[row[kept], place[kept]] = equal[kept]
    return found


def sampled_recall(
    edges: Edges, rows: Floats, k: int, *, include_self: bool, sample: int = 1000, seed: int = 0
) -> float:
    """Which share of the k nearest neighbours was found, for some rows compared with all.

    A neighbour that is as similar as the k-th nearest is one of the nearest.

    Args:
        edges: neighbours found, by source.
        rows: [n, d] of length 1.
        k: neighbours a row.
        include_self: whether a row may be its own neighbour.
        sample: how many rows are looked at.
        seed: of their choice.
    """
    n = len(rows)
    chosen = np.sort(np.random.default_rng(seed).choice(n, min(sample, n), replace=False))
    right = 0
    for some in np.array_split(chosen, -(-len(chosen) // 64)):
        similarity = rows[some] @ rows.T
        if not include_self:
            similarity[np.arange(len(some)), some] = -np.inf
        least = np.partition(similarity, n - k, axis=1)[:, n - k] - TIE
        for own, row, cut in zip(some, similarity, least, strict=True):
            first, last = np.searchsorted(edges.source, [own, own + 1])
            right += min(k, int((row[np.unique(edges.target[first:last])] >= cut).sum()))
    return right / (len(chosen) * k)


BLOCK_ROWS = 8192  # whose candidates are compared at once


def nearest_among(
    cosines: Cosines, k: int, *, include_self: bool, progress: Progress = silent
) -> tuple[Neighbours, float]:
    """About the k items most similar to each; arguments are those of mmprep.pipeline.graphs.knn.nearest.

    FAISS finds candidates (mmprep.pipeline.graphs.hnsw); their similarities, and which of them are kept, are exact.

    Returns:
        The neighbours, and the recall: which share of the true ones is among them, measured on a sample of items.

    Raises:
        DataError: k is larger than the number of items that could be neighbours.
        ParamsError: FAISS is not installed.
    """
    require_enough(cosines, k, include_self=include_self)
    there = np.flatnonzero(cosines.inverse)
    some = cosines if len(there) == len(cosines) else cosines.take(there)
    among = candidates(some.unit, k + 1, progress)
    found = []
    for start in range(0, len(some), BLOCK_ROWS):
        near = among[start : start + BLOCK_ROWS]
        own = np.arange(start, start + len(near))[:, None]
        others = np.where(near == own, -1, near)
        columns = np.hstack([own, others]) if include_self else others
        rows, columns = np.broadcast_to(own, columns.shape)[columns >= 0], columns[columns >= 0]
        found.append(top_edges(rows, columns, some.exact(rows, columns), k))
    joined = join(found)
    recall = sampled_recall(joined.edges, some.unit, k, include_self=include_self)
    return replace(joined, edges=joined.edges.renumbered(there)), recall
