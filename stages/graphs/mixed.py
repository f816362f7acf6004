"""Graph `mixed`: the modalities' nearest neighbours, weighted, normalised and summed (FREEDOM)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from mmprep.pipeline.graphs.edges import normalised, strongest_first, weighted
from mmprep.pipeline.graphs.reader import read_raw
from mmprep.stages.graphs.request import BuiltGraph, GraphRequest


def build(request: GraphRequest) -> dict[str, Any]:
    """The modalities' nearest neighbours, weighted, normalised and summed (FREEDOM)."""
    params, layout, encoders = request.params.mixed, request.layout, request.modalities()
    names = {modality: f"knn/{encoder}" for modality, encoder in encoders.items()}
    raw = {modality: read_raw(layout, name) for modality, name in names.items()}
    alone = {
        modality: normalised(weighted(matrix, params.weight), params.normalise) for modality, matrix in raw.items()
    }
    shares = shares_of(tuple(alone), params.image_weight)
    parts = [matrix * np.float32(shares[modality]) for modality, matrix in alone.items()]
    total = csr_array(sum(parts[1:], start=parts[0]))
    return BuiltGraph(
        {"": (strongest_first(total), total.shape)}, params, [layout.graph(name) for name in names.values()]
    ).write(request)


def shares_of(names: Sequence[str], image_weight: float) -> dict[str, float]:
    """What each modality's graph counts in `mixed`: the image graph `image_weight`, the others the rest in equal parts.

    Without one side, the other has all.
    """
    others = [name for name in names if name != "image"]
    if len(others) in (0, len(names)):
        return dict.fromkeys(names, 1 / len(names))
    return {"image": image_weight, **dict.fromkeys(others, (1 - image_weight) / len(others))}
