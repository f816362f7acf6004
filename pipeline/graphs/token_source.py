"""Patches or tokens of an encoder with their graph, before any vector is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmprep.pipeline.features.vectors import Items, VectorBatch
from mmprep.pipeline.graphs.intra_item_reader import IntraItemEdges


class Vectors(Protocol):
    """What gives the vectors of some items, as mmprep.pipeline.features.token_reader.TokenFeatures does."""

    items: Items

    def gather(self, items: Sequence[int] | Items) -> VectorBatch:
        """The vectors of some items, in the order asked for."""
        ...


@dataclass(frozen=True)
class TokenSource:
    """An encoder's patches or tokens and their graph; of the vectors nothing is read yet.

    Attributes:
        vectors: of the items that have any.
        edges: the neighbours among an item's vectors, frozen.
        memory: bytes up to which a store holds the vectors in memory.
        scratch: the folder in which it puts them on the disk else.
        is_pseudo: whether they are pieces of one vector an item, in the place of patches or tokens.
    """

    vectors: Vectors
    edges: IntraItemEdges
    memory: int
    scratch: Path
    is_pseudo: bool = False
