"""Source of an encoder's patches or tokens and their graph, opened without reading vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmprep.pipeline.features.vectors import Items, VectorBatch
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges


class Vectors(Protocol):
    """Reader of items' vectors, such as mmprep.pipeline.features.token_reader.TokenFeatures."""

    items: Items

    def gather(self, items: Sequence[int] | Items) -> VectorBatch:
        """The vectors of items, in the given order."""
        ...


@dataclass(frozen=True)
class TokenSource:
    """An encoder's patches or tokens and their graph; no vector is read yet.

    Attributes:
        vectors: reader of the items' vectors.
        edges: the neighbours among each item's vectors, frozen.
        memory: maximum number of bytes for vectors that a store keeps in memory.
        scratch: folder for the store's file if the vectors take more.
        is_pseudo: whether they are pieces of one vector per item in place of patches or tokens.
    """

    vectors: Vectors
    edges: IntraItemEdges
    memory: int
    scratch: Path
    is_pseudo: bool = False
