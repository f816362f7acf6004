"""Graph `interaction/NORMALISATION`: the user-item graph in three normalisations."""

from typing import Any

from mmprep.pipeline.graphs.edges import interaction_graphs, strongest_first
from mmprep.pipeline.params import Params
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest
from mmprep.stages.graphs.train_interactions import split_files, train_of


def build(request: GraphRequest) -> dict[str, Any]:
    """Build the user-item graph of the train interactions in three normalisations."""
    graphs = interaction_graphs(train_of(request.layout))
    parts = {name: (strongest_first(matrix), matrix.shape) for name, matrix in graphs.items()}
    return BuiltGraph(parts, Params(), split_files(request.layout)).write(request)
