"""Graph `cooccurrence`: items joined by their common users (DA-MRS's behaviour graph)."""

from typing import Any

from scipy.sparse import csr_array

from mmprep.pipeline.graphs.cooccurrence import cooccurrence_graph
from mmprep.pipeline.graphs.params import CooccurrenceParams
from mmprep.pipeline.graphs.statistics import share
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest
from mmprep.stages.graphs.train_interactions import split_files, train_of


def build(request: GraphRequest) -> dict[str, Any]:
    """Join items by their common users."""
    return build_cooccurrence_graph(train_of(request.layout), request.params.cooccurrence, request)


def build_cooccurrence_graph(
    interactions: csr_array, params: CooccurrenceParams, request: GraphRequest
) -> dict[str, Any]:
    """Join the columns of a binary matrix by their common rows."""
    graph = cooccurrence_graph(interactions, params, request.progress)
    metrics = {
        "cut": graph.cut,
        "tied_share": share(graph.tied, graph.cut),
        "left_out": graph.left_out,
        "left_out_interactions": graph.left_out_interactions,
    }
    n = int(interactions.shape[1])
    return BuiltGraph({"": (graph.edges, (n, n))}, params, split_files(request.layout), metrics).write(request)
