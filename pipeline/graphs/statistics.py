"""Summary statistics of a graph."""

from typing import Any

import numpy as np

from mmprep.pipeline.graphs.edges import Edges

QUANTILES = (0, 25, 50, 75, 100)


def summarise(edges: Edges, n_sources: int, n_targets: int | None = None) -> dict[str, Any]:
    """Count edges, neighbours per node and nodes without neighbours; self-loops do not count as neighbours.

    `neighbours_p50` is the median out-degree, `chosen_p50` the median in-degree; high in-degrees show hubs.

    Args:
        edges: edges of the graph.
        n_sources: number of source nodes.
        n_targets: number of target nodes if they are other nodes than the sources.
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
    """Minimum, quartiles and maximum, as `NAME_p25` and so on."""
    values = np.percentile(counts, QUANTILES) if len(counts) else np.zeros(len(QUANTILES))
    return {f"{name}_p{percent}": float(value) for percent, value in zip(QUANTILES, values, strict=True)}


def share(part: int, whole: int) -> float:
    """The share of a part in a whole; 0 if the whole is 0."""
    return part / whole if whole else 0.0
