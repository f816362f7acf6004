"""Pseudo-tokens: pieces of an item's single vector in place of patches or tokens, for trying recommenders.

Source: docs/papers/mdr_chca.md#inputs.
"""

from collections.abc import Sequence

import numpy as np

from mmprep.pipeline.errors import DataError
from mmprep.pipeline.features.reader import FeatureSet
from mmprep.pipeline.features.token_reader import TokenFeatures
from mmprep.pipeline.features.vectors import Items, VectorBatch


class PseudoTokens:
    """The vectors of a feature folder with one per item, cut into pieces that have no meaning by themselves.

    Attributes:
        items: dense indices [n], increasing.
        provenance: of the vectors.
        width: length of a piece.
    """

    def __init__(self, feature_set: FeatureSet) -> None:
        """Read all vectors.

        Raises:
            DataError: a part is damaged, or holds patches or tokens, or vectors that cannot be cut evenly.
        """
        features = feature_set.vectors()
        self.items, self.provenance = features.items, features.provenance
        self._vectors = features.vectors
        try:
            self.width = piece_width(features.vectors.shape[1])
        except DataError as error:
            raise DataError(f"{feature_set.folder}: {error}") from error

    def gather(self, items: Sequence[int] | Items) -> VectorBatch:
        """The pieces of items' vectors, in the given order; each item must have a vector."""
        vectors = self._vectors[np.searchsorted(self.items, np.asarray(items))]
        pieces = vectors.shape[1] // self.width
        return VectorBatch(vectors.reshape(-1, self.width), np.full(len(vectors), pieces, dtype=np.int64))


def piece_width(dimension: int) -> int:
    """The smallest power of two that is at least the root of a dimension, which it must divide: 64 of 4096, 32 of 384.

    Raises:
        DataError: it does not divide the dimension, or equals it.
    """
    width = 1
    while width**2 < dimension:
        width *= 2
    if dimension % width or width == dimension:
        raise DataError(f"found vectors of {dimension} numbers, which cannot be cut into pieces of {width}")
    return width


def token_vectors(features: FeatureSet, *, pseudo_tokens: bool) -> TokenFeatures | PseudoTokens:
    """Open the patches or tokens of a feature folder.

    Args:
        features: the folder.
        pseudo_tokens: whether to cut vectors into pieces if the folder has one per item.

    Raises:
        DataError: the features cannot be read or used.
    """
    return PseudoTokens(features) if pseudo_tokens and features.form == "vector" else TokenFeatures(features)
