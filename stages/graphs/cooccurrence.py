"""Graph `cooccurrence`: items joined by their common users (DA-MRS's behaviour graph)."""

from typing import Any

from scipy.sparse import csr_array

from mmprep.pipeline.graphs.cooccurrence import cooccurrence_graph
from mmprep.pipeline.graphs.params import CooccurrenceParams
from mmprep.pipeline.graphs.statistics import share
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest
from mmprep.stages.graphs.train_interactions import split_files, train_of


def build(request: GraphRequest) -> dict[str, Any]:
    """Items joined by their common users."""
    return build_cooccurrence_graph(train_of(request.layout), request.params.cooccurrence, request)


def build_cooccurrence_graph(
    interactions: csr_array, params: CooccurrenceParams, request: GraphRequest
) -> dict[str, Any]:
    """The columns of a binary matrix, joined by their common rows."""
    found = cooccurrence_graph(interactions, params, request.progress)
    metrics = {
        "cut": found.cut,
        "tied_share": share(found.tied, found.cut),
        "left_out": found.left_out,
        "left_out_interactions": found.left_out_interactions,
    }
    n = int(interactions.shape[1])
    return BuiltGraph({"": (found.edges, (n, n))}, params, split_files(request.layout), metrics).write(request)
