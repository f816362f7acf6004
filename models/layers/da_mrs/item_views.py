"""Views of items: embeddings propagated over each modality's graph and the behaviour graph."""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array
from torch import Tensor, nn

from mmprep.models.layers.propagation import SparseOperator
from mmprep.pipeline.graphs.edges import keep_strongest, normalised, weighted
from mmprep.pipeline.graphs.params import Weight


class ItemViews(nn.Module):
    """Items' embeddings, propagated over several graphs; only the last hop is used.

    Source: docs/papers/da_mrs.md#item-views.
    """

    def __init__(self, graphs: Mapping[str, csr_array], layers: int) -> None:
        """Take the graphs and the number of hops.

        Args:
            graphs: normalised, [n_items, n_items] each, by name.
            layers: number of hops over each graph.
        """
        super().__init__()
        self.graphs = nn.ModuleDict({name: SparseOperator(graph) for name, graph in graphs.items()})
        self.layers = layers

    def forward(self, items: Tensor) -> list[Tensor]:
        """The views of items [n_items, d], [n_items, d] each, in the order of the graphs."""
        views = []
        for graph in self.graphs.values():
            view = items
            for _ in range(self.layers):
                view = graph(view)
            views.append(view)
        return views


def content_graph(neighbours: csr_array) -> csr_array:
    """A modality's normalised binary graph, with a self loop for items without neighbours.

    Source: docs/papers/da_mrs.md#content-graphs.

    Args:
        neighbours: each item's nearest neighbours, including itself, [n_items, n_items].
    """
    binary = weighted(neighbours, "binary")
    isolated = (np.diff(neighbours.indptr) == 0).astype(binary.dtype)
    return normalised(csr_array(binary + diags_array(isolated)), "sym_out")


def behaviour_graph(cooccurrence: csr_array, weight: Weight, k: int | None = None) -> csr_array:
    """The normalised item co-occurrence graph with self loops.

    Source: docs/papers/da_mrs.md#behaviour-graph.

    Args:
        cooccurrence: numbers of common users, without self loops, [n_items, n_items].
        weight: `cosine` keeps the counts, as in the paper; `binary` replaces them by 1, as in the authors' code.
        k: number of neighbours kept per item, those with most common users, of which ties go to the smaller index as in
            graph `cooccurrence`; None keeps all.
    """
    if k is not None:
        cooccurrence = keep_strongest(cooccurrence, k).to_matrix(cooccurrence.shape[0])
    loops = eye_array(cooccurrence.shape[0], dtype=cooccurrence.dtype)
    return normalised(csr_array(weighted(cooccurrence, weight) + loops), "sym_out")
