"""Views of items: what an item's neighbours in a graph, one a modality or of behaviour, say of it."""

from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array
from torch import Tensor, nn

from mmprep.models.layers.propagation import SparseOperator
from mmprep.pipeline.graphs.edges import normalised, weighted
from mmprep.pipeline.graphs.params import Weight


class ItemViews(nn.Module):
    """The embeddings of items, propagated over several graphs, the last hop alone.

    Source: docs/papers/da_mrs.md#item-views.
    """

    def __init__(self, graphs: Mapping[str, csr_array], layers: int) -> None:
        """Take the graphs and the number of hops.

        Args:
            graphs: normalised, [n_items, n_items] each, by name.
            layers: hops over each.
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
    """A modality's graph as views need it: all neighbours alike, an item without any its own.

    Source: docs/papers/da_mrs.md#content-graphs.

    Args:
        neighbours: an item's nearest ones, itself among them, [n_items, n_items].
    """
    alike = weighted(neighbours, "binary")
    lonely = (np.diff(neighbours.indptr) == 0).astype(alike.dtype)
    return normalised(csr_array(alike + diags_array(lonely)), "sym_out")


def behaviour_graph(cooccurrence: csr_array, weight: Weight) -> csr_array:
    """The graph of items that have users in common, each item its own neighbour too.

    Source: docs/papers/da_mrs.md#behaviour-graph.

    Args:
        cooccurrence: counts of common users, without self loops, [n_items, n_items].
        weight: `cosine` keeps the counts, as in the paper; `binary` takes 1 for each, as the authors' code.
    """
    loops = eye_array(cooccurrence.shape[0], dtype=cooccurrence.dtype)
    return normalised(csr_array(weighted(cooccurrence, weight) + loops), "sym_out")
