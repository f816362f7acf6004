"""Stage `graph`: item graphs from features (nearest neighbours) and from train interactions (co-occurrence)."""

from typing import Any

import numpy as np

from pipeline.errors import ParamsError
from pipeline.features import features_of, part_paths
from pipeline.files import write_json
from pipeline.graph_params import GraphsParams
from pipeline.graphs import Edges, cooccurrence
from pipeline.layout import Layout
from pipeline.matrices import read_splits
from pipeline.neighbors import knn_edges
from pipeline.params import Params
from pipeline.progress import Progress, silent
from pipeline.provenance import record
from pipeline.tables import EDGES, ITEMS

COOCCURRENCE = "cooccurrence"
KNN_PREFIX = "knn_"


def graph_names(encoders: tuple[str, ...]) -> list[str]:
    """The graphs that are built: nearest neighbours for each encoder's features, and co-occurrence."""
    return [*(f"{KNN_PREFIX}{encoder}" for encoder in encoders), COOCCURRENCE]


def run(name: str, params: GraphsParams, layout: Layout, progress: Progress = silent) -> dict[str, Any]:
    """Build one graph, `knn_ENCODER` or `cooccurrence`, and write its edges.

    Raises:
        ParamsError: there is no such graph.
        MissingInputError: the features or the split interactions are not there.
        DataError: the features are of another dataset, or k is too large.
    """
    if name == COOCCURRENCE:
        section: Params = params.cooccurrence
        inputs = [layout.interactions, layout.users, layout.items]
        train = read_splits(layout).train
        n_items = int(train.shape[1])
        edges = cooccurrence(train, params.cooccurrence.min_count, params.cooccurrence.k)
    elif name.startswith(KNN_PREFIX):
        section = params.knn
        encoder = name.removeprefix(KNN_PREFIX)
        inputs = [*part_paths(layout.features(encoder)), layout.items]
        features = features_of(layout, encoder)
        n_items = ITEMS.count(layout.items)
        features.require_items_below(n_items)
        edges = knn_edges(features, params.knn.k, include_self=params.knn.include_self, progress=progress)
    else:
        raise ParamsError(f"graph: found {name!r}, expected {COOCCURRENCE} or {KNN_PREFIX}ENCODER")
    EDGES.write(edges.to_frame(), layout.graph(name), record("graph", layout, section, inputs, ("torch",)))
    metrics = summarise(edges, n_items)
    write_json(layout.metrics(f"graph-{name}"), metrics)
    return metrics


def summarise(edges: Edges, n_items: int) -> dict[str, Any]:
    """The stage's metrics."""
    others = edges.source != edges.target
    degree = np.bincount(edges.source[others], minlength=n_items)
    return {
        "edges": len(edges),
        "mean_neighbours": float(degree.mean()),
        "items_without_neighbours": int((degree == 0).sum()),
        "mean_weight": float(edges.weight.mean(dtype=np.float64)) if len(edges) else 0.0,
    }
