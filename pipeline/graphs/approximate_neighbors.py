"""Nearest neighbours among more items than can be compared with each other: candidates by FAISS, compared exactly."""

from dataclasses import replace

import numpy as np

from mmprep.pipeline.graphs import hnsw as approximate
from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.knn import Neighbours, join, require_enough, strongest
from mmprep.pipeline.progress import Progress, silent

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
    among = approximate.candidates(some.unit, k + 1, progress)
    found = []
    for start in range(0, len(some), BLOCK_ROWS):
        near = among[start : start + BLOCK_ROWS]
        own = np.arange(start, start + len(near))[:, None]
        others = np.where(near == own, -1, near)
        columns = np.hstack([own, others]) if include_self else others
        rows, columns = np.broadcast_to(own, columns.shape)[columns >= 0], columns[columns >= 0]
        found.append(strongest(rows, columns, some.exact(rows, columns), k))
    joined = join(found)
    recall = approximate.sampled_recall(joined.edges, some.unit, k, include_self=include_self)
    return replace(joined, edges=joined.edges.renumbered(there)), recall
