"""Graph `mixed`: the modalities' nearest neighbours, weighted, normalised and summed (FREEDOM)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from mmprep.pipeline.graphs.edges import normalised, strongest_first, weighted
from mmprep.pipeline.graphs.reader import read_raw
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest


def build(request: GraphRequest) -> dict[str, Any]:
    """Weight, normalise and sum the modalities' nearest-neighbour graphs (FREEDOM)."""
    params, layout, encoders = request.params.mixed, request.layout, request.modalities()
    names = {modality: f"knn/{encoder}" for modality, encoder in encoders.items()}
    raw = {modality: read_raw(layout, name) for modality, name in names.items()}
    per_modality = {
        modality: normalised(weighted(matrix, params.weight), params.normalise) for modality, matrix in raw.items()
    }
    shares = shares_of(tuple(per_modality), params.image_weight)
    parts = [matrix * np.float32(shares[modality]) for modality, matrix in per_modality.items()]
    total = csr_array(sum(parts[1:], start=parts[0]))
    return BuiltGraph(
        {"": (strongest_first(total), total.shape)}, params, [layout.graph(name) for name in names.values()]
    ).write(request)


def shares_of(names: Sequence[str], image_weight: float) -> dict[str, float]:
    """Weight of each modality's graph in `mixed`: `image_weight` for the image, equal parts of the rest for the others.

    With only images or only others, the weights still sum to 1.
    """
    others = [name for name in names if name != "image"]
    if len(others) in (0, len(names)):
        return dict.fromkeys(names, 1 / len(names))
    return {"image": image_weight, **dict.fromkeys(others, (1 - image_weight) / len(others))}
