"""Graph `consistent/MODALITY`: nearest items on which all modalities agree (DA-MRS)."""

from typing import Any

from mmprep.pipeline.graphs.cosine import Cosines
from mmprep.pipeline.graphs.knn import consistent
from mmprep.stages.graphs.item_features import ties, usable_features, zeros_elsewhere
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest


def build(request: GraphRequest) -> dict[str, Any]:
    """Build, for each modality, the nearest neighbours on which all modalities agree (DA-MRS)."""
    params, layout, encoders = request.params.consistent, request.layout, request.modalities()
    views, inputs, n_items = [], [layout.items], 0
    for encoder in encoders.values():
        features, n_items, files = usable_features(layout, encoder)
        complete = features if len(features.items) == n_items else zeros_elsewhere(features, n_items)
        views.append(Cosines.of(complete.vectors, complete.items, layout.features(encoder)))
        inputs += files
    neighbours = dict(zip(encoders, consistent(views, params.k, request.progress), strict=True))
    metrics = {f"{modality}_mean_similarity": view.mean for modality, view in zip(encoders, views, strict=True)}
    for modality, each in neighbours.items():
        metrics |= {f"{modality}_{key}": value for key, value in ties(each).items()}
    parts = {modality: (each.edges, (n_items, n_items)) for modality, each in neighbours.items()}
    return BuiltGraph(parts, params, inputs, metrics).write(request)
