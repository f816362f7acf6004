"""Approximate nearest neighbours with FAISS, for too many items to compare all pairs.

A hierarchical navigable small-world graph (HNSW; Malkov and Yashunin, 2018) over vectors quantised to 8 bits finds
candidates, which are then compared exactly, so that quantisation may lose candidates but never changes their order.
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

LINKS = 24  # M: links of a row on each level of the graph, twice as many on the lowest
BUILD_BREADTH = 80  # efConstruction: candidate list while a row is linked
SEARCH_BREADTH = 64  # efSearch: least candidate list while neighbours are searched
BREADTH_AT_A_MILLION = 256  # efSearch for a million rows; it grows with the root of their number
SURPLUS = 2  # candidates per requested neighbour, as quantised vectors order them only approximately
TRAINING_ROWS = 20_000  # sampled for the quantiser's value ranges
CHUNK_ROWS = 16_384  # between progress reports; another size gives other links
TIE = 1e-6  # similarities that differ by less count as equal

Floats = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]


def require_faiss() -> ModuleType:
    """Import FAISS.

    Raises:
        ParamsError: FAISS is not installed.
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
    """Candidates that probably include the k rows most similar to each row.

    The result does not depend on the number of threads. Equal rows are candidates of each other, smaller indices first;
    FAISS indexes only one of them, as many equal rows would be linked to each other only.

    Args:
        rows: [n, d] of length 1, contiguous.
        k: number of neighbours requested.
        progress: reports each distinct row twice: when it is indexed and when its neighbours are searched.

    Returns:
        Indices [n, SURPLUS * k], -1 if there are fewer; a row may be among its own candidates.

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
    """Build the index of the chosen rows, which since FAISS 1.15 does not depend on the number of threads."""
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
    """Search the chosen rows' neighbours: positions in `chosen`, -1 if there are fewer, [m, width]."""
    near = np.empty((len(chosen), width), dtype=np.int64)
    with progress("searching neighbours", len(chosen), "items") as advance:
        for start in range(0, len(chosen), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            near[chunk] = index.search(rows[chosen[chunk]], width)[1]
            advance(len(near[chunk]), "")
    return near


def with_equals(near: Index, classes: Index) -> Index:
    """Expand the candidates of the distinct rows to all rows, each row's own duplicates first.

    Args:
        near: [m, width] candidates of the distinct rows.
        classes: the distinct row that each row equals, [n].
    """
    order = np.argsort(classes, kind="stable")
    ends = np.searchsorted(classes, np.arange(len(near) + 1), sorter=order)
    result = np.empty((len(classes), near.shape[1]), dtype=np.int64)
    for start in range(0, len(near), CHUNK_ROWS):
        chunk = near[start : start + CHUNK_ROWS]
        own = np.arange(start, start + len(chunk))
        chunk = np.hstack([own[:, None], np.where(chunk == own[:, None], -1, chunk)])
        members = order[ends[own[0]] : ends[own[-1] + 1]]
        result[members] = expanded(chunk, order, ends, near.shape[1])[classes[members] - start]
    return result


def expanded(near: Index, order: Index, ends: Index, width: int) -> Index:
    """Replace each distinct row by all rows equal to it.

    Args:
        near: [m, any] distinct rows, the nearest first, -1 for none.
        order: all rows, sorted by the distinct row that they equal.
        ends: start of each distinct row's duplicates in `order`, and the end of the last.
        width: number of rows to keep for each.

    Returns:
        Indices of rows [m, width], -1 if there are fewer.
    """
    count = np.where(near < 0, 0, np.minimum(ends[near + 1] - ends[near], width))
    total = np.cumsum(count, axis=1)
    before = total - count  # equal rows of nearer ones
    pick = np.repeat(np.arange(count.size), count.ravel())
    row = pick // near.shape[1]
    place = np.arange(len(pick)) - np.repeat(np.cumsum(total[:, -1]) - total[:, -1], total[:, -1])
    equal = order[ends[near.ravel()[pick]] + place - before.ravel()[pick]]
    kept = place < width
    result = np.full((len(near), width), -1, dtype=np.int64)
    result[row[kept], place[kept]] = equal[kept]
    return result


def sampled_recall(
    edges: Edges, rows: Floats, k: int, *, include_self: bool, sample: int = 1000, seed: int = 0
) -> float:
    """Recall of the k nearest neighbours, estimated on a sample of rows by exhaustive search.

    A neighbour as similar as the k-th nearest counts as correct.

    Args:
        edges: approximate neighbours, by source.
        rows: [n, d] of length 1.
        k: neighbours per row.
        include_self: whether a row may be its own neighbour.
        sample: number of rows in the sample.
        seed: random seed of the sample.
    """
    n = len(rows)
    chosen = np.sort(np.random.default_rng(seed).choice(n, min(sample, n), replace=False))
    correct = 0
    for block in np.array_split(chosen, -(-len(chosen) // 64)):
        similarity = rows[block] @ rows.T
        if not include_self:
            similarity[np.arange(len(block)), block] = -np.inf
        least = np.partition(similarity, n - k, axis=1)[:, n - k] - TIE
        for own, row, cut in zip(block, similarity, least, strict=True):
            first, last = np.searchsorted(edges.source, [own, own + 1])
            correct += min(k, int((row[np.unique(edges.target[first:last])] >= cut).sum()))
    return correct / (len(chosen) * k)


BLOCK_ROWS = 8192  # rows whose candidates are compared at once


def nearest_among(
    cosines: Cosines, k: int, *, include_self: bool, progress: Progress = silent
) -> tuple[Neighbours, float]:
    """Approximate k nearest neighbours; arguments are those of mmprep.pipeline.graphs.knn.nearest.

    FAISS finds candidates (`candidates`); their similarities and ranking are exact.

    Returns:
        The neighbours, and the recall: the share of the true neighbours among them, measured on a sample of items.

    Raises:
        DataError: k is larger than the number of items that could be neighbours.
        ParamsError: FAISS is not installed.
    """
    require_enough(cosines, k, include_self=include_self)
    present = np.flatnonzero(cosines.inverse)
    subset = cosines if len(present) == len(cosines) else cosines.take(present)
    among = candidates(subset.unit, k + 1, progress)
    blocks = []
    for start in range(0, len(subset), BLOCK_ROWS):
        near = among[start : start + BLOCK_ROWS]
        own = np.arange(start, start + len(near))[:, None]
        others = np.where(near == own, -1, near)
        columns = np.hstack([own, others]) if include_self else others
        rows, columns = np.broadcast_to(own, columns.shape)[columns >= 0], columns[columns >= 0]
        blocks.append(top_edges(rows, columns, subset.exact(rows, columns), k))
    joined = join(blocks)
    recall = sampled_recall(joined.edges, subset.unit, k, include_self=include_self)
    return replace(joined, edges=joined.edges.renumbered(present)), recall
