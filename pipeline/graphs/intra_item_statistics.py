"""Summary statistics of intra-item graphs, accumulated block by block."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mmprep.pipeline.features.vectors import Items, VectorBatch
from mmprep.pipeline.graphs.statistics import QUANTILES, share

Counts = npt.NDArray[np.int64]


class Tally:
    """Counts neighbours without keeping the edges."""

    def __init__(self) -> None:
        self._items = self._vectors = self._edges = 0
        self._weight = 0.0
        self._neighbours = self._chosen = np.zeros(1, dtype=np.int64)  # number of vectors with 0, 1, ... of them

    def add(self, items: Items, rows: VectorBatch, edges: pl.DataFrame) -> None:
        """Add a block of items.

        Args:
            items: dense indices [n], increasing.
            rows: their vectors.
            edges: their edges.
        """
        first = rows.offsets()[np.searchsorted(items, edges["item"].to_numpy())]
        total = len(rows.vectors)
        neighbours, chosen = (
            np.bincount(np.bincount(first + edges[end].to_numpy(), minlength=total)) for end in ("source", "target")
        )
        self._neighbours, self._chosen = summed(self._neighbours, neighbours), summed(self._chosen, chosen)
        self._items += len(items)
        self._vectors += total
        self._edges += len(edges)
        self._weight += float(edges["weight"].to_numpy().sum(dtype=np.float64))

    def metrics(self, n_items: int) -> dict[str, Any]:
        """Numbers of items, edges, and neighbours per vector, with the keys of mmprep.pipeline.graphs.statistics.

        Args:
            n_items: number of items of the dataset.
        """
        return {
            "items": self._items,
            "items_without_vectors": n_items - self._items,
            "vectors": self._vectors,
            "edges": self._edges,
            "mean_neighbours": share(self._edges, self._vectors),
            "without_neighbours": int(self._neighbours[0]),
            "share_without_neighbours": share(int(self._neighbours[0]), self._vectors),
            "mean_weight": self._weight / max(1, self._edges),
            **quantiles("neighbours", self._neighbours),
            **quantiles("chosen", self._chosen),
        }


def summed(left: Counts, right: Counts) -> Counts:
    """Sum of two histograms, as long as the longer."""
    total = np.zeros(max(len(left), len(right)), dtype=np.int64)
    total[: len(left)] += left
    total[: len(right)] += right
    return total


def quantiles(name: str, histogram: Counts) -> dict[str, int]:
    """Minimum, quartiles and maximum of a histogram, as `NAME_p25` and so on, without interpolation.

    Args:
        name: name of the counted quantity.
        histogram: number of vectors with 0, 1, ... of it.
    """
    cumulated = np.cumsum(histogram)
    ranks = np.maximum(1, np.ceil(np.array(QUANTILES) / 100 * cumulated[-1]))
    return {f"{name}_p{p}": int(np.searchsorted(cumulated, rank)) for p, rank in zip(QUANTILES, ranks, strict=True)}
