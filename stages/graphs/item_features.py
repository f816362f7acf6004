"""Item features as graph builders read them."""

from pathlib import Path

import numpy as np

from mmprep.pipeline.features.reader import Features, FeatureSet
from mmprep.pipeline.graphs.knn import Neighbours
from mmprep.pipeline.graphs.statistics import share
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import ITEMS


def usable_features(layout: Layout, encoder: str) -> tuple[Features, int, list[Path]]:
    """An encoder's vectors, the number of the dataset's items, and the files; raises what reading raises."""
    found, n_items = FeatureSet.of(layout, encoder), ITEMS.count(layout.items)
    features = found.vectors()
    features.require_items_below(n_items)
    return features, n_items, [*found.parts]


def zeros_elsewhere(features: Features, n_items: int) -> Features:
    """The same with a row for every item, zeros for those without a vector, which are similar to nothing."""
    vectors = np.zeros((n_items, features.vectors.shape[1]), dtype=np.float32)
    vectors[features.items] = features.vectors
    return Features(np.arange(n_items, dtype=np.int32), vectors, features.provenance)


def ties(found: Neighbours) -> dict[str, float]:
    """How often the choice of neighbours hung on equal similarities."""
    return {"cut": found.cut, "tied_share": share(found.tied, found.cut)}
