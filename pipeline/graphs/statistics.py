"""What a graph is like, in a few numbers."""

from typing import Any

import numpy as np

from mmprep.pipeline.graphs.edges import Edges

QUANTILES = (0, 25, 50, 75, 100)


def summarise(edges: Edges, n_sources: int, n_targets: int | None = None) -> dict[str, Any]:
    """Numbers of edges, of neighbours a node and of nodes without any; a node's edge to itself is no neighbour.

    `neighbours_p50` is the median of a node's neighbours, `chosen_p50` that of how many have a node for a neighbour,
    which tells hubs.

    Args:
        edges: of the graph.
        n_sources: how many nodes edges can start from.
        n_targets: how many they can end at, where those are others.
    """
    others = edges.source != edges.target if n_targets is None else np.ones(len(edges), dtype=bool)
    neighbours = np.bincount(edges.source[others], minlength=n_sources)
    chosen = np.bincount(edges.target[others], minlength=n_targets or n_sources)
    return {
        "edges": len(edges),
        "mean_neighbours": float(neighbours.mean()) if len(neighbours) else 0.0,
        "without_neighbours": int((neighbours == 0).sum()),
        "share_without_neighbours": float((neighbours == 0).mean()) if len(neighbours) else 0.0,
        "mean_weight": float(edges.weight.mean(dtype=np.float64)) if len(edges) else 0.0,
        **quantiles("neighbours", neighbours),
        **quantiles("chosen", chosen),
    }


def quantiles(name: str, counts: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, float]:
    """The least, the quartiles and the most, as `NAME_p25` and so on."""
    values = np.percentile(counts, QUANTILES) if len(counts) else np.zeros(len(QUANTILES))
    return {f"{name}_p{percent}": float(value) for percent, value in zip(QUANTILES, values, strict=True)}


def share(part: int, whole: int) -> float:
    """A part of a whole; of nothing, 0."""
    return part / whole if whole else 0.0
