"""Item features as graph builders read them."""

from pathlib import Path

import numpy as np

from mmprep.pipeline.features.reader import Features, FeatureSet
from mmprep.pipeline.graphs.knn import Neighbours
from mmprep.pipeline.graphs.statistics import share
from mmprep.pipeline.layout import Layout
from mmprep.pipeline.tables.schemas import ITEMS


def usable_features(layout: Layout, encoder: str) -> tuple[Features, int, list[Path]]:
    """Read an encoder's vectors; return them, the dataset's number of items, and the files read."""
    feature_set, n_items = FeatureSet.of(layout, encoder), ITEMS.count(layout.items)
    features = feature_set.vectors()
    features.require_items_below(n_items)
    return features, n_items, [*feature_set.parts]


def zeros_elsewhere(features: Features, n_items: int) -> Features:
    """Features with a row for every item; items without a vector get zeros, which are similar to nothing."""
    vectors = np.zeros((n_items, features.vectors.shape[1]), dtype=np.float32)
    vectors[features.items] = features.vectors
    return Features(np.arange(n_items, dtype=np.int32), vectors, features.provenance)


def ties(neighbours: Neighbours) -> dict[str, float]:
    """Metrics of ties: items with more than k candidates, and the share of them with a tie at the cut."""
    return {"cut": neighbours.cut, "tied_share": share(neighbours.tied, neighbours.cut)}
