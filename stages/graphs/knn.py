"""Graph `knn/ENCODER`: nearest items by the cosine similarity of an encoder's vectors (LATTICE)."""

from typing import Any

from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.edges import normalised, strongest_first, weighted
from mmprep.pipeline.graphs.hnsw import nearest_among
from mmprep.pipeline.graphs.knn import nearest
from mmprep.stages.graphs.item_features import ties, usable_features
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest


def build(request: GraphRequest) -> dict[str, Any]:
    """Build the nearest neighbours by the vectors of one encoder."""
    layout, params, encoder = request.layout, request.params.knn, request.name.part
    features, n_items, parts = usable_features(layout, encoder)
    cosines = Cosines.of(features.vectors, features.items, layout.features(encoder))
    metrics: dict[str, Any] = {"mean_similarity": cosines.mean}
    if len(cosines) <= params.exact_up_to:
        neighbours = nearest(cosines, params.k, include_self=params.include_self, progress=request.progress)
        libraries: tuple[str, ...] = ()
    else:
        neighbours, metrics["recall"] = nearest_among(
            cosines, params.k, include_self=params.include_self, progress=request.progress
        )
        libraries = ("faiss-cpu",)
    edges = neighbours.edges.renumbered(features.items)
    if (params.weight, params.normalise) != ("cosine", "none"):
        matrix = weighted(edges.to_matrix(n_items), params.weight)
        edges = strongest_first(normalised(matrix, params.normalise))
    inputs = [*parts, layout.items]
    return BuiltGraph({"": (edges, (n_items, n_items))}, params, inputs, metrics | ties(neighbours), libraries).write(
        request
    )
